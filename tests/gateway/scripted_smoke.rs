//! The scripted backends of the other tests, called with an h2 client and no gateway between.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request};
use tokio::net::TcpStream;

use crate::support::backend::act::{self, Step};
use crate::support::backend::pb::SayReply;
use crate::support::backend::raw::Manner;
use crate::support::backend::scripted::{self, Scripted, Settings};

/// What came back for one call.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: HeaderMap,
    body: Vec<u8>,
    trailers: HeaderMap,
}

/// Makes one call on a connection of its own.
async fn call(backend: &Scripted) -> Result<Answer, h2::Error> {
    let stream = TcpStream::connect(backend.address).await.expect("the backend listens");
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let request = Request::post("http://backend/portico.test.v1.Echo/Say").body(()).expect("a good request");
    let (response, mut body) = client.ready().await?.send_request(request, false)?;
    body.send_data(act::framed(b""), true)?;
    let (head, mut body) = response.await?.into_parts();
    let mut answer =
        Answer { status: head.status.as_u16(), head: head.headers, body: Vec::new(), trailers: HeaderMap::new() };
    while let Some(bytes) = body.data().await {
        let bytes: Bytes = bytes?;
        body.flow_control().release_capacity(bytes.len())?;
        answer.body.extend_from_slice(&bytes);
    }
    answer.trailers = body.trailers().await?.unwrap_or_default();
    driver.abort();
    Ok(answer)
}

fn message() -> SayReply {
    SayReply { text: "hi".into(), ..SayReply::default() }
}

#[tokio::test]
async fn follows_its_script_call_by_call() {
    let script = vec![act::refuse(), act::text(503, "down"), act::trailers_only(1010, "odd"), act::reply(&message())];
    let backend = scripted::start(script).await;

    assert_eq!(call(&backend).await.unwrap_err().reason(), Some(Reason::REFUSED_STREAM));
    let text = call(&backend).await.unwrap();
    assert_eq!((text.status, text.body.as_slice()), (503, &b"down"[..]));
    assert_eq!(call(&backend).await.unwrap().head["grpc-status"], "1010");
    for _ in 0..2 {
        let reply = call(&backend).await.unwrap();
        assert_eq!(
            (reply.body.as_slice(), &reply.trailers["grpc-status"]),
            (&[0, 0, 0, 0, 4, 10, 2, b'h', b'i'][..], &"0".parse().unwrap())
        );
    }

    let calls = backend.calls();
    assert_eq!(calls[4].connection, 4);
    assert_eq!(calls[4].body, [0; 5]);
    assert_eq!(calls[4].seen.path, "/portico.test.v1.Echo/Say");
}

#[tokio::test]
async fn ends_replies_the_wrong_way() {
    let script = vec![
        act::no_trailers(&message()),
        act::reset_after_message(&message(), Reason::INTERNAL_ERROR),
        act::close_after_message(&message()),
        vec![Step::Read, Step::Abort(Reason::ENHANCE_YOUR_CALM), Step::Hold],
    ];
    let backend = scripted::start(script).await;

    assert!(call(&backend).await.unwrap().trailers.is_empty());
    assert_eq!(call(&backend).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    call(&backend).await.unwrap_err();
    // The call counts as looked at, so that h2 tells of the closed connection and not of the GOAWAY before it.
    assert!(call(&backend).await.unwrap_err().is_io());
}

#[tokio::test]
async fn finishes_a_call_after_goaway() {
    let backend = scripted::start(vec![act::go_away_in_the_middle(&message())]).await;

    let answer = call(&backend).await.unwrap();

    assert_eq!(answer.body.len(), 18);
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn records_why_a_call_was_given_up() {
    let backend = scripted::start(vec![act::hold()]).await;
    let given_up = tokio::time::timeout(std::time::Duration::from_millis(50), call(&backend)).await;

    given_up.unwrap_err();

    backend.tally.until(|counts| counts.cancelled == 1).await;
    assert_eq!(backend.calls()[0].reset, Some(Reason::CANCEL));
}

#[tokio::test]
async fn treats_connections_as_it_is_told_to() {
    let manners = vec![Manner::GoAwayBeforeFirst, Manner::Garbage, Manner::Http1, Manner::Close, Manner::Polite];
    let backend = scripted::start_with(Settings { manners, ..Settings::default() }, vec![act::head_only()]).await;

    let away = call(&backend).await.unwrap_err();
    assert!(away.is_go_away() && away.is_remote() && away.reason() == Some(Reason::NO_ERROR), "{away:?}");
    let garbage = call(&backend).await.unwrap_err();
    assert!(garbage.reason().is_some() && !garbage.is_remote(), "{garbage:?}");
    call(&backend).await.unwrap_err();
    call(&backend).await.unwrap_err();
    assert_eq!(call(&backend).await.unwrap().status, 200);
}
