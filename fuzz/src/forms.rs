//! Forms of parts.

use bytes::Bytes;
use portico::multipart::{Event, Head, MultipartError, Reader, boundary};

/// The parts are the same, however the body is cut, and so is what is wrong.
///
/// The first byte of an input says how the rest is cut, which is a body with the boundary `b`.
pub fn forms(input: &[u8]) {
    let [cut, body @ ..] = input else { return };
    let whole = parts([body]);

    let cut_up = parts(body.chunks(usize::from(*cut).max(1)));

    assert_eq!(cut_up, whole);
    for (head, content) in whole.iter().flatten() {
        assert!(!head.name.is_empty() && head.name.len() + content.len() <= body.len());
    }
    if let Ok(text) = std::str::from_utf8(body)
        && let Some(Ok(boundary)) = boundary(text)
    {
        assert!((1..=70).contains(&boundary.len()));
    }
}

fn parts<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Result<Vec<(Head, Vec<u8>)>, MultipartError> {
    let mut reader = Reader::new("b");
    let mut parts: Vec<(Head, Vec<u8>)> = Vec::new();
    let mut is_open = false;
    for piece in pieces {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.take()? {
            match event {
                Event::Part(head) => {
                    assert!(!std::mem::replace(&mut is_open, true), "a part ends before the next");
                    parts.push((head, Vec::new()));
                }
                Event::Data(data) => {
                    assert!(is_open && !data.is_empty(), "content is of a part");
                    parts.last_mut().expect("a part is open").1.extend_from_slice(&data);
                }
                Event::End => assert!(std::mem::take(&mut is_open), "what ends has begun"),
            }
        }
    }
    reader.finish().map(|()| parts)
}
