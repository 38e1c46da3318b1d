//! Bodies as clients send them, cut anywhere, and bodies that are none.

use super::*;

/// A part as the tests compare it: name, whether a file, content type, content.
type Seen = (String, bool, Option<String>, Vec<u8>);

fn read(boundary: &str, pieces: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Result<Vec<Seen>, MultipartError> {
    let mut reader = Reader::new(boundary);
    let mut seen: Vec<Seen> = Vec::new();
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece.as_ref()));
        while let Some(event) = reader.take()? {
            match event {
                Event::Part(head) => seen.push((head.name, head.is_file, head.content_type, Vec::new())),
                Event::Data(data) => seen.last_mut().unwrap().3.extend_from_slice(&data),
                Event::End => {}
            }
        }
    }
    reader.finish().map(|()| seen)
}

const FORM: &[u8] = b"--xyz\r\n\
content-disposition: form-data; name=\"title\"\r\n\r\nEmma\r\n\
--xyz  \r\nContent-Type: image/png\r\nContent-Disposition: form-data; filename=\"a;b\\\"c.png\"; name=cover\r\n\r\n\
\x89PNG\r\n--xy\r\n\r\r\n--xz\r\n\
--xyz\r\ncontent-disposition: form-data; name=\"empty\"\r\n\r\n\r\n\
--xyz\r\ncontent-disposition: form-data; name=\"none\"\r\n\r\n--xyz--\r\nbehind it";

fn parts() -> Vec<Seen> {
    vec![
        ("title".into(), false, None, b"Emma".into()),
        ("cover".into(), true, Some("image/png".into()), b"\x89PNG\r\n--xy\r\n\r\r\n--xz".into()),
        ("empty".into(), false, None, Vec::new()),
        ("none".into(), false, None, Vec::new()),
    ]
}

#[test]
fn parts_are_the_same_however_the_body_is_cut() {
    assert_eq!(read("xyz", [FORM]), Ok(parts()));
    for length in 1..FORM.len() {
        assert_eq!(read("xyz", FORM.chunks(length)), Ok(parts()), "in pieces of {length}");
    }
    for at in 1..FORM.len() {
        assert_eq!(read("xyz", [&FORM[..at], &FORM[at..]]), Ok(parts()), "cut at {at}");
    }
}

#[test]
fn an_empty_line_may_stand_before_the_first_part() {
    let body = [b"\r\n", FORM].concat();

    assert_eq!(read("xyz", [&body]), Ok(parts()));
    assert_eq!(read("xyz", body.chunks(1)), Ok(parts()));
}

#[test]
fn a_body_that_ends_early_is_refused_wherever_it_ends() {
    let last = FORM.len() - "\r\nbehind it".len();
    for end in 0..last {
        let refused = read("xyz", [&FORM[..end]]);
        assert!(
            matches!(refused, Err(MultipartError::NoStart | MultipartError::Truncated(_))),
            "at {end}: {refused:?}"
        );
    }
}

#[test]
fn what_is_no_part_is_refused_with_its_number() {
    let head = |line: &str| format!("--x\r\n{line}\r\n\r\n\r\n--x--");
    let named = "content-disposition: form-data; name=a";
    let table = [
        ("text".to_owned(), MultipartError::NoStart),
        ("--y\r\n".into(), MultipartError::NoStart),
        ("\r\n\r\n--x\r\n".into(), MultipartError::NoStart),
        ("--xx\r\n".into(), MultipartError::LongDelimiter(0)),
        (format!("--x\r\n{named}\r\n\r\n\r\n--x-\r\n"), MultipartError::LongDelimiter(1)),
        (head(""), MultipartError::NoName(1)),
        (head("content-type: text/plain"), MultipartError::NoName(1)),
        (head("content-disposition: attachment; name=a"), MultipartError::NoName(1)),
        (head("content-disposition: form-data; filename=a"), MultipartError::NoName(1)),
        (head("content-disposition: form-data; name=\"a"), MultipartError::NoName(1)),
        (head("content-disposition: form-data; name=\"\""), MultipartError::NoName(1)),
        (head(&format!("{named}\r\n{named}")), MultipartError::NoName(1)),
        (head("no header"), MultipartError::BadHead(1)),
        (head(&format!("{named}\r\n{}", "x: y\r\n".repeat(16))), MultipartError::BadHead(1)),
        (head(&format!("{named}\r\nx: {}", "y".repeat(MAX_HEAD))), MultipartError::LongHead(1)),
        (
            head(&format!("{named}\r\ncontent-transfer-encoding: base64")),
            MultipartError::Encoded { part: 1, name: "a".into(), encoding: "base64".into() },
        ),
    ];
    for (body, error) in table {
        assert_eq!(read("x", [&body]), Err(error.clone()), "{body}");
        assert_eq!(read("x", body.as_bytes().chunks(1)), Err(error), "{body}, byte by byte");
    }
}

#[test]
fn headers_without_end_are_not_kept() {
    let mut reader = Reader::new("x");
    reader.push(Bytes::from_static(b"--x\r\n"));
    let endless = std::iter::repeat_n(b"a: b\r\n", 10 << 10);

    let refused = endless.map(|line| {
        reader.push(Bytes::from_static(line));
        reader.take()
    });

    assert_eq!(refused.filter_map(Result::err).next(), Some(MultipartError::LongHead(1)));
}

#[test]
fn the_boundary_is_a_parameter_of_the_content_type() {
    let table = [
        ("multipart/form-data; boundary=abc", Some(Ok("abc"))),
        ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some(Ok("a b"))),
        ("multipart/form-data", Some(Err(()))),
        ("multipart/form-data; boundary=", Some(Err(()))),
        ("multipart/form-data; boundary=\"a ", Some(Err(()))),
        ("multipart/mixed; boundary=abc", None),
        ("application/json", None),
    ];
    for (content_type, expected) in table {
        let found = boundary(content_type).map(|found| found.map_err(|_| ()));
        assert_eq!(found, expected.map(|found| found.map(str::to_owned)), "{content_type}");
    }
    assert!(boundary(&format!("multipart/form-data; boundary={}", "x".repeat(71))).unwrap().is_err());
}

#[test]
fn names_are_read_as_browsers_and_others_write_them() {
    let table = [
        (r#"name="a%22b""#, "a\"b"),
        (r#"name="a\"b""#, "a\"b"),
        (r#"name="a\b""#, "a\\b"),
        (r#"name="ä%0D%0A%41""#, "ä\r\n%41"),
        (r#" filename="x=;y" ; name = "b c""#, "b c"),
        ("NAME=plain", "plain"),
    ];
    for (parameters, name) in table {
        let line = format!("content-disposition: form-data; {parameters}\r\n\r\n");
        assert_eq!(Head::parse(1, line.as_bytes()).unwrap().name, name, "{parameters}");
    }
}

proptest::proptest! {
    /// Whatever a body is made of, its parts, or what is wrong with it, do not depend on how it is cut.
    #[test]
    fn any_body_is_judged_the_same_however_it_is_cut(
        tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 0..24),
        cuts in proptest::collection::vec(1..9_usize, 1..40),
    ) {
        let body = tokens.concat();
        let mut pieces = Vec::new();
        let mut rest = &body[..];
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*cut));
            pieces.push(piece);
            rest = after;
        }

        proptest::prop_assert_eq!(read("b", pieces), read("b", [&body]));
    }
}

/// What bodies are made of, and what comes near to it.
const TOKENS: [&[u8]; 14] = [
    b"--b",
    b"--",
    b"b",
    b"\r\n",
    b"\r\n--b\r\n",
    b"\r\n--b--",
    b"--b\r\ncontent-disposition: form-data; name=a\r\n\r\n",
    b"content-disposition: form-data; name=\"a\"; filename=b\r\n",
    b"content-type: a/b\r\n",
    b"\r\n\r\n",
    b"\r",
    b"\n",
    b" ",
    b"x",
];
