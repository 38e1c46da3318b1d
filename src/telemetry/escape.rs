//! Bytes from anywhere as text in a log line: nothing in them can end a string, a word or the line.

/// Writes a JSON string with its quotes ([RFC 8259 §7](https://www.rfc-editor.org/rfc/rfc8259#section-7)).
///
/// Control characters are escaped, those beyond ASCII too, which a terminal might obey; what is not UTF-8 becomes
/// U+FFFD.
pub(crate) fn json(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    if are_all(bytes, |byte| is_plain(byte) | (byte == b' ')) {
        out.extend_from_slice(bytes);
    } else {
        for chunk in bytes.utf8_chunks() {
            json_characters(out, chunk.valid());
            if !chunk.invalid().is_empty() {
                out.extend_from_slice("\u{FFFD}".as_bytes());
            }
        }
    }
    out.push(b'"');
}

/// Writes one word: all but visible ASCII becomes `\xNN`, as do `"` and `\`.
pub(crate) fn word(out: &mut Vec<u8>, mut bytes: &[u8]) {
    if are_all(bytes, is_plain) {
        out.extend_from_slice(bytes);
        return;
    }
    while let Some(special) = bytes.iter().position(|byte| !is_plain(*byte)) {
        let (plain, rest) = bytes.split_at(special);
        out.extend_from_slice(plain);
        let Some((byte, rest)) = rest.split_first() else { return };
        hex(out, b"\\x", *byte);
        bytes = rest;
    }
    out.extend_from_slice(bytes);
}

/// Writes words between quotes, each as [`word`] does, with the spaces between them.
pub(crate) fn quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for (index, part) in bytes.split(|byte| *byte == b' ').enumerate() {
        if index > 0 {
            out.push(b' ');
        }
        word(out, part);
    }
    out.push(b'"');
}

/// At most `limit` bytes from the start, without cutting a character of UTF-8.
pub(crate) fn cut(bytes: &[u8], limit: usize) -> &[u8] {
    let Some(mut cut) = bytes.get(..limit) else { return bytes };
    let continues = |byte: Option<&u8>| byte.is_some_and(|byte| byte & 0xC0 == 0x80);
    if continues(bytes.get(limit)) {
        while continues(cut.last()) {
            cut = cut.split_last().map_or(cut, |(_, rest)| rest);
        }
        // The first byte of the character whose rest is beyond the limit.
        cut = cut.split_last().map_or(cut, |(_, rest)| rest);
    }
    cut
}

/// Asks all of them, without a stop at the first that is not, so that it compiles to vectors: nearly always all are.
fn are_all(bytes: &[u8], is_one: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & is_one(*byte))
}

/// Visible ASCII that needs no escape anywhere.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() & (byte != b'"') & (byte != b'\\')
}

fn json_characters(out: &mut Vec<u8>, text: &str) {
    let mut encoded = [0; 4];
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Control characters end at U+009F, so that one byte holds them.
            _ if character.is_control() => hex(out, b"\\u00", u8::try_from(character).unwrap_or_default()),
            _ => out.extend_from_slice(character.encode_utf8(&mut encoded).as_bytes()),
        }
    }
}

fn hex(out: &mut Vec<u8>, prefix: &[u8], byte: u8) {
    let digit = |nibble: u8| if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    out.extend_from_slice(prefix);
    out.extend_from_slice(&[digit(byte >> 4), digit(byte & 0xF)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(write: fn(&mut Vec<u8>, &[u8]), bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_what_could_end_a_json_string() {
        assert_eq!(written(json, b"a\"b\\c\n\r\t\0\x1f\x7f"), r#""a\"b\\c\n\r\t\u0000\u001f\u007f""#);
        assert_eq!(written(json, "é\u{85}\u{9f}😀".as_bytes()), "\"é\\u0085\\u009f😀\"");
        assert_eq!(written(json, b"\xff\xc3("), "\"\u{FFFD}\u{FFFD}(\"");
    }

    #[test]
    fn escapes_what_could_end_a_word() {
        assert_eq!(written(word, b"/v1/a b\"\\\n\xff"), r"/v1/a\x20b\x22\x5c\x0a\xff");
        assert_eq!(written(quoted, b"curl/8 (\"x\")\r\n"), r#""curl/8 (\x22x\x22)\x0d\x0a""#);
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("aé".as_bytes(), 2), b"a");
        assert_eq!(cut("aéb".as_bytes(), 3), "aé".as_bytes());
        assert_eq!(cut("😀".as_bytes(), 3), b"");
        assert_eq!(cut(b"ab", 2), b"ab");
    }

    proptest! {
        #[test]
        fn json_reads_back_as_the_lossy_text(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let read: String = serde_json::from_str(&written(json, &bytes)).unwrap();

            prop_assert_eq!(read, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn words_are_visible_ascii(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(written(word, &bytes).bytes().all(|byte| byte.is_ascii_graphic()));
        }
    }
}
