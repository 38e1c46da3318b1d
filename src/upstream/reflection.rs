//! Asks an upstream for its descriptors by server reflection.
//!
//! One HTTP/2 connection of its own, one stream as long as the server keeps it: `list_services`, then the file of each
//! service, then imports that did not come along, and the messages that long-running operations are said to hold.
//! `grpc.reflection.v1` is tried first, `v1alpha` if that is not there; their messages are the same on the wire. This is
//! neither a pool nor a watcher: it fetches once and closes, and it links nothing. The bytes of each file stay as the
//! server sent them.
//!
//! What an upstream sends is not trusted: replies, files and time are bounded.
//!
//! Protocol: <https://github.com/grpc/grpc/blob/v1.76.0/doc/server-reflection.md>.

pub(super) mod exchange;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use hashbrown::{HashMap, HashSet};
use http::uri::{Authority, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};

use self::exchange::Exchange;
use super::transport::{ConnectError, Security};
use crate::grpc;
use crate::pb::grpc::reflection::v1::server_reflection_request::MessageRequest;
use crate::pb::grpc::reflection::v1::server_reflection_response::MessageResponse;
use crate::schema::set;

/// Both versions of the method, the newer one first.
const PATHS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];
/// Questions under way at once. Few enough that they fit the smallest window, so that asking never blocks answers.
const PIPELINE: usize = 16;
/// Longest name that is asked for, in bytes.
const MAX_NAME: usize = 512;
const MAX_SERVICES: usize = 10_000;
const MAX_FILES: usize = 10_000;
/// Messages in operations that are asked for.
const MAX_MESSAGES: usize = 10_000;
/// Bytes of files that are kept.
const MAX_BYTES: usize = 64 << 20;

/// Whom to ask.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port` to connect to.
    pub address: String,
    /// `:authority` of the requests.
    pub authority: String,
    /// In clear text or over TLS.
    pub security: Security,
    /// Time for the connection to be established.
    pub connect_timeout: Duration,
    /// Time for everything, connecting included.
    pub timeout: Duration,
}

/// What an upstream told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Encoded `FileDescriptorProto`s with everything they import, as far as the server or the vendored files have it.
    pub files: Vec<Bytes>,
    /// Full names of the services it serves, sorted, without health, reflection and channelz.
    pub services: Vec<String>,
    /// Services whose files did not come, and why.
    pub problems: Vec<(String, String)>,
}

/// Why nothing could be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address does not resolve or refuses connections.
    #[error("cannot connect to {address}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system or the server says.
        source: ConnectError,
    },
    /// It took too long.
    #[error("no complete answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The authority cannot stand in a request.
    #[error("authority {0:?} is not valid")]
    Authority(String),
    /// HTTP/2 failed, or the server does not speak it.
    #[error("the HTTP/2 connection failed (is it a gRPC server, and does `tls` say what it speaks?)")]
    Http2(#[from] h2::Error),
    /// The answer is no gRPC.
    #[error("the server answers HTTP status {0}, which is not gRPC")]
    NotGrpc(u16),
    /// The server has no reflection.
    #[error("the server offers no reflection, neither grpc.reflection.v1 nor v1alpha")]
    Unimplemented,
    /// The call ended.
    #[error("the server ends the call with gRPC status {code}: {message}")]
    Ended {
        /// gRPC status code; 0 also ends a call.
        code: u32,
        /// Its `grpc-message`, shortened.
        message: String,
    },
    /// The server answers the list of its services with an error.
    #[error("the server refuses: {0}")]
    Refused(String),
    /// The server sends more than is taken.
    #[error("{0}")]
    TooLarge(String),
    /// A reply breaks the protocol.
    #[error("the server breaks the protocol: {0}")]
    Malformed(&'static str),
}

/// Connects and fetches everything.
///
/// # Errors
/// The services cannot be listed, a bound is exceeded, or time is up. A service whose file does not come is a problem
/// of [`Fetched`] instead.
///
/// # Cancel safety
/// Dropping the future closes the connection.
pub async fn fetch(target: &Target) -> Result<Fetched, Error> {
    let connected = async {
        let connect = target.security.connect(&target.address);
        let failed = |source| Error::Connect { address: target.address.clone(), source };
        let stream = match tokio::time::timeout(target.connect_timeout, connect).await {
            Ok(connected) => connected.map_err(failed)?,
            Err(_) => return Err(failed(ConnectError::Tcp(io::ErrorKind::TimedOut.into()))),
        };
        fetch_over(stream, target.security.scheme(), &target.authority).await
    };
    tokio::time::timeout(target.timeout, connected).await.unwrap_or(Err(Error::Timeout(target.timeout)))
}

/// Fetches over a connection that is there already, however it is secured. Has no timeout of its own.
///
/// # Errors
/// As [`fetch`].
pub async fn fetch_over<T>(stream: T, scheme: Scheme, authority: &str) -> Result<Fetched, Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let authority = Authority::try_from(authority).map_err(|_| Error::Authority(authority.to_owned()))?;
    let (sender, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .max_header_list_size(16 << 10)
        .handshake::<_, Bytes>(stream)
        .await?;
    let origin = Origin { scheme, authority };
    let mut conversation = pin!(converse(sender, &origin));
    tokio::select! {
        fetched = &mut conversation => fetched,
        // What came before the connection ended is still to be read; how it ended, the stream tells as well.
        _ = connection => conversation.await,
    }
}

/// What the requests are addressed to.
pub(super) struct Origin {
    pub(super) scheme: Scheme,
    pub(super) authority: Authority,
}

async fn converse(sender: SendRequest<Bytes>, origin: &Origin) -> Result<Fetched, Error> {
    for path in PATHS {
        let mut exchange = Exchange::open(sender.clone(), origin, path).await?;
        exchange.ask(MessageRequest::ListServices(String::new()));
        let services = match exchange.answer().await {
            Ok(answer) => services_of(answer)?,
            Err(Error::Unimplemented) => continue,
            Err(error) => return Err(error),
        };
        let collector = Collector { sender, origin, path, exchange: Some(exchange), found: Found::default() };
        return collector.collect(services).await;
    }
    Err(Error::Unimplemented)
}

/// Names of the services to ask for, sorted.
fn services_of(answer: MessageResponse) -> Result<Vec<String>, Error> {
    let listed = match answer {
        MessageResponse::ListServicesResponse(listed) => listed.service,
        MessageResponse::ErrorResponse(error) => {
            return Err(Error::Refused(refusal(error.error_code, &error.error_message)));
        }
        MessageResponse::FileDescriptorResponse(_) | MessageResponse::AllExtensionNumbersResponse(_) => {
            return Err(Error::Malformed("the answer to list_services is something else"));
        }
    };
    if listed.len() > MAX_SERVICES {
        return Err(Error::TooLarge(format!("{} services exceed the limit of {MAX_SERVICES}", listed.len())));
    }
    let mut services: Vec<String> = listed.into_iter().map(|service| service.name).collect();
    services.retain(|name| !name.is_empty() && name.len() <= MAX_NAME && !grpc::is_infrastructure(name));
    services.sort_unstable();
    services.dedup();
    Ok(services)
}

/// What is asked, to know what an answer belongs to.
#[derive(Debug, Clone)]
enum Question {
    Service(String),
    Import(String),
    /// A message in long-running operations.
    Message(String),
}

/// Asks until nothing is missing.
struct Collector<'a> {
    sender: SendRequest<Bytes>,
    origin: &'a Origin,
    path: &'static str,
    /// The stream, until no other one can be opened.
    exchange: Option<Exchange>,
    found: Found,
}

impl Collector<'_> {
    async fn collect(mut self, services: Vec<String>) -> Result<Fetched, Error> {
        self.ask_all(services.iter().cloned().map(Question::Service).collect()).await?;
        loop {
            let imports = self.found.missing_imports().into_iter().map(Question::Import);
            let missing: VecDeque<_> =
                imports.chain(self.found.unknown_messages().into_iter().map(Question::Message)).collect();
            if missing.is_empty() {
                break;
            }
            self.ask_all(missing).await?;
        }
        if let Some(mut exchange) = self.exchange {
            exchange.finish();
        }
        Ok(self.found.finish(services))
    }

    async fn ask_all(&mut self, mut questions: VecDeque<Question>) -> Result<(), Error> {
        let mut waiting: VecDeque<Question> = VecDeque::new();
        loop {
            let Some(exchange) = &mut self.exchange else {
                questions.drain(..).for_each(|question| self.found.refuse(question, "the connection is gone"));
                return Ok(());
            };
            while waiting.len() < PIPELINE
                && let Some(question) = questions.pop_front()
            {
                if let Some(request) = self.found.request(&question) {
                    exchange.ask(request);
                    waiting.push_back(question);
                }
            }
            if waiting.is_empty() {
                return Ok(());
            }
            match exchange.answer().await {
                Ok(answer) => {
                    if let Some(question) = waiting.pop_front() {
                        self.found.take(question, answer)?;
                    }
                }
                Err(error @ Error::TooLarge(_)) => return Err(error),
                Err(error) => {
                    // Some servers end the call over a question that they cannot answer, so the oldest one is to
                    // blame, unless the server just answers a few per call. Either way fewer are left each time.
                    let blameless = matches!(error, Error::Ended { code: 0, .. }) && exchange.answered() > 0;
                    if !blameless && let Some(question) = waiting.pop_front() {
                        self.found.refuse(question, &error.to_string());
                    }
                    waiting.drain(..).rev().for_each(|question| questions.push_front(question));
                    self.exchange = Exchange::open(self.sender.clone(), self.origin, self.path).await.ok();
                }
            }
        }
    }
}

/// Files and services that came.
#[derive(Default)]
struct Found {
    files: Vec<Bytes>,
    bytes: usize,
    /// Import paths of the files.
    names: HashSet<String>,
    /// Import paths that were asked for.
    asked: HashSet<String>,
    /// Imports of the files that were not looked at yet.
    imports: Vec<String>,
    /// Messages in operations that were asked for.
    messages: HashSet<String>,
    /// Such of the files that were not looked at yet.
    operations: Vec<String>,
    /// Services that the files declare.
    declared: HashSet<String>,
    problems: HashMap<String, String>,
}

impl Found {
    /// What to send for a question; `None` if earlier answers brought the file along.
    fn request(&self, question: &Question) -> Option<MessageRequest> {
        match question {
            Question::Service(name) if self.declared.contains(name) => None,
            Question::Service(name) | Question::Message(name) => {
                Some(MessageRequest::FileContainingSymbol(name.clone()))
            }
            Question::Import(name) if self.names.contains(name) => None,
            Question::Import(name) => Some(MessageRequest::FileByFilename(name.clone())),
        }
    }

    fn take(&mut self, question: Question, answer: MessageResponse) -> Result<(), Error> {
        match answer {
            MessageResponse::FileDescriptorResponse(answer) => {
                for file in answer.file_descriptor_proto {
                    self.keep(Bytes::from(file))?;
                }
            }
            MessageResponse::ErrorResponse(error) => {
                self.refuse(question, &refusal(error.error_code, &error.error_message));
            }
            MessageResponse::ListServicesResponse(_) | MessageResponse::AllExtensionNumbersResponse(_) => {
                self.refuse(question, "the answer is to another question");
            }
        }
        Ok(())
    }

    /// Keeps a file; of several with one name the first counts.
    fn keep(&mut self, file: Bytes) -> Result<(), Error> {
        let Some(outline) = set::outline(&file) else { return Ok(()) };
        if !self.names.insert(outline.name.to_owned()) {
            return Ok(());
        }
        if self.files.len() >= MAX_FILES {
            return Err(Error::TooLarge(format!("there are more than {MAX_FILES} files")));
        }
        if self.bytes + file.len() > MAX_BYTES {
            return Err(Error::TooLarge(format!("there are more than {MAX_BYTES} bytes of descriptors")));
        }
        self.declared.extend(outline.services);
        self.operations.extend(outline.operations);
        self.imports.extend(outline.dependencies.into_iter().map(str::to_owned));
        self.bytes += file.len();
        self.files.push(file);
        Ok(())
    }

    fn refuse(&mut self, question: Question, reason: &str) {
        match question {
            Question::Service(name) => {
                self.problems.entry(name).or_insert_with(|| reason.to_owned());
            }
            // Then such an operation cannot be shown, as it could not be without asking.
            Question::Message(_) => {}
            // Whether the import is needed shows when the files are linked; it names the missing file then.
            Question::Import(name) => {
                if let Some(vendored) = set::vendored(&name) {
                    self.imports.extend(vendored.dependencies.iter().map(|&import| import.to_owned()));
                    self.names.insert(name);
                    self.files.push(vendored.bytes.clone());
                }
            }
        }
    }

    /// Imports that were not asked for before.
    fn missing_imports(&mut self) -> Vec<String> {
        let mut missing = std::mem::take(&mut self.imports);
        missing.retain(|name| name.len() <= MAX_NAME && !self.names.contains(name) && self.asked.insert(name.clone()));
        missing
    }

    /// Messages in operations that were not asked for before.
    fn unknown_messages(&mut self) -> Vec<String> {
        let mut unknown = std::mem::take(&mut self.operations);
        unknown.retain(|name| {
            // Those are here already.
            let is_builtin = name.starts_with("google.protobuf.");
            !is_builtin
                && name.len() <= MAX_NAME
                && self.messages.len() < MAX_MESSAGES
                && self.messages.insert(name.clone())
        });
        unknown
    }

    fn finish(mut self, services: Vec<String>) -> Fetched {
        for service in services.iter().filter(|&service| !self.declared.contains(service)) {
            let silent = || String::from("the server lists it but sends no file that declares it");
            self.problems.entry(service.clone()).or_insert_with(silent);
        }
        self.problems.retain(|service, _| !self.declared.contains(service));
        let mut problems: Vec<_> = self.problems.into_iter().collect();
        problems.sort_unstable();
        Fetched { files: self.files, services, problems }
    }
}

/// An error of the server as text that can stand in a log line.
fn refusal(code: i32, message: &str) -> String {
    format!("the server answers {code}: {}", printable(message))
}

/// At most 200 bytes, without control characters.
fn printable(text: &str) -> String {
    text.get(..text.floor_char_boundary(200)).unwrap_or_default().escape_debug().to_string()
}
