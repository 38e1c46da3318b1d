//! Native gRPC beyond what every kind of method does: framing, heads and unknown methods.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

use crate::support::backend::pb::{Behaviour, Header, SayReply, SayRequest};
use crate::support::backend::{self, act, scripted};
use crate::support::client::{Client, Version, request};
use crate::support::gateway::{TestGateway, upstream};
use crate::support::grpc::{Answer, COLLECT, CONVERSE, REPEAT, Raw, SAY, framed};

fn say(text: &str) -> SayRequest {
    SayRequest { text: text.into(), ..SayRequest::default() }
}

fn reply(text: &str) -> SayReply {
    SayReply { text: text.into(), ..SayReply::default() }
}

/// What the backend saw under that name, in order.
fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let metadata = answer.messages::<SayReply>().remove(0).metadata;
    let values = metadata.into_iter().filter(|header: &Header| header.name == name);
    values.map(|header| String::from_utf8(header.value).expect("ASCII")).collect()
}

#[tokio::test]
async fn unary_requests_have_exactly_one_message() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;
    let one = framed(&say("a"));

    for path in [SAY, REPEAT] {
        let none = client.call(path, &[], "").await;
        let mut late = client.begin(path, &[], false).await;
        late.send("", true);
        let late = late.answer().await.unwrap();
        let two = client.call(path, &[], [&*one, &*one].concat()).await;

        for (answer, number) in [(none, "none"), (late, "none"), (two, "more")] {
            assert_eq!(answer.code(), 12, "{path} {answer:?}");
            assert!(answer.message().ends_with(number), "{}", answer.message());
        }
    }
    for path in [COLLECT, CONVERSE] {
        assert_eq!(client.call(path, &[], "").await.code(), 0, "{path}");
        assert_eq!(client.call(path, &[], [&*one, &*one].concat()).await.code(), 0, "{path}");
    }
}

#[tokio::test]
async fn broken_frames_are_internal_errors_that_say_what_is_wrong() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    for path in [SAY, REPEAT, COLLECT, CONVERSE] {
        let flag = client.call(path, &[], &b"\x07\0\0\0\x01x"[..]).await;
        let message = client.call(path, &[], &b"\0\0\0\0\x09abc"[..]).await;
        let prefix = client.call(path, &[], &b"\0\0\0"[..]).await;

        assert_eq!(
            (flag.code(), message.code(), prefix.code()),
            (13, 13, 13),
            "{path} {flag:?} {message:?} {prefix:?}"
        );
        assert!(flag.message().contains("compression flag 7"), "{}", flag.message());
        assert!(message.message().contains("inside a message") && prefix.message().contains("inside a message"));
        assert!(!flag.headers["x-request-id"].is_empty());
    }
    backend.tally.until(|counts| counts.started == counts.cancelled + counts.finished).await;
}

#[tokio::test]
async fn compressed_messages_pass_as_they_are() {
    let options = backend::Options { gzip: true, ..backend::Options::default() };
    let backend = backend::start_with(options).await;
    let gateway = TestGateway::over(backend.address).await;
    let gzip = tonic::codec::CompressionEncoding::Gzip;
    let mut client = backend::client(gateway.address).await.send_compressed(gzip).accept_compressed(gzip);

    let reply = client.say(say(&"z".repeat(5000))).await.unwrap();

    assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(reply.into_inner().text.len(), 5000);
}

#[tokio::test]
async fn statuses_outside_the_table_and_trailers_only_pass_untouched() {
    let script = vec![act::trailers_only(1010, "a%20b"), act::fails(2021, "caf%C3%A9"), act::trailers_only(0, "")];
    let backend = scripted::start(script).await;
    let gateway = TestGateway::start(&known(&[("echo", backend.address, "")])).await;
    let mut client = Raw::connect(gateway.address).await;

    // A server stream, which may end without a message.
    let first = client.call(REPEAT, &[], framed(&say(""))).await;
    let second = client.call(REPEAT, &[], framed(&say(""))).await;
    let third = client.call(REPEAT, &[], framed(&say(""))).await;

    assert!(first.is_trailers_only() && !second.is_trailers_only() && third.is_trailers_only());
    assert_eq!((first.code(), first.headers["grpc-message"].to_str().unwrap()), (1010, "a%20b"));
    assert_eq!((second.code(), second.trailers["grpc-message"].to_str().unwrap()), (2021, "caf%C3%A9"));
    assert_eq!(third.code(), 0);
}

#[tokio::test]
async fn a_status_in_the_head_ends_the_call_whatever_else_is_there() {
    let text = [("content-type", "text/plain"), ("grpc-status", "5")];
    let body = act::Step::Data(framed(&say("")));
    let script = vec![
        vec![act::Step::HeadAndEnd(200, act::entries(&[("grpc-status", "5")]))],
        vec![act::Step::HeadAndEnd(404, act::entries(&text))],
        vec![act::Step::Head(200, act::entries(&text)), body, act::Step::End],
    ];
    let backend = scripted::start(script).await;
    let gateway = TestGateway::start(&known(&[("echo", backend.address, "")])).await;
    let mut client = Raw::connect(gateway.address).await;

    for _ in 0..3 {
        let answer = client.call(SAY, &[], framed(&say(""))).await;

        assert!(answer.is_trailers_only());
        assert_eq!((answer.code(), answer.headers["content-type"].to_str().unwrap()), (5, "application/grpc"));
    }
}

/// Upstreams with the echo schema from a file, and more keys for each.
fn known(upstreams: &[(&str, std::net::SocketAddr, &str)]) -> String {
    let set = concat!(env!("OUT_DIR"), "/test/echo.binpb");
    let items = upstreams.iter().map(|(name, address, more)| {
        format!("  - {{ name: {name}, endpoints: [\"{address}\"], schema: {{ descriptor_set: \"{set}\" }}{more} }}\n")
    });
    format!("upstreams:\n{}", items.collect::<String>())
}

#[tokio::test]
async fn methods_that_no_schema_knows_go_to_the_only_upstream() {
    let backend = scripted::start(vec![act::reply(&reply("yes"))]).await;
    let gateway = TestGateway::start(&known(&[("echo", backend.address, "")])).await;
    let mut client = Raw::connect(gateway.address).await;

    let method = client.call("/portico.test.v1.Echo/Newer", &[], framed(&say(""))).await;
    let service = client.call("/other.v1.Thing/Do", &[], framed(&say(""))).await;

    assert_eq!((method.code(), service.code()), (0, 0));
    let paths: Vec<_> = backend.calls().into_iter().map(|call| call.seen.path).collect();
    assert_eq!(paths, ["/portico.test.v1.Echo/Newer", "/other.v1.Thing/Do"]);
}

#[tokio::test]
async fn policies_hold_for_methods_that_no_schema_knows() {
    let backend = scripted::start(vec![act::reply(&reply(&"long".repeat(10)))]).await;
    let policy = "policies: [ { match: other.v1.Thing/Do, limits: { response_message: 16B } } ]\n";
    let gateway = TestGateway::start(&(known(&[("echo", backend.address, "")]) + policy)).await;
    let mut client = Raw::connect(gateway.address).await;

    let answer = client.call("/other.v1.Thing/Do", &[], framed(&say(""))).await;

    assert_eq!(answer.code(), 8);
    assert!(answer.message().contains("limit of 16"), "{}", answer.message());
}

#[tokio::test]
async fn methods_that_no_schema_knows_need_a_pattern_among_several_upstreams() {
    let first = scripted::start(vec![act::reply(&reply("first"))]).await;
    let second = scripted::start(vec![act::reply(&reply("second"))]).await;
    let yaml = known(&[
        ("first", first.address, ", services: [\"portico.test.v1.Echo\"]"),
        ("second", second.address, ", services: [\"other.v1.*\"]"),
    ]);
    let gateway = TestGateway::start(&yaml).await;
    let mut client = Raw::connect(gateway.address).await;

    let declared = client.call(SAY, &[], framed(&say(""))).await;
    let named = client.call("/other.v1.Thing/Do", &[], framed(&say(""))).await;
    let nobody = client.call("/third.v1.Thing/Do", &[], framed(&say(""))).await;

    assert_eq!(declared.messages::<SayReply>()[0].text, "first");
    assert_eq!(named.messages::<SayReply>()[0].text, "second");
    assert_eq!((nobody.code(), nobody.is_trailers_only()), (12, true));
    assert!(nobody.message().contains("/third.v1.Thing/Do"));
}

#[tokio::test]
async fn paths_that_are_no_method_are_refused_as_grpc() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    for path in
        ["/", "//", "/x", "/a.B/", "/a.B/C/D", "/a..B/C", "/a.B/C%20D", "/a.B/../C", "/portico.test.v1.Echo/Say/"]
    {
        let answer = client.call(path, &[], framed(&say(""))).await;

        assert_eq!((answer.status, answer.code()), (StatusCode::OK, 12), "{path} {answer:?}");
        assert!(answer.is_trailers_only(), "{path}");
    }
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn grpc_needs_post_and_http_2() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;
    let grpc = [("content-type", "application/grpc"), ("te", "trailers")];

    let get = client.begin_as(Method::GET, SAY, act::entries(&grpc), true).await.answer().await.unwrap();
    let mut http1 = Client::connect(gateway.address, Version::Http1).await;
    let http1 = http1.send(request(Method::POST, SAY, &grpc[..1], "\0\0\0\0\0")).await;

    assert_eq!(get.code(), 12, "{get:?}");
    assert!(get.message().contains("POST"), "{}", get.message());
    assert_eq!((http1.status, &http1.headers["grpc-status"]), (StatusCode::OK, &"12".parse().unwrap()), "{http1:?}");
    assert_eq!(backend.tally.counts().started, 0);
}

#[tokio::test]
async fn malformed_deadlines_are_refused() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    for value in ["", "5", "S", "-1S", "1.5S", "123456789S", "1s"] {
        let answer = client.call(SAY, &[("grpc-timeout", value)], framed(&say(""))).await;

        assert_eq!(answer.code(), 3, "{value:?} {answer:?}");
        assert!(answer.message().contains("grpc-timeout"));
    }
    let passed = client.call(SAY, &[("grpc-timeout", "0n")], framed(&say(""))).await;
    assert_eq!(passed.code(), 4);
}

#[tokio::test]
async fn unary_methods_have_a_timeout_of_their_own() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", timeout: { unary: 100ms } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let stall = SayRequest { behaviour: Some(Behaviour { stall: true, ..Behaviour::default() }), ..say("") };

    let answer = client.call(SAY, &[("grpc-timeout", "1H")], framed(&stall)).await;

    assert_eq!(answer.code(), 4);
    assert!(answer.message().contains("100ms"), "{}", answer.message());
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn streams_that_stand_still_are_ended() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", timeout: { stream_idle: 300ms } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let delay = prost_duration(100);
    let slow = Behaviour { count: 6, delay: Some(delay), stall: true, ..Behaviour::default() };

    let answer = client.call(REPEAT, &[], framed(&SayRequest { behaviour: Some(slow), ..say("") })).await;

    assert_eq!((answer.messages::<SayReply>().len(), answer.code()), (6, 4));
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

#[tokio::test]
async fn streams_end_after_their_time_however_much_they_move() {
    let backend = backend::start().await;
    let policy = "policies: [ { match: \"*\", timeout: { stream: 400ms, stream_idle: 5s, unary: none } } ]\n";
    let gateway = TestGateway::start(&(upstream("echo", backend.address) + policy)).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let steady = Behaviour { count: 1000, delay: Some(prost_duration(20)), ..Behaviour::default() };

    let request = framed(&SayRequest { behaviour: Some(steady), ..say("") });
    let answer = client.call(REPEAT, &[("grpc-timeout", "1H")], request).await;

    assert_eq!(answer.code(), 4);
    assert!(!answer.messages::<SayReply>().is_empty() && answer.message().contains("400ms"), "{}", answer.message());
    backend.tally.until(|counts| counts.cancelled == 1).await;
}

fn prost_duration(millis: i32) -> backend::pb::google::protobuf::Duration {
    backend::pb::google::protobuf::Duration { seconds: 0, nanos: millis * 1_000_000 }
}

#[tokio::test]
async fn gateway_headers_are_made_and_those_of_the_client_are_not_believed() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;
    let claims =
        [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "bank"), ("x-kept", "1")];

    let answer = client.call(SAY, &claims, framed(&say(""))).await;

    assert_eq!(seen(&answer, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen(&answer, "x-forwarded-proto"), ["http"]);
    assert_eq!(seen(&answer, "x-forwarded-host"), [gateway.address.to_string()]);
    assert_eq!(seen(&answer, "x-kept"), ["1"]);
    assert_eq!(seen(&answer, "te"), ["trailers"]);
    assert_eq!(seen(&answer, ":authority"), [backend.address.to_string()]);
    assert_eq!(seen(&answer, "x-request-id"), [answer.headers["x-request-id"].to_str().unwrap()]);
    let traceparent = seen(&answer, "traceparent").remove(0);
    assert!(traceparent.starts_with("00-") && traceparent.len() == 55, "{traceparent}");
    assert_eq!(answer.headers["traceparent"], traceparent);
}

#[tokio::test]
async fn what_belongs_to_the_edge_does_not_reach_services() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;
    let sent = [
        ("forwarded", "for=6.6.6.6"),
        ("x-forwarded-port", "1"),
        ("x-envoy-original-path", "/"),
        ("x-envoy-internal", "true"),
        ("x_forwarded_client_cert", "URI=spiffe://example.org/x"),
        ("x_forwarded-for", "6.6.6.6"),
        ("x-forwarded.proto", "https"),
        ("x-server-timeout", "7"),
        ("request-timeout", "7"),
    ];

    let answer = client.call(SAY, &sent, framed(&say(""))).await;

    for (name, _) in sent {
        assert_eq!(seen(&answer, name), [""; 0], "{name}");
    }
    assert!(seen(&answer, "grpc-timeout")[0].starts_with('6'), "{:?}", seen(&answer, "grpc-timeout"));
}

#[tokio::test]
async fn every_reply_says_which_trace_it_belongs_to() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = Raw::connect(gateway.address).await;

    for (path, body) in [
        (SAY, framed(&say(""))),
        (SAY, bytes::Bytes::new()),
        ("/nobody.Here/Do", bytes::Bytes::new()),
        ("/grpc.health.v1.Health/Check", framed(&())),
    ] {
        let answer = client.call(path, &[("traceparent", PARENT)], body).await;
        assert_eq!(answer.headers["traceparent"], PARENT, "{path}");
    }
}

#[tokio::test]
async fn a_status_reaches_the_client_once() {
    let twice = [("grpc-status", "5"), ("grpc-message", "first"), ("grpc-status", "0"), ("grpc-message", "second")];
    let head = [&[("content-type", "application/grpc")][..], &twice].concat();
    let trailers = act::Step::Trailers(act::entries(&twice));
    let script = vec![
        vec![act::Step::Read, act::Step::HeadAndEnd(200, act::entries(&head))],
        vec![act::Step::Read, act::grpc_head(&[]), trailers.clone()],
        vec![act::Step::Read, act::Step::Head(200, act::entries(&head)), act::Step::Data(framed(&reply(""))), trailers],
    ];
    let backend = scripted::start(script).await;
    let gateway = TestGateway::start(&known(&[("echo", backend.address, "")])).await;
    let mut client = Raw::connect(gateway.address).await;

    for _ in 0..3 {
        let answer = client.call(REPEAT, &[], framed(&say(""))).await;

        for (name, expected) in &twice[..2] {
            let values = [&answer.headers, &answer.trailers].map(|map| map.get_all(*name).iter().collect::<Vec<_>>());
            assert_eq!(values.concat(), [expected], "{answer:?}");
        }
    }
}

#[tokio::test]
async fn trusted_proxies_are_believed_and_the_authority_is_as_configured() {
    let backend = backend::start().await;
    let yaml = format!(
        "listeners: [ {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8] }} ]\n\
         upstreams: [ {{ name: echo, endpoints: [\"{}\"], schema: {{ reflection: {{}} }}, authority: echo.internal }} ]\n",
        backend.address
    );
    let gateway = TestGateway::start(&yaml).await;
    gateway.ready().await;
    let mut client = Raw::connect(gateway.address).await;
    let sent = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "bank"),
        ("x-request-id", "mine-1"),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=b"),
    ];

    let answer = client.call(SAY, &sent, framed(&say(""))).await;

    assert_eq!(seen(&answer, "x-forwarded-for"), ["6.6.6.6, 127.0.0.1"]);
    assert_eq!(
        (seen(&answer, "x-forwarded-proto"), seen(&answer, "x-forwarded-host")),
        (vec!["https".into()], vec!["bank".into()])
    );
    assert_eq!(seen(&answer, ":authority"), ["echo.internal"]);
    assert_eq!(seen(&answer, "x-request-id"), ["mine-1"]);
    assert_eq!(answer.headers["x-request-id"], "mine-1");
    assert!(seen(&answer, "traceparent")[0].starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
    assert_eq!(seen(&answer, "tracestate"), ["a=b"]);
}

#[tokio::test]
async fn a_real_client_talks_through_the_gateway() {
    let backend = backend::start().await;
    let gateway = TestGateway::over(backend.address).await;
    let mut client = backend::client(gateway.address).await;
    let mut request = tonic::Request::new(say("hello"));
    request.set_timeout(Duration::from_secs(5));

    let unary = client.say(request).await.unwrap().into_inner();
    let collected = client.collect(tokio_stream::iter([say("a"), say("b")])).await.unwrap().into_inner();
    let mut replies = client.converse(tokio_stream::iter([say("c")])).await.unwrap().into_inner();
    let missing = client.missing(backend::pb::google::protobuf::Empty {}).await;

    assert_eq!((&*unary.text, collected.texts), ("hello", vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(replies.message().await.unwrap().unwrap().text, "c");
    assert!(replies.message().await.unwrap().is_none());
    assert_eq!(missing.unwrap_err().code(), tonic::Code::Unimplemented);
}

#[tokio::test]
async fn reply_heads_lose_nothing_but_their_connection_headers() {
    let entries = [
        ("content-type", "application/grpc+proto"),
        ("set-cookie", "a=1"),
        ("set-cookie", "b=2"),
        ("x-request-id", "theirs"),
    ];
    let mut trailers = act::entries(&[("grpc-status", "0"), ("x-trailer", "t")]);
    trailers.append("x-trailer", "u".parse().unwrap());
    let script = vec![
        act::Step::Read,
        act::Step::Head(200, act::entries(&entries)),
        act::Step::Data(framed(&reply(""))),
        act::Step::Trailers(trailers),
    ];
    let backend = scripted::start(vec![script]).await;
    let gateway = TestGateway::start(&known(&[("echo", backend.address, "")])).await;
    let mut client = Raw::connect(gateway.address).await;

    let answer = client.call(SAY, &[("x-request-id", "ours")], framed(&say(""))).await;

    let all = |map: &HeaderMap, name: &str| {
        map.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(all(&answer.headers, "content-type"), ["application/grpc+proto"]);
    assert_eq!(all(&answer.headers, "set-cookie"), ["a=1", "b=2"]);
    assert_eq!(all(&answer.headers, "x-request-id"), ["ours"]);
    assert_eq!(all(&answer.trailers, "x-trailer"), ["t", "u"]);
}
