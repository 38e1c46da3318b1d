//! Path templates, HTTP rules, and the paths that they match.

use std::sync::LazyLock;

use bytes::BytesMut;
use http::Method;
use portico::config::Json;
use portico::pb;
use portico::pb::google::api::http_rule::Pattern;
use portico::pb::google::api::{CustomHttpPattern, HttpRule};
use portico::route::{Miss, Router};
use portico::schema::Schema;
use portico::schema::http_rule::{Binding, HttpMethod, Rules};
use portico::schema::template::Template;
use portico::transcode::{Input, Plans, ReplyPlan, RequestPlan};

/// More of them make an input slow without making it another one.
const MAX_LINES: usize = 32;

/// Lines of templates, an empty line, lines of paths. A path that a template matches by itself is matched beside others
/// too, and what is captured lies in the path.
pub fn routes(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    let (templates, paths) = input.split_once("\n\n").unwrap_or((input, ""));
    let get = HttpMethod::Named(Method::GET);
    let mut all = Router::<usize>::builder();
    let mut alone = Vec::new();
    for text in templates.lines().take(MAX_LINES) {
        let Ok(template) = Template::parse(text) else { continue };
        assert_eq!(Template::parse(template.as_str()).as_ref(), Ok(&template));
        let mut one = Router::builder();
        assert!(one.insert(&get, &template, ()).is_ok(), "nothing else is there");
        alone.push((one.build(), template.variables().len()));
        // A conflict leaves the first one, which matches the same.
        let _ = all.insert(&get, &template, template.variables().len());
    }
    let all = all.build();
    for path in paths.lines().take(MAX_LINES) {
        let found = all.find(&Method::GET, path);
        for (one, variables) in &alone {
            let one = one.find(&Method::GET, path);
            let is_bad = matches!(found, Err(Miss::BadPath(_)));
            // Only the verb of another template can uncover a dot segment.
            assert!(is_bad || !matches!(one, Err(Miss::BadPath(_))), "{path} is bad by itself");
            if let Ok(one) = one {
                assert!(found.is_ok() || (is_bad && path.contains(':')), "{path} is matched no more");
                check_captures(&one.captures, *variables, path);
            }
        }
        if let Ok(found) = found {
            check_captures(&found.captures, *found.target, path);
            assert!(all.find(&Method::HEAD, path).is_ok_and(|found| found.head_by_get));
            assert!(matches!(all.find(&Method::OPTIONS, path), Err(Miss::Options(_))));
            assert!(matches!(all.find(&Method::PUT, path), Err(Miss::MethodNotAllowed(_))));
        }
    }
}

fn check_captures(captures: &[portico::route::Capture], variables: usize, path: &str) {
    assert_eq!(captures.len(), variables);
    for capture in captures {
        assert!(path.get(capture.range.clone()).is_some(), "the capture lies in the path");
        if let Ok(text) = capture.decode(path) {
            assert!(!text.contains('\0') && text.len() <= path.len());
        }
    }
}

/// Lines of a rule: selector, method, template, body, response body; then those of additional bindings. What is found
/// sound can be compiled and inserted.
pub fn rules(input: &[u8]) {
    static PLANS: LazyLock<std::sync::Arc<Plans>> = LazyLock::new(|| {
        Plans::new(std::sync::Arc::new(Schema::from_set(pb::DEMO_SET).expect("the demo's set is sound")))
    });
    let Ok(input) = std::str::from_utf8(input) else { return };
    let lines: Vec<&str> = input.lines().take(MAX_LINES).collect();
    let mut parts = lines.chunks(5).map(rule);
    let Some(mut rule) = parts.next() else { return };
    rule.additional_bindings = parts.collect();

    if let Ok(rules) = Rules::new(std::slice::from_ref(&rule)) {
        let _ = rules.of("portico.library.v1.Library/GetBook");
        let _ = rules.idle(std::iter::once("portico.library.v1.Library/GetBook")).count();
    }
    for method in PLANS.schema().services().iter().flat_map(|service| &service.methods) {
        let bindings = Binding::flatten(PLANS.schema(), method, &rule);
        assert_eq!(bindings.sound.len() + bindings.broken.len(), 1 + rule.additional_bindings.len());
        let mut router = Router::<()>::builder();
        for binding in &bindings.sound {
            let _ = router.insert(&binding.method, &binding.template, ());
            let variables: Vec<&str> = binding.template.variables().iter().map(|variable| variable.field()).collect();
            let reply = ReplyPlan::compile(&PLANS, method.output, binding.response_body.as_deref());
            let mut out = BytesMut::new();
            reply
                .expect("the field exists")
                .decode(&[], Json::default(), 1024, &mut out)
                .expect("nothing is a message");
            if let Ok(plan) = RequestPlan::compile(&PLANS, method.input, &variables, &binding.body) {
                let captures = vec!["1".into(); variables.len()];
                let _ = plan.encode(&Input { captures: &captures, ..Input::default() }, Json::default(), &mut out);
            }
        }
        for broken in bindings.broken {
            assert!(!broken.to_string().is_empty());
        }
    }
}

fn rule(lines: &[&str]) -> HttpRule {
    let line = |index: usize| lines.get(index).copied().unwrap_or_default().to_owned();
    let path = line(2);
    let pattern = match &*line(1) {
        "" => None,
        "get" => Some(Pattern::Get(path)),
        "put" => Some(Pattern::Put(path)),
        "post" => Some(Pattern::Post(path)),
        "delete" => Some(Pattern::Delete(path)),
        "patch" => Some(Pattern::Patch(path)),
        kind => Some(Pattern::Custom(CustomHttpPattern { kind: kind.to_owned(), path })),
    };
    HttpRule { selector: line(0), pattern, body: line(3), response_body: line(4), ..HttpRule::default() }
}
