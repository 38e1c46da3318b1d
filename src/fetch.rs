//! Asks a server of the operator's over HTTP/1.1, on the control runtime: keys of issuers, and what a token means.
//!
//! One request on a connection of its own, because there are few. **Invariant**: nothing is followed, retried or read
//! beyond its bounds: no redirects, a time for everything, a size for the body.

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::authentication::Server;

/// What is asked.
#[derive(Debug)]
pub struct Question {
    /// Beside `host`.
    pub headers: HeaderMap,
    /// POST with this body, or GET.
    pub body: Option<Bytes>,
    /// Bytes of the answer's body at most.
    pub limit: usize,
}

/// What a server said under 200.
#[derive(Debug)]
pub struct Answer {
    /// Of the reply.
    pub headers: HeaderMap,
    /// Whole.
    pub body: Bytes,
}

/// Asks once.
///
/// # Errors
/// In words: there is no connection, the reply is not 200, too large, or too late.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn ask(server: &Server, question: Question) -> Result<Answer, String> {
    match timeout(server.timeout, talk(server, question)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer from {} within {:?}", server.url, server.timeout)),
    }
}

async fn talk(server: &Server, question: Question) -> Result<Answer, String> {
    let url = &server.url;
    let address = url.address();
    let stream =
        TcpStream::connect(&*address).await.map_err(|error| format!("cannot connect to {address}: {error}"))?;
    stream.set_nodelay(true).ok();
    let Some(tls) = &server.tls else { return over(stream, server, question).await };
    let name = tls.name_at(url.host())?;
    let stream = TlsConnector::from(tls.client()).connect(name, stream).await;
    over(stream.map_err(|error| format!("TLS handshake with {address} failed: {error}"))?, server, question).await
}

async fn over<S>(stream: S, server: &Server, question: Question) -> Result<Answer, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("{} broke off: {error}", server.url);
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .handshake::<_, Full<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let reply = async {
        let reply = sender.send_request(request(server, &question)?).await.map_err(broken)?;
        let (head, mut body) = reply.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("{} answered {}", server.url, head.status));
        }
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
            if whole.len() + data.len() > question.limit {
                return Err(format!("{} answered more than {} bytes", server.url, question.limit));
            }
            whole.extend_from_slice(&data);
        }
        Ok(Answer { headers: head.headers, body: whole.freeze() })
    };
    // The connection is driven here, so that it ends with the answer.
    let mut connection = std::pin::pin!(connection);
    let mut reply = std::pin::pin!(reply);
    tokio::select! {
        biased;
        answer = &mut reply => answer,
        // What it has read by then is still the answer.
        _ = &mut connection => reply.await,
    }
}

fn request(server: &Server, question: &Question) -> Result<Request<Full<Bytes>>, String> {
    let method = if question.body.is_some() { Method::POST } else { Method::GET };
    let body = Full::new(question.body.clone().unwrap_or_default());
    let mut request = Request::builder()
        .method(method)
        .uri(server.url.target())
        .body(body)
        .map_err(|error| format!("{} cannot be asked: {error}", server.url))?;
    let headers = request.headers_mut();
    *headers = question.headers.clone();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Ok(host) = HeaderValue::try_from(server.url.authority()) {
        headers.insert(HOST, host);
    }
    Ok(request)
}

/// Bytes of a reply's head.
const MAX_HEAD: usize = 64 << 10;
