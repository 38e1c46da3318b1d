//! `${NAME}` in a text value stands for an environment variable; `$${` stands for `${` itself.
//!
//! What a variable holds is not expanded again.

/// Replaces every `${NAME}` by what `variable` holds under that name.
///
/// # Errors
/// A variable is not set, its name is malformed, or a brace is not closed.
pub(crate) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            expanded.push_str(before);
            expanded.push_str("${");
            rest = after;
            continue;
        }
        expanded.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err("`${` is not closed by `}`; write `$${` for the characters themselves".to_owned());
        };
        if !is_name(name) {
            return Err(format!("{name:?} is not the name of an environment variable"));
        }
        let value = variable(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
        expanded.push_str(&value);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_host(text: &str) -> Result<String, String> {
        expand(text, &|name| (name == "HOST").then(|| "${HOST}".to_owned()))
    }

    #[test]
    fn replaces_variables_once_and_keeps_escapes() {
        assert_eq!(with_host("a ${HOST}:1 ${HOST}"), Ok("a ${HOST}:1 ${HOST}".to_owned()));
        assert_eq!(with_host("$${HOST} $5 $"), Ok("${HOST} $5 $".to_owned()));
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(with_host("${NONE}"), Err("the environment variable NONE is not set".to_owned()));
        assert_eq!(with_host("${}"), Err("\"\" is not the name of an environment variable".to_owned()));
        assert_eq!(with_host("${A-B}"), Err("\"A-B\" is not the name of an environment variable".to_owned()));
        assert_eq!(
            with_host("${HOST"),
            Err("`${` is not closed by `}`; write `$${` for the characters themselves".to_owned())
        );
    }
}
