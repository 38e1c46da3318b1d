//! The echo service: see the comments of its `.proto` file.

use std::time::Duration;

use base64::Engine;
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Code, Extensions, Request, Response, Status, Streaming};

use super::pb::google::api::HttpBody;
use super::pb::{self, Behaviour, CollectReply, Failure, Kinds, SayReply, SayRequest, UploadRequest, echo_server};
use super::respond::Trailers;
use super::seen::BASE64;
use super::{Seen, Tally};

/// The service. Its calls count in the tally, but for those that only return what they got.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    tally: Tally,
}

impl Echo {
    pub(crate) fn new(tally: Tally) -> Self {
        Self { tally }
    }

    /// Takes an upload.
    async fn take(
        &self,
        mut messages: impl Stream<Item = Result<UploadRequest, Status>> + Unpin,
    ) -> Result<Response<CollectReply>, Status> {
        let ongoing = self.tally.begin();
        let mut reply = CollectReply::default();
        while let Some(message) = messages.next().await {
            let UploadRequest { name, note, file } = message?;
            let HttpBody { content_type, data, .. } = file.unwrap_or_default();
            self.tally.change(|counts| counts.received += 1);
            reply.bytes += i64::try_from(data.len()).unwrap_or(i64::MAX);
            reply.texts.push(format!("{name}:{content_type}:{note}"));
        }
        ongoing.finish();
        Ok(Response::new(reply))
    }

    /// Runs a stream's work beside its reply, and ends it when the other side is gone.
    fn stream<T: Send + 'static, Work: Future<Output = ()> + Send + 'static>(
        &self,
        work: impl FnOnce(Outlet<T>) -> Work,
    ) -> ReceiverStream<Result<T, Status>> {
        let (sender, receiver) = mpsc::channel(1);
        let work = work(Outlet { sender: sender.clone(), tally: self.tally.clone() });
        let ongoing = self.tally.begin();
        tokio::spawn(async move {
            tokio::select! {
                () = sender.closed() => {}
                () = work => ongoing.finish(),
            }
        });
        ReceiverStream::new(receiver)
    }

    /// Sends as many replies as wanted, each made from its number.
    fn repeat<T: Send + 'static>(
        &self,
        behaviour: Behaviour,
        reply: impl Fn(i32) -> T + Send + 'static,
    ) -> ReceiverStream<Result<T, Status>> {
        self.stream(move |outlet| async move {
            let count = if ends_before_first(&behaviour) { 0 } else { behaviour.count.max(1) };
            for index in 0..count {
                pause(&behaviour).await;
                outlet.put(Ok(reply(index))).await;
            }
            if let Err(status) = ending(&behaviour).await {
                outlet.put(Err(status)).await;
            }
        })
    }
}

#[tonic::async_trait]
impl echo_server::Echo for Echo {
    async fn say(&self, request: Request<SayRequest>) -> Result<Response<SayReply>, Status> {
        let ongoing = self.tally.begin();
        let seen = seen(request.extensions());
        let SayRequest { text, behaviour } = request.into_inner();
        let behaviour = behaviour.unwrap_or_default();
        pause(&behaviour).await;
        let ended = ending(&behaviour).await;
        ongoing.finish();
        ended?;
        Ok(dressed(reply(text, &seen, &behaviour, 0), &behaviour))
    }

    async fn plain(&self, request: Request<SayRequest>) -> Result<Response<SayReply>, Status> {
        self.say(request).await
    }

    type RepeatStream = ReceiverStream<Result<SayReply, Status>>;

    async fn repeat(&self, request: Request<SayRequest>) -> Result<Response<Self::RepeatStream>, Status> {
        let seen = seen(request.extensions());
        let SayRequest { text, behaviour } = request.into_inner();
        let behaviour = behaviour.unwrap_or_default();
        let how = behaviour.clone();
        let replies = Self::repeat(self, behaviour.clone(), move |index| reply(text.clone(), &seen, &how, index));
        Ok(dressed(replies, &behaviour))
    }

    async fn collect(&self, request: Request<Streaming<SayRequest>>) -> Result<Response<CollectReply>, Status> {
        let ongoing = self.tally.begin();
        let seen = seen(request.extensions());
        let mut messages = request.into_inner();
        let mut reply = CollectReply { metadata: seen.metadata(), ..CollectReply::default() };
        let mut first = None;
        while let Some(message) = messages.message().await? {
            self.tally.change(|counts| counts.received += 1);
            reply.bytes += i64::try_from(message.encoded_len()).unwrap_or(i64::MAX);
            reply.texts.push(message.text);
            if first.get_or_insert_with(|| message.behaviour.unwrap_or_default()).stop_reading {
                break;
            }
        }
        let behaviour = first.unwrap_or_default();
        pause(&behaviour).await;
        let ended = ending(&behaviour).await;
        ongoing.finish();
        ended?;
        Ok(dressed(reply, &behaviour))
    }

    async fn upload(&self, request: Request<Streaming<HttpBody>>) -> Result<Response<CollectReply>, Status> {
        let whole = |body| UploadRequest { file: Some(body), ..UploadRequest::default() };
        self.take(request.into_inner().map(move |body| body.map(whole))).await
    }

    async fn upload_named(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<CollectReply>, Status> {
        self.take(request.into_inner()).await
    }

    async fn receive(&self, request: Request<UploadRequest>) -> Result<Response<CollectReply>, Status> {
        self.take(tokio_stream::once(Ok(request.into_inner()))).await
    }

    type ConverseStream = ReceiverStream<Result<SayReply, Status>>;

    async fn converse(
        &self,
        request: Request<Streaming<SayRequest>>,
    ) -> Result<Response<Self::ConverseStream>, Status> {
        let seen = seen(request.extensions());
        let mut messages = request.into_inner();
        let tally = self.tally.clone();
        let replies = self.stream(move |outlet| async move {
            let mut index = 0;
            loop {
                let SayRequest { text, behaviour } = match messages.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => return,
                    // The caller broke off: goes on until that shows at the outlet too, so that it counts as such.
                    Err(_) => return std::future::pending().await,
                };
                tally.change(|counts| counts.received += 1);
                let behaviour = behaviour.unwrap_or_default();
                pause(&behaviour).await;
                if let Err(status) = ending(&behaviour).await {
                    return outlet.put(Err(status)).await;
                }
                outlet.put(Ok(reply(text, &seen, &behaviour, index))).await;
                if behaviour.stop_reading {
                    return std::future::pending().await;
                }
                index += 1;
            }
        });
        Ok(Response::new(replies))
    }

    async fn identity(&self, request: Request<Kinds>) -> Result<Response<Kinds>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn raw(&self, request: Request<HttpBody>) -> Result<Response<HttpBody>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    type DownloadStream = ReceiverStream<Result<HttpBody, Status>>;

    async fn download(&self, request: Request<SayRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let SayRequest { text, behaviour } = request.into_inner();
        let behaviour = behaviour.unwrap_or_default();
        let payload = "x".repeat(usize::try_from(behaviour.payload_bytes).unwrap_or_default());
        let pieces = Self::repeat(self, behaviour.clone(), move |index| HttpBody {
            content_type: "text/plain".into(),
            data: format!("{text} {index}\n{payload}").into(),
            extensions: Vec::new(),
        });
        Ok(dressed(pieces, &behaviour))
    }

    async fn missing(
        &self,
        _: Request<pb::google::protobuf::Empty>,
    ) -> Result<Response<pb::google::protobuf::Empty>, Status> {
        Err(Status::unimplemented("no such method here"))
    }
}

/// Where a stream's work puts its replies.
struct Outlet<T> {
    sender: mpsc::Sender<Result<T, Status>>,
    tally: Tally,
}

impl<T> Outlet<T> {
    async fn put(&self, reply: Result<T, Status>) {
        let is_message = reply.is_ok();
        // Fails when the other side is gone, which ends the work anyway.
        if self.sender.send(reply).await.is_ok() && is_message {
            self.tally.change(|counts| counts.sent += 1);
        }
    }
}

fn seen(extensions: &Extensions) -> Seen {
    extensions.get::<Seen>().cloned().expect("every request is noted before it comes here")
}

fn reply(text: String, seen: &Seen, behaviour: &Behaviour, index: i32) -> SayReply {
    let payload = vec![b'x'; usize::try_from(behaviour.payload_bytes).unwrap_or_default()];
    SayReply { text, metadata: seen.metadata(), payload, index }
}

async fn pause(behaviour: &Behaviour) {
    if let Some(delay) = behaviour.delay {
        let seconds = u64::try_from(delay.seconds).unwrap_or_default();
        tokio::time::sleep(Duration::new(seconds, u32::try_from(delay.nanos).unwrap_or_default())).await;
    }
}

/// A stream that stalls or fails has no message unless it asks for some.
fn ends_before_first(behaviour: &Behaviour) -> bool {
    behaviour.count == 0 && (behaviour.stall || behaviour.failure.is_some())
}

async fn ending(behaviour: &Behaviour) -> Result<(), Status> {
    if behaviour.stall {
        std::future::pending::<()>().await;
    }
    match &behaviour.failure {
        Some(failure) => Err(status(failure, metadata(&behaviour.trailers))),
        None => Ok(()),
    }
}

fn status(Failure { code, message, details, raw_details }: &Failure, trailers: HeaderMap) -> Status {
    let bytes = if !raw_details.is_empty() {
        raw_details.clone()
    } else if details.is_empty() {
        Vec::new()
    } else {
        let details = details
            .iter()
            .map(|any| portico::pb::google::protobuf::Any { type_url: any.type_url.clone(), value: any.value.clone() });
        let status =
            portico::pb::google::rpc::Status { code: *code, message: message.clone(), details: details.collect() };
        status.encode_to_vec()
    };
    let trailers = MetadataMap::from_headers(trailers);
    Status::with_details_and_metadata(Code::from(*code), message, bytes.into(), trailers)
}

/// Adds the headers and trailers that were asked for.
fn dressed<T>(message: T, behaviour: &Behaviour) -> Response<T> {
    let metadata_of_reply = MetadataMap::from_headers(metadata(&behaviour.headers));
    let mut response = Response::from_parts(metadata_of_reply, message, Extensions::default());
    response.extensions_mut().insert(Trailers(metadata(&behaviour.trailers)));
    response
}

fn metadata(entries: &[pb::Header]) -> HeaderMap {
    let entry = |pb::Header { name, value }: &pb::Header| {
        let value = if name.ends_with("-bin") { BASE64.encode(value).into_bytes() } else { value.clone() };
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the test asks for a valid header name");
        (name, HeaderValue::from_bytes(&value).expect("the test asks for a valid header value"))
    };
    let mut metadata = HeaderMap::new();
    for (name, value) in entries.iter().map(entry) {
        metadata.append(name, value);
    }
    metadata
}
