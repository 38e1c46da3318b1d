//! Connections that go wrong below the level of calls, spoken in bytes.
//!
//! The frame layout is that of <https://www.rfc-editor.org/rfc/rfc9113#section-4.1>.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How a scripted backend treats a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Speaks HTTP/2.
    Polite,
    /// Reads, and never says anything.
    Silent,
    /// Closes it at once.
    Close,
    /// Answers in HTTP/1.1.
    Http1,
    /// Waits for the first call and sends GOAWAY, saying that it looked at none: that call can be made again.
    GoAwayBeforeFirst,
    /// Waits for the first call and sends a frame that breaks the protocol.
    Garbage,
}

/// Treats a connection in any manner but the polite one, until its end.
///
/// # Errors
/// The other side is gone.
pub(crate) async fn treat(mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    match manner {
        Manner::Polite | Manner::Close => return Ok(()),
        Manner::Silent => {}
        Manner::Http1 => {
            let reply = "HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n";
            stream.write_all(reply.as_bytes()).await?;
            return stream.shutdown().await;
        }
        Manner::GoAwayBeforeFirst => {
            wait_for_call(&mut stream).await?;
            // Last stream 0, error NO_ERROR.
            write_frame(&mut stream, GOAWAY, &[0; 8]).await?;
        }
        Manner::Garbage => {
            wait_for_call(&mut stream).await?;
            // SETTINGS whose length is no multiple of six.
            write_frame(&mut stream, SETTINGS, &[0; 5]).await?;
        }
    }
    // Reads until the other side closes, which must be its decision.
    let mut rest = [0; 4096];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const PREFACE: usize = 24;

/// Goes through the handshake and reads frames up to the first request.
async fn wait_for_call(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE]).await?;
    write_frame(stream, SETTINGS, &[]).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)];
        stream.read_exact(&mut payload).await?;
        if kind == HEADERS {
            return Ok(());
        }
        if kind == SETTINGS && flags & ACK == 0 {
            stream.write_all(&[0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]).await?;
        }
    }
}

/// Writes a frame on stream 0 without flags.
async fn write_frame(stream: &mut TcpStream, kind: u8, payload: &[u8]) -> std::io::Result<()> {
    let length = u8::try_from(payload.len()).expect("these frames are short");
    stream.write_all(&[0, 0, length, kind, 0, 0, 0, 0, 0]).await?;
    stream.write_all(payload).await
}
