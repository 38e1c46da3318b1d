//! Strings as JSON.

use crate::transcode::lexer::plain_end;
use crate::transcode::out::Out;

/// A quoted string; `text` is UTF-8. Only what RFC 8259 demands is escaped.
pub(in crate::transcode) fn write_string(out: &mut Out<'_>, text: &[u8]) {
    out.byte(b'"');
    let mut at = 0;
    loop {
        let end = plain_end(text, at);
        out.bytes(&text[at..end]);
        let Some(&byte) = text.get(end) else { break };
        escape(out, byte);
        at = end + 1;
    }
    out.byte(b'"');
}

fn escape(out: &mut Out<'_>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            let [high, low] = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            return out.bytes(&[b'\\', b'u', b'0', b'0', high, low]);
        }
    };
    out.bytes(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    #[test]
    fn strings_read_back_as_they_were() {
        let all: String = (0..0x180).filter_map(char::from_u32).collect();
        for text in ["", "plain", "quote\" back\\slash", "漢字😀", &all] {
            let mut buffer = BytesMut::new();
            write_string(&mut Out::new(&mut buffer, 0), text.as_bytes());

            assert_eq!(serde_json::from_slice::<String>(&buffer).unwrap(), text);
        }
    }
}
