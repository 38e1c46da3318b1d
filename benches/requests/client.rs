//! Clients that allocate nothing: their requests are made once, and replies are read into a fixed buffer.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const BUFFER: usize = 256 << 10;

/// One connection of HTTP/1.1.
pub(super) struct Http1 {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Http1 {
    pub(super) fn connect(address: SocketAddr, path: &str) -> io::Result<Self> {
        let stream = connect(address)?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nuser-agent: bench/1\r\n\r\n").into_bytes();
        Ok(Self { stream, request, buffer: vec![0; BUFFER] })
    }

    /// Sends the request and reads its reply, which has a length.
    pub(super) fn get(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.request)?;
        let mut filled = 0;
        loop {
            filled += read(&mut self.stream, &mut self.buffer[filled..])?;
            let text = &self.buffer[..filled];
            let Some(head) = find(text, b"\r\n\r\n") else { continue };
            if !text.starts_with(b"HTTP/1.1 200 ") {
                return Err(wrong("the status is not 200"));
            }
            let length = find(text, b"\r\ncontent-length: ").ok_or_else(|| wrong("the reply has no length"))? + 18;
            let digits = text[length..].iter().take_while(|byte| byte.is_ascii_digit());
            let length = digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
            if filled == head + 4 + length {
                return Ok(());
            }
        }
    }
}

/// One connection of HTTP/2 with one request at a time.
pub(super) struct Http2 {
    stream: TcpStream,
    /// HEADERS, and DATA if there is any; the numbers of the stream are put in before it is sent.
    request: Vec<u8>,
    /// Where these numbers stand.
    numbers: Vec<usize>,
    next: u32,
    buffer: Vec<u8>,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The indexed field `:status: 200` (RFC 7541 appendix A), with which a head begins.
const STATUS_200: u8 = 0x88;

impl Http2 {
    /// A request with a message is one of gRPC.
    pub(super) fn connect(address: SocketAddr, method: &str, path: &str, message: &[u8]) -> io::Result<Self> {
        let mut stream = connect(address)?;
        // Windows so wide that they need not be opened again.
        let mut hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        frame(&mut hello, SETTINGS, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
        frame(&mut hello, WINDOW_UPDATE, 0, &(0x7fff_ffffu32 - 0xffff).to_be_bytes());
        frame(&mut hello, SETTINGS, 1, &[]);
        stream.write_all(&hello)?;

        // Literals of HPACK that are not indexed (RFC 7541 §6.2.2), behind the indexed scheme and method.
        let mut head = vec![0x86, if method == "GET" { 0x82 } else { 0x83 }];
        literal(&mut head, &[0x04], path);
        literal(&mut head, &[0x01], &address.to_string());
        let mut request = Vec::new();
        let mut numbers = vec![5];
        if message.is_empty() {
            frame(&mut request, HEADERS, END_HEADERS | END_STREAM, &head);
        } else {
            literal(&mut head, &[0x0f, 31 - 15], "application/grpc");
            literal(&mut head, &[0x00, 2, b't', b'e'], "trailers");
            frame(&mut request, HEADERS, END_HEADERS, &head);
            numbers.push(request.len() + 5);
            frame(&mut request, DATA, END_STREAM, message);
        }
        Ok(Self { stream, request, numbers, next: 1, buffer: vec![0; BUFFER] })
    }

    /// Sends the request and reads its reply to the end of the stream: a status of 200, and a body, which errors of gRPC
    /// have not.
    pub(super) fn call(&mut self) -> io::Result<()> {
        for at in &self.numbers {
            self.request[*at..at + 4].copy_from_slice(&self.next.to_be_bytes());
        }
        self.stream.write_all(&self.request)?;
        let (mut filled, mut has_head, mut has_body) = (0, false, false);
        loop {
            filled += read(&mut self.stream, &mut self.buffer[filled..])?;
            let mut at = 0;
            while let Some(&[a, b, c, kind, flags, ref stream @ ..]) = self.buffer[at..filled].first_chunk::<9>() {
                let end = at + 9 + (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c));
                if end > filled {
                    break;
                }
                let is_ours = *stream == self.next.to_be_bytes();
                match kind {
                    RST_STREAM | GOAWAY => return Err(wrong("the stream or the connection was reset")),
                    HEADERS if is_ours && !has_head && self.buffer.get(at + 9) != Some(&STATUS_200) => {
                        return Err(wrong("the status is not 200"));
                    }
                    DATA | HEADERS if is_ours => {
                        (has_head, has_body) = (true, has_body || kind == DATA);
                        if flags & END_STREAM != 0 {
                            self.next += 2;
                            return if has_body { Ok(()) } else { Err(wrong("the reply has no body")) };
                        }
                    }
                    _ => {}
                }
                at = end;
            }
            self.buffer.copy_within(at..filled, 0);
            filled -= at;
        }
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, content: &[u8]) {
    let [.., a, b, c] = content.len().to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags, 0, 0, 0, 0]);
    out.extend_from_slice(content);
}

fn literal(head: &mut Vec<u8>, name: &[u8], value: &str) {
    head.extend_from_slice(name);
    // In seven bits; every value here is short.
    head.push(u8::try_from(value.len()).unwrap_or(0) & 0x7f);
    head.extend_from_slice(value.as_bytes());
}

/// A connection on which no reply is waited for without end.
fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(stream)
}

fn read(stream: &mut TcpStream, room: &mut [u8]) -> io::Result<usize> {
    match stream.read(room)? {
        0 => Err(wrong("the connection ended")),
        read => Ok(read),
    }
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

fn wrong(what: &str) -> io::Error {
    io::Error::other(what)
}
