//! Which template takes which path, and what the others answer.

use std::cmp::Reverse;

use proptest::prelude::*;

use super::*;
use crate::route::trie::VISITED;

/// A router whose targets are the rules themselves, such as `GET /v1/{name=**}:read`; `*` is every method.
fn router(rules: &[&'static str]) -> Router<&'static str> {
    let mut builder = Router::builder();
    for rule in rules {
        let (method, template) = parse(rule);
        builder.insert(&method, &template, *rule).unwrap();
    }
    builder.build()
}

fn parse(rule: &str) -> (HttpMethod, Template) {
    let (method, template) = rule.split_once(' ').unwrap();
    let method = if method == "*" { HttpMethod::Any } else { HttpMethod::Named(method.parse().unwrap()) };
    (method, Template::parse(template).unwrap())
}

/// `rule | capture | capture`, or the miss.
fn find(router: &Router<&'static str>, request: &str) -> String {
    let (method, path) = request.split_once(' ').unwrap();
    match router.find(&method.parse().unwrap(), path) {
        Ok(found) => {
            let mut line = (*found.target).to_owned();
            if found.head_by_get {
                line += " (head)";
            }
            for (index, capture) in found.captures.iter().enumerate() {
                assert_eq!(capture.variable, index);
                line += " | ";
                line += &capture.decode(path).map_or_else(|error| error.to_string(), |text| text.into_owned());
            }
            line
        }
        Err(Miss::NotFound) => "404".into(),
        Err(Miss::MethodNotAllowed(allow)) => format!("405 {}", allow.0.to_str().unwrap()),
        Err(Miss::Options(allow)) => format!("204 {}", allow.0.to_str().unwrap()),
        Err(Miss::BadPath(problem)) => format!("400 {problem}"),
    }
}

#[track_caller]
fn check(rules: &[&'static str], requests: &[(&str, &str)]) {
    let mut reversed = rules.to_vec();
    reversed.reverse();
    for router in [router(rules), router(&reversed)] {
        for (request, expected) in requests {
            assert_eq!(find(&router, request), *expected, "{request}");
        }
    }
}

#[test]
fn captures_as_the_specification_says() {
    check(
        &[
            "GET /v1/messages/{message_id}",
            "GET /v1/users/{user_id}/messages/{message_id}",
            "GET /v1/{name=shelves/*/books/*}",
            "GET /v1/files/{path=**}",
            "GET /v1/{name=**/botSessions/*}",
            "POST /v1/{parent=documents/*/**}/{collection}",
            "GET /v1/kinds/{kind=all}",
            "GET /",
        ],
        &[
            ("GET /v1/messages/123456", "GET /v1/messages/{message_id} | 123456"),
            ("GET /v1/users/me/messages/1", "GET /v1/users/{user_id}/messages/{message_id} | me | 1"),
            ("GET /v1/shelves/1/books/2", "GET /v1/{name=shelves/*/books/*} | shelves/1/books/2"),
            ("GET /v1/files", "GET /v1/files/{path=**} | "),
            ("GET /v1/files/", "GET /v1/files/{path=**} | "),
            ("GET /v1/files/a", "GET /v1/files/{path=**} | a"),
            ("GET /v1/files//a//b/", "GET /v1/files/{path=**} | /a//b/"),
            ("GET /v1/p/l/botSessions/7", "GET /v1/{name=**/botSessions/*} | p/l/botSessions/7"),
            ("GET /v1/botSessions/7", "GET /v1/{name=**/botSessions/*} | botSessions/7"),
            ("POST /v1/documents/a/b", "POST /v1/{parent=documents/*/**}/{collection} | documents/a | b"),
            ("POST /v1/documents/a/b/c/d", "POST /v1/{parent=documents/*/**}/{collection} | documents/a/b/c | d"),
            ("POST /v1/documents/a", "404"),
            ("GET /v1/kinds/all", "GET /v1/kinds/{kind=all} | all"),
            ("GET /v1/kinds/none", "404"),
            ("GET /", "GET /"),
            ("GET /v1", "404"),
        ],
    );
}

#[test]
fn decodes_captures_once() {
    check(
        &["GET /one/{x}", "GET /many/{x=**}", "GET /named/{x=a/*}"],
        &[
            ("GET /one/a%20b%2Fc%3A+d", "GET /one/{x} | a b/c:+d"),
            ("GET /one/%2541%252F", "GET /one/{x} | %41%2F"),
            ("GET /one/gr%C3%B6%c3%9fe", "GET /one/{x} | größe"),
            ("GET /many/a%20b/c%2Fd%2fe%3A%40%25/f", "GET /many/{x=**} | a b/c%2Fd%2fe%3A%40%/f"),
            ("GET /many/%3A%2F%3F%23%5B%5D%40", "GET /many/{x=**} | %3A%2F%3F%23%5B%5D%40"),
            ("GET /many/%21%24%26%27%28%29%2A%2B%2C%3B%3D", "GET /many/{x=**} | %21%24%26%27%28%29%2A%2B%2C%3B%3D"),
            ("GET /named/a/b%2Fc", "GET /named/{x=a/*} | a/b%2Fc"),
            ("GET /one/%FF", "GET /one/{x} | path is not UTF-8 after decoding, from byte 5"),
            ("GET /many/%C3/%B6", "GET /many/{x=**} | path is not UTF-8 after decoding, from byte 6"),
            ("GET /one/%C0%AE", "GET /one/{x} | path is not UTF-8 after decoding, from byte 5"),
        ],
    );
}

#[test]
fn borrows_what_is_not_encoded() {
    let path = "/v1/plain";
    let router = router(&["GET /v1/{x}"]);

    let found = router.find(&Method::GET, path).unwrap();

    assert!(matches!(found.captures[0].decode(path), Ok(std::borrow::Cow::Borrowed("plain"))));
    assert_eq!(found.captures[0].decode("/"), Err(BadPath::OtherPath));
}

#[test]
fn the_most_specific_template_wins_in_any_order() {
    check(
        &[
            "GET /v1/shelves/mine",
            "GET /v1/shelves/{s}",
            "GET /v1/{kind}/mine",
            "GET /v1/{name=**}",
            "GET /v1/{x}/{y}/books",
            "GET /w/**/a",
            "GET /w/**/b/*",
            "GET /w/**",
            "GET /w",
        ],
        &[
            ("GET /v1/shelves/mine", "GET /v1/shelves/mine"),
            ("GET /v1/shelves/yours", "GET /v1/shelves/{s} | yours"),
            ("GET /v1/racks/mine", "GET /v1/{kind}/mine | racks"),
            ("GET /v1/racks/yours", "GET /v1/{name=**} | racks/yours"),
            ("GET /v1/shelves/mine/books", "GET /v1/{x}/{y}/books | shelves | mine"),
            ("GET /v1/shelves/mine/pens", "GET /v1/{name=**} | shelves/mine/pens"),
            ("GET /w/x/b/a", "GET /w/**/b/*"),
            ("GET /w/b/x/a", "GET /w/**/a"),
            ("GET /w/x/b", "GET /w/**"),
            ("GET /w", "GET /w"),
        ],
    );
}

#[test]
fn a_less_specific_template_with_the_right_method_beats_a_refusal() {
    check(
        &["POST /v1/shelves/mine", "GET /v1/shelves/{s}", "DELETE /v1/{name=**}", "PATCH /v1/shelves/{s}:move"],
        &[
            ("GET /v1/shelves/mine", "GET /v1/shelves/{s} | mine"),
            ("DELETE /v1/shelves/mine", "DELETE /v1/{name=**} | shelves/mine"),
            ("GET /v1/shelves/1:move", "GET /v1/shelves/{s} | 1:move"),
            ("PUT /v1/shelves/mine", "405 DELETE, GET, HEAD, OPTIONS, POST"),
            ("PUT /v1/shelves/1:move", "405 DELETE, GET, HEAD, OPTIONS, PATCH"),
            ("PUT /v1/x", "405 DELETE, OPTIONS"),
            ("PUT /v2", "404"),
        ],
    );
}

#[test]
fn a_verb_splits_only_where_a_template_has_it() {
    check(
        &[
            "GET /v1/{x}",
            "POST /v1/{x}:b",
            "GET /v1/{x}:b",
            "GET /v2/{x}",
            "GET /v3/{x=**}:b",
            "GET /v4:b",
            "GET /v5/a:c/{x}",
        ],
        &[
            ("GET /v1/a:b", "GET /v1/{x}:b | a"),
            ("GET /v1/a:b:b", "GET /v1/{x}:b | a:b"),
            ("GET /v1/a:b:c", "GET /v1/{x} | a:b:c"),
            ("GET /v1/a:", "GET /v1/{x} | a:"),
            ("GET /v1/a%3Ab", "GET /v1/{x} | a:b"),
            ("GET /v1/a:%62", "GET /v1/{x}:b | a"),
            ("GET /v1/:b", "GET /v1/{x} | :b"),
            ("GET /v2/a:b", "GET /v2/{x} | a:b"),
            ("GET /v3/a/b:b", "GET /v3/{x=**}:b | a/b"),
            ("GET /v3:b", "GET /v3/{x=**}:b | "),
            ("GET /v4:b", "GET /v4:b"),
            ("GET /v4", "404"),
            ("GET /v5/a:c/d", "GET /v5/a:c/{x} | d"),
            ("PUT /v1/a:b", "405 GET, HEAD, OPTIONS, POST"),
            ("GET /v1/..:b", "400 path has a dot segment at byte 4"),
            ("GET /v1/..:d", "GET /v1/{x} | ..:d"),
        ],
    );
}

#[test]
fn a_method_by_name_comes_before_any_at_the_same_template() {
    check(
        &["* /v1/{x}", "GET /v1/{x}", "QUERY /v2", "* /v1/a", "HEAD /v3", "GET /v3"],
        &[
            ("GET /v1/b", "GET /v1/{x} | b"),
            ("HEAD /v1/b", "GET /v1/{x} (head) | b"),
            ("PUT /v1/b", "* /v1/{x} | b"),
            ("OPTIONS /v1/b", "* /v1/{x} | b"),
            ("GET /v1/a", "* /v1/a"),
            ("HEAD /v1/a", "* /v1/a"),
            ("QUERY /v2", "QUERY /v2"),
            ("query /v2", "405 OPTIONS, QUERY"),
            ("HEAD /v3", "HEAD /v3"),
            ("HEAD /v2", "405 OPTIONS, QUERY"),
        ],
    );
}

#[test]
fn answers_options_where_a_template_matches() {
    check(
        &["GET /v1/a", "POST /v1/{x}", "OPTIONS /v2"],
        &[
            ("OPTIONS /v1/a", "204 GET, HEAD, OPTIONS, POST"),
            ("OPTIONS /v1/b", "204 OPTIONS, POST"),
            ("OPTIONS /v2", "OPTIONS /v2"),
            ("OPTIONS /v3", "404"),
            ("OPTIONS *", "400 path does not begin with `/`"),
        ],
    );
}

#[test]
fn literals_equal_what_decodes_to_the_same() {
    check(
        &["GET /v1/a@b/{x}", "GET /v1/c%2Fd", "GET /v1/größe", "GET /v1/a%3ab"],
        &[
            ("GET /v1/a@b/1", "GET /v1/a@b/{x} | 1"),
            ("GET /v1/a%40b/1", "GET /v1/a@b/{x} | 1"),
            ("GET /%76%31/%61%40b/1", "GET /v1/a@b/{x} | 1"),
            ("GET /v1/c%2fd", "GET /v1/c%2Fd"),
            ("GET /v1/c/d", "404"),
            ("GET /v1/gr%C3%B6%C3%9Fe", "GET /v1/größe"),
            ("GET /v1/a:b", "GET /v1/a%3ab"),
            ("GET /v1%2Fa:b", "404"),
        ],
    );
}

#[test]
fn slashes_and_semicolons_are_data() {
    check(
        &["DELETE /v1/shelves/{s}", "GET /v1/shelves", "GET /v1/a/{x=*}/b", "GET /v1/files/{x=**}/end"],
        &[
            ("DELETE /v1/shelves/", "404"),
            ("GET /v1/shelves/", "404"),
            ("GET /v1//shelves", "404"),
            ("GET //v1/shelves", "404"),
            ("GET /v1/a//b", "404"),
            ("GET /v1/a/;/b", "GET /v1/a/{x=*}/b | ;"),
            ("GET /v1/a/..;x=y/b", "GET /v1/a/{x=*}/b | ..;x=y"),
            ("GET /v1/a/..%2Fx/b", "GET /v1/a/{x=*}/b | ../x"),
            ("GET /v1/a/.../b", "GET /v1/a/{x=*}/b | ..."),
            ("GET /v1/files//end", "GET /v1/files/{x=**}/end | "),
            ("GET /v1/files/end", "GET /v1/files/{x=**}/end | "),
            ("GET /v1/files/a//end", "GET /v1/files/{x=**}/end | a/"),
        ],
    );
}

#[test]
fn refuses_paths_that_could_be_read_as_two() {
    let router = router(&["GET /v1/{x=**}"]);
    for (path, expected) in [
        ("", "path does not begin with `/`"),
        ("v1/a", "path does not begin with `/`"),
        ("*", "path does not begin with `/`"),
        ("/v1/.", "path has a dot segment at byte 4"),
        ("/v1/./a", "path has a dot segment at byte 4"),
        ("/v1/../a", "path has a dot segment at byte 4"),
        ("/..", "path has a dot segment at byte 1"),
        ("/v1/%2e", "path has a dot segment at byte 4"),
        ("/v1/%2E%2e/a", "path has a dot segment at byte 4"),
        ("/v1/.%2E/a", "path has a dot segment at byte 4"),
        ("/v1/a/%2e.", "path has a dot segment at byte 6"),
        ("/v1/a\\b", "path has a backslash at byte 5"),
        ("/v1/a%5cb", "path has a backslash at byte 5"),
        ("/v1/a%5C", "path has a backslash at byte 5"),
        ("/v1/a\0", "path has a NUL at byte 5"),
        ("/v1/a%00", "path has a NUL at byte 5"),
        ("/v1/%", "path has bad percent-encoding at byte 4"),
        ("/v1/%4", "path has bad percent-encoding at byte 4"),
        ("/v1/%g0/a", "path has bad percent-encoding at byte 4"),
        ("/v1/%/2a", "path has bad percent-encoding at byte 4"),
        ("/v1/%u0041", "path has bad percent-encoding at byte 4"),
        ("/v1/a b", "path has the raw byte 0x20 at byte 5"),
        ("/v1/a\tb", "path has the raw byte 0x09 at byte 5"),
        ("/v1/a\r\nb", "path has the raw byte 0x0d at byte 5"),
        ("/v1/a\u{7f}", "path has the raw byte 0x7f at byte 5"),
        ("/v1/ö", "path has the raw byte 0xc3 at byte 4"),
        ("/v1/a#b", "path has the raw byte 0x23 at byte 5"),
        ("/v1/a?b", "path has the raw byte 0x3f at byte 5"),
    ] {
        let miss = router.find(&Method::GET, path).unwrap_err();

        assert!(matches!(miss, Miss::BadPath(problem) if problem.to_string() == expected), "{path}: {miss:?}");
    }
}

#[test]
fn the_first_of_equal_templates_keeps_its_path() {
    let mut builder = Router::builder();
    let bind = |builder: &mut Builder<u8>, rule: &str, target| {
        let (method, template) = parse(rule);
        builder.insert(&method, &template, target).map_err(|conflict| (*conflict.existing, conflict.rejected))
    };

    assert_eq!(bind(&mut builder, "POST /v1/{a=x/*}:go", 1), Ok(()));
    assert_eq!(bind(&mut builder, "POST /v1/%78/{b}:%67o", 2), Err((1, 2)));
    assert_eq!(bind(&mut builder, "* /v1/x/*:go", 3), Ok(()));
    assert_eq!(bind(&mut builder, "* /v1/x/*:go", 4), Err((3, 4)));
    assert_eq!(bind(&mut builder, "GET /v1/x/*:go", 5), Ok(()));
    assert_eq!(builder.build().targets().copied().collect::<Vec<_>>(), [1, 3, 5]);
}

#[test]
fn the_work_is_bounded_by_the_templates_not_by_the_path() {
    // Every mixture of literal and wildcard, each below a `**`, so that everything fits but for the last segment.
    let mut builder = Router::builder();
    let mut nodes = 1;
    for mixture in 0..1 << 8 {
        for tail in 1..=8 {
            let segments: String = (0..tail).map(|bit| if mixture >> bit & 1 == 0 { "/a" } else { "/*" }).collect();
            let template = Template::parse(&format!("/**{segments}/end")).unwrap();
            nodes += usize::from(builder.insert(&HttpMethod::Any, &template, ()).is_ok()) * (tail + 2);
        }
    }
    let router = builder.build();
    let path = "/a".repeat(20_000);

    VISITED.set(0);
    let miss = router.find(&Method::GET, &path).unwrap_err();

    assert_eq!(miss, Miss::NotFound);
    // Once for the method, once for the header `allow`.
    assert!(VISITED.get() <= 2 * nodes, "{} visits of {nodes} nodes", VISITED.get());
    assert!(router.find(&Method::GET, &(path + "/end")).is_ok());
}

/// All templates tried one by one, in the plainest way that the rules at the head of the module can be written.
struct Naive(Vec<(HttpMethod, Template)>);

impl Naive {
    fn new(rules: &[(HttpMethod, String)]) -> Self {
        Self(rules.iter().map(|(method, template)| (method.clone(), Template::parse(template).unwrap())).collect())
    }

    /// Index of the rule that answers.
    fn find(&self, method: &Method, path: &str) -> Option<usize> {
        let answering = self.0.iter().enumerate().filter_map(|(index, (bound, template))| {
            let rank = match bound {
                HttpMethod::Named(name) if name == method => 0,
                HttpMethod::Named(name) if name == Method::GET && method == Method::HEAD => 1,
                HttpMethod::Named(_) => return None,
                HttpMethod::Any => 2,
            };
            matches(template, path).then(|| (specificity(template), rank, index))
        });
        answering.min().map(|(_, _, index)| index)
    }
}

fn matches(template: &Template, path: &str) -> bool {
    let path = match template.verb() {
        None => path,
        Some(verb) => match path.rsplit_once(':') {
            Some((path, last)) if last.as_bytes() == verb => path,
            Some(_) | None => return false,
        },
    };
    let segments: Vec<&str> = path.strip_prefix('/').unwrap().split('/').collect();
    matches_segments(template.segments(), &segments)
}

fn matches_segments(template: &[Segment], path: &[&str]) -> bool {
    match template.split_first() {
        None => path.is_empty(),
        Some((Segment::Rest, rest)) => (0..=path.len()).any(|taken| matches_segments(rest, &path[taken..])),
        Some((segment, rest)) => path.split_first().is_some_and(|(first, left)| {
            let fits = match segment {
                Segment::Literal(bytes) => first.replace("%61", "a").as_bytes() == &**bytes,
                Segment::Any | Segment::Rest => !first.is_empty(),
            };
            fits && matches_segments(rest, left)
        }),
    }
}

fn specificity(template: &Template) -> (bool, Vec<(u8, Reverse<usize>)>) {
    let segments = template.segments().iter().enumerate().map(|(index, segment)| match segment {
        Segment::Literal(_) => (0, Reverse(0)),
        Segment::Any => (1, Reverse(0)),
        Segment::Rest => (2, Reverse(template.segments().len() - index)),
    });
    (template.verb().is_none(), segments.collect())
}

fn any_method() -> impl Strategy<Value = HttpMethod> {
    prop_oneof![
        4 => prop_oneof![Just(Method::GET), Just(Method::POST), Just(Method::HEAD)].prop_map(HttpMethod::Named),
        1 => Just(HttpMethod::Any),
    ]
}

fn any_rule() -> impl Strategy<Value = (HttpMethod, String)> {
    let segment = prop_oneof![Just("a"), Just("b"), Just("*"), Just("**")];
    let template = (prop::collection::vec(segment, 1..6), prop_oneof![2 => Just(""), 1 => Just(":v"), 1 => Just(":w")]);
    let text = template.prop_map(|(mut segments, verb)| {
        let mut seen = false;
        segments.retain(|segment| *segment != "**" || !std::mem::replace(&mut seen, true));
        format!("/{}{verb}", segments.join("/"))
    });
    (any_method(), text)
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop_oneof![
        6 => Just("a"), 6 => Just("b"), 3 => Just("c"), 1 => Just(""), 1 => Just("%61"), 1 => Just("a:v"), 1 => Just("b:w:v"),
    ];
    let verb = prop_oneof![4 => Just(""), 1 => Just(":v"), 1 => Just(":w"), 1 => Just(":x")];
    (prop::collection::vec(segment, 1..7), verb).prop_map(|(segments, verb)| format!("/{}{verb}", segments.join("/")))
}

#[test]
fn a_wanted_binding_is_found_whatever_its_method() {
    let router =
        router(&["POST /v1/{a}", "GET /v1/{a}", "PUT /v1/b", "* /v1/{a=**}", "POST /v1/{a}:watch", "GET /w/{a}"]);
    let find = |path: &str, wanted: &dyn Fn(&str) -> bool| {
        router
            .find_any(path, |rule| wanted(rule))
            .map_or_else(|miss| format!("{miss:?}"), |found| (*found.target).into())
    };

    assert_eq!(find("/v1/a", &|_| true), "GET /v1/{a}");
    assert_eq!(find("/v1/b", &|_| true), "PUT /v1/b");
    assert_eq!(find("/v1/b", &|rule| rule.starts_with("POST")), "POST /v1/{a}");
    assert_eq!(find("/v1/b:watch", &|_| true), "POST /v1/{a}:watch");
    assert_eq!(find("/v1/a/b", &|_| true), "* /v1/{a=**}");
    assert_eq!(find("/w/a", &|rule| rule.starts_with("POST")), "NotFound");
    assert!(find("/w/%zz", &|_| true).starts_with("BadPath"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn finds_what_trying_every_template_finds(
        rules in prop::collection::vec(any_rule(), 1..12),
        paths in prop::collection::vec(any_path(), 1..8),
    ) {
        let naive = Naive::new(&rules);
        let mut builder = Router::builder();
        for (index, (method, template)) in naive.0.iter().enumerate() {
            builder.insert(method, template, index).ok();
        }
        let router = builder.build();

        for path in &paths {
            for method in [Method::GET, Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS] {
                let found = router.find(&method, path);
                prop_assert_eq!(found.as_ref().ok().map(|found| *found.target), naive.find(&method, path), "{} {}", method, path);
                let known = naive.0.iter().any(|(_, template)| matches(template, path));
                prop_assert_eq!(matches!(found, Err(Miss::NotFound)), !known);
            }
        }
    }

    #[test]
    fn the_order_of_insertion_plays_no_part(
        rules in prop::collection::vec(any_rule(), 1..12),
        path in any_path(),
    ) {
        let build = |rules: &mut dyn Iterator<Item = &(HttpMethod, String)>| {
            let mut builder = Router::builder();
            for (method, text) in rules {
                builder.insert(method, &Template::parse(text).unwrap(), (method.clone(), text.clone())).ok();
            }
            builder.build()
        };
        let (one, other) = (build(&mut rules.iter()), build(&mut rules.iter().rev()));

        for method in [Method::GET, Method::HEAD, Method::PUT] {
            let found = one.find(&method, &path).map(|found| found.target);
            prop_assert_eq!(found, other.find(&method, &path).map(|found| found.target));
        }
    }

    #[test]
    fn captures_lie_where_their_segments_are(head in "[a-c]{1,3}", rest in "(/[a-c%]{0,2}){0,4}", tail in "[a-c]{1,3}") {
        let router = router(&["GET /x/{a}/{b=**}/{c}"]);
        let path = format!("/x/{head}{rest}/{tail}").replace('%', "%20");

        let found = router.find(&Method::GET, &path).unwrap();

        let texts: Vec<_> = found.captures.iter().map(|capture| capture.decode(&path).unwrap()).collect();
        prop_assert_eq!(&texts[0], &head);
        prop_assert_eq!(&texts[1], &rest.strip_prefix('/').unwrap_or_default().replace('%', " "));
        prop_assert_eq!(&texts[2], &tail);
    }

    #[test]
    fn decoding_never_panics(path in ".{0,24}", start in 0usize..32, length in 0usize..32, multi: bool) {
        Capture { variable: 0, range: start..start + length, multi }.decode(&path).ok();
        router(&["GET /{x=**}"]).find(&Method::GET, &path).ok();
    }

    #[test]
    fn what_is_found_decodes_to_text_without_nul(path in "/[ab/%:.\\\\0-5]{0,24}") {
        for rule in ["GET /{x=**}", "GET /{x}"] {
            if let Ok(found) = router(&[rule]).find(&Method::GET, &path)
                && let Ok(text) = found.captures[0].decode(&path)
            {
                prop_assert!(!text.contains('\0') && !text.contains('\\') && !matches!(&*text, "." | ".."));
            }
        }
    }
}
