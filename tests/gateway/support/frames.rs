//! An HTTP/2 client that keeps no rules: it sends the frames that a test wants and shows those that come back.
//!
//! The layout is that of [RFC 9113 §4.1](https://www.rfc-editor.org/rfc/rfc9113#section-4.1); header blocks are
//! literals without indexing ([RFC 7541 §6.2.2](https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2)).
#![allow(dead_code, reason = "a toolbox: not every test run uses every tool")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// Error codes, [RFC 9113 §7](https://www.rfc-editor.org/rfc/rfc9113#section-7).
pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// Longer than anything here takes; what waits this long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    pub(crate) fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        self.number(at)
    }

    /// Four bytes of the payload as a number.
    pub(crate) fn number(&self, at: usize) -> u32 {
        let bytes = self.payload.get(at..at + 4).expect("the frame has a number there");
        bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
    }

    /// A value out of SETTINGS.
    pub(crate) fn setting(&self, wanted: u8) -> Option<u32> {
        let mut entries = (0..self.payload.len()).step_by(6);
        entries.find(|at| self.payload[at + 1] == wanted).map(|at| self.number(at + 2))
    }
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) stream: TcpStream,
}

impl Raw {
    /// A connection on which nothing was said yet.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway listens");
        stream.set_nodelay(true).expect("an open socket");
        Self { stream }
    }

    /// A connection with preface and empty SETTINGS sent.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await;
        raw
    }

    /// Sends bytes; that the gateway has closed is for the reading side to find out.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.ok();
    }

    /// Sends bytes until the gateway takes no more for a while, or is gone. Returns how many it took.
    pub(crate) async fn pour(&mut self, piece: &[u8], at_most: usize) -> usize {
        let mut taken = 0;
        while taken < at_most {
            let sent = tokio::time::timeout(Duration::from_millis(300), self.stream.write(piece)).await;
            match sent {
                // A part of a piece would break the framing, and is the end anyway.
                Ok(Ok(sent)) if sent == piece.len() => taken += sent,
                Ok(_) | Err(_) => return taken,
            }
        }
        taken
    }

    /// The next frame; none when the connection is closed.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        read_frame(&mut self.stream).await
    }

    /// Reads up to the first frame that is wanted; none when the connection closes before.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.frame().await?;
            if wanted(&frame) {
                return Some(frame);
            }
        }
    }

    /// The code of the last GOAWAY before the connection closes.
    pub(crate) async fn farewell(&mut self) -> Option<u32> {
        farewell(&mut self.stream).await
    }

    /// Sends bytes while it reads; the code of the last GOAWAY before the connection closes.
    pub(crate) async fn flood(&mut self, bytes: &[u8]) -> Option<u32> {
        let (mut reader, mut writer) = self.stream.split();
        let (code, _) = tokio::join!(farewell(&mut reader), writer.write_all(bytes));
        code
    }
}

/// The code of the last GOAWAY before the connection closes.
pub(crate) async fn farewell(stream: &mut (impl AsyncRead + Unpin)) -> Option<u32> {
    let mut code = None;
    while let Some(frame) = read_frame(stream).await {
        if frame.kind == GOAWAY {
            code = Some(frame.code());
        }
    }
    code
}

async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<Frame> {
    let read = async {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind, flags, stream: u32::from_be_bytes(id) & 0x7fff_ffff, payload })
    };
    tokio::time::timeout(PATIENCE, read).await.expect("there is a frame or an end")
}

/// A frame as bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a test's frame is small").to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The head of a gRPC call, which its DATA follow.
pub(crate) fn grpc_head(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &block(path, &[("content-type", "application/grpc"), ("te", "trailers")]))
}

pub(crate) fn rst_stream(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

/// The header block of a POST.
pub(crate) fn block(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // `:method: POST` and `:scheme: http` are in the static table.
    let mut block = vec![0x83, 0x86];
    for (name, value) in [(":path", path), (":authority", "test")].iter().chain(more) {
        block.push(0);
        for text in [name, value] {
            // Lengths from 127 on take more bytes, seven bits in each.
            let mut rest = text.len();
            if rest < 127 {
                block.push(u8::try_from(rest).expect("below 127"));
            } else {
                block.push(127);
                rest -= 127;
                while rest >= 128 {
                    block.push(u8::try_from(rest % 128 + 128).expect("seven bits and a flag"));
                    rest /= 128;
                }
                block.push(u8::try_from(rest).expect("seven bits"));
            }
            block.extend(text.bytes());
        }
    }
    block
}
