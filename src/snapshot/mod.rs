//! Everything that a request is answered by, compiled and immutable.
//!
//! A request takes one [`Snapshot`] and uses it to its end. A new one is built aside ([`Snapshot::build`], pure) and
//! swapped in by [`source::Source`]; nothing in a snapshot ever changes.

mod build;
mod idle;
pub mod keeper;
pub mod load;
pub mod source;
mod spellings;

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use http::uri::PathAndQuery;

use crate::config::cors::Cors;
use crate::config::{self, Config, MethodSettings};
use crate::grpc;
use crate::policy::rate_limit::Plan;
use crate::route::Router;
use crate::schema::Schema;
use crate::schema::http_rule::BodyRule;
use crate::schema::reflect::Index;
use crate::transcode::{Plans, ReplyPlan, RequestPlan};

use spellings::Spellings;

pub use keeper::Keeper;
pub use source::Source;

/// One compiled state of the gateway.
#[derive(Debug)]
pub struct Snapshot {
    /// What it was built from.
    pub config: Arc<Config>,
    /// In the order of the configuration.
    pub upstreams: Vec<Upstream>,
    /// Every method of every service that is served.
    pub methods: Vec<Method>,
    /// `pkg.Service/Method` to an index into `methods`.
    by_name: HashMap<Arc<str>, usize>,
    /// Full names of the services that are served.
    services: HashSet<Arc<str>>,
    /// The names of all methods and services.
    spellings: Spellings,
    /// Templates to indices into `bindings`.
    pub router: Router<usize>,
    /// Every `google.api.http` binding that is routed.
    pub bindings: Vec<Binding>,
    /// What the gateway's own reflection answers from.
    pub reflection: Index,
    /// What an operator should know: what was left out, what conflicts.
    pub notices: Vec<Notice>,
    /// Plans for the messages that the gateway itself and every upstream may send, such as `google.rpc` details.
    pub builtin: Arc<Plans>,
}

/// An upstream and what is known of its services.
#[derive(Debug)]
pub struct Upstream {
    /// As configured.
    pub config: config::Upstream,
    /// Its descriptors, or why they are not there.
    pub schema: SchemaState,
}

/// Whether an upstream's descriptors are there.
#[derive(Debug, Clone)]
pub enum SchemaState {
    /// They are, with the plans compiled from them.
    Loaded(Arc<Plans>),
    /// Not yet, and what the last attempt said.
    Missing(Arc<str>),
}

/// A method that is served.
#[derive(Debug)]
pub struct Method {
    /// `pkg.Service/Method`.
    pub name: Arc<str>,
    /// `/pkg.Service/Method`, as it is sent.
    pub path: PathAndQuery,
    /// Index into [`Snapshot::upstreams`].
    pub upstream: usize,
    /// Whether the client sends a stream.
    pub client_streaming: bool,
    /// Whether the server sends a stream.
    pub server_streaming: bool,
    /// Whether it is declared free of side effects, so that GET may call it.
    pub side_effect_free: bool,
    /// Whether it is declared to do the same once or twice.
    pub idempotent: bool,
    /// What holds for it, shared with the methods before it that are set alike.
    pub settings: Arc<MethodSettings>,
    /// Which pages of other origins may call it; none when there is no word of it.
    pub cors: Option<Arc<Cors>>,
    /// How often it may be called; none for as often as anybody likes.
    pub limits: Option<Box<Plan>>,
    /// `POST /pkg.Service/Method` with the whole request as JSON.
    pub direct: Transcoding,
}

impl Method {
    /// Whether neither side sends a stream.
    pub fn is_unary(&self) -> bool {
        !self.client_streaming && !self.server_streaming
    }
}

/// How JSON becomes a method's request, and its reply becomes JSON.
#[derive(Debug)]
pub struct Transcoding {
    /// JSON, path and query to the request message.
    pub request: RequestPlan,
    /// The reply message to JSON.
    pub reply: ReplyPlan,
}

/// One HTTP rule of a method.
#[derive(Debug)]
pub struct Binding {
    /// Index into [`Snapshot::methods`].
    pub method: usize,
    /// The HTTP method, `*` for any.
    pub http_method: String,
    /// The path template as written.
    pub template: Box<str>,
    /// Field paths of the template's variables, in order.
    pub variables: Box<[Box<str>]>,
    /// Where the request's body goes.
    pub body: BodyRule,
    /// Which field of the reply is the body.
    pub response_body: Option<Arc<str>>,
    /// The compiled form.
    pub plan: Transcoding,
}

/// Something that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What kind it is.
    pub kind: NoticeKind,
    /// The upstream that it is about.
    pub upstream: Arc<str>,
    /// One sentence without a period.
    pub text: String,
}

/// Kinds of notices, from bad to worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NoticeKind {
    /// Something has no effect where it may have been meant to have one.
    Unused,
    /// Something could not be compiled and is left out.
    LeftOut,
    /// Two things want the same place; the first one has it.
    Conflict,
    /// A schema is not there.
    Missing,
}

impl Notice {
    /// Whether it may be as the operator means it.
    pub fn is_warning(&self) -> bool {
        self.kind == NoticeKind::Unused
    }
}

/// What a gRPC path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// A method of the schema.
    Method(usize),
    /// No schema knows it, but only one upstream can be meant.
    Upstream(usize),
    /// Nobody can be meant.
    Nobody,
}

impl Snapshot {
    /// The method behind `/pkg.Service/Method`.
    pub fn method_at(&self, path: &str) -> Option<usize> {
        self.by_name.get(path.strip_prefix('/')?).copied()
    }

    /// Whether that service is served.
    pub fn serves(&self, service: &str) -> bool {
        self.services.contains(service)
    }

    /// Where a gRPC call to that path goes.
    ///
    /// A method that no schema knows belongs to the upstream whose `services` name it, or to the only upstream. What differs
    /// from a known name by nothing but capitals belongs to nobody, or a server that does not tell them apart would
    /// be called past the policies of that name; and what every server may have beside its services, such as
    /// reflection, only to whom `services` give it.
    pub fn resolve(&self, path: &str) -> Known {
        if let Some(method) = self.method_at(path) {
            return Known::Method(method);
        }
        let Some(service) = service_of(path) else { return Known::Nobody };
        if self.is_other_spelling(path, service) {
            return Known::Nobody;
        }
        let named = |upstream: &Upstream| upstream.config.services.iter().any(|pattern| pattern.matches(service));
        let serving = || self.upstreams.iter().enumerate().filter(|(_, upstream)| upstream.config.serves());
        let mut meant = serving().filter(|(_, upstream)| named(upstream));
        let mut all = serving();
        match (meant.next(), meant.next(), all.next(), all.next()) {
            (Some((index, _)), None, ..) => Known::Upstream(index),
            (None, _, Some((index, only)), None)
                if only.config.services.is_empty() && !grpc::is_infrastructure(service) =>
            {
                Known::Upstream(index)
            }
            _ => Known::Nobody,
        }
    }

    /// Whether a path that is no method's is one of a method, or of a service, but for capitals.
    fn is_other_spelling(&self, path: &str, service: &str) -> bool {
        let name = if self.services.contains(service) { path.trim_start_matches('/') } else { service };
        self.spellings.contains(name)
    }

    /// The upstreams whose schema is not there, with what the last attempt said.
    pub fn missing(&self) -> impl Iterator<Item = (&Upstream, &str)> {
        self.upstreams.iter().filter_map(|upstream| match &upstream.schema {
            SchemaState::Missing(why) => Some((upstream, &**why)),
            SchemaState::Loaded(_) => None,
        })
    }
}

impl SchemaState {
    /// The descriptors, if they are there.
    pub fn schema(&self) -> Option<&Arc<Schema>> {
        match self {
            Self::Loaded(plans) => Some(plans.schema()),
            Self::Missing(_) => None,
        }
    }
}

/// The service in `/pkg.Service/Method`; `None` when the path has another form, or characters that no name has.
fn service_of(path: &str) -> Option<&str> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let is_service = service.split('.').all(|part| !part.is_empty() && word(part));
    (is_service && !method.is_empty() && word(method)).then_some(service)
}
