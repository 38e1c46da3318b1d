//! How REST replies look: JSON, compression, and what a service may say of them.

use std::sync::Arc;

use http::HeaderName;

use crate::encoding::Encoding;

/// Headers, each with the field that it is bound to.
pub type BoundHeaders = Arc<[(HeaderName, Box<str>)]>;

/// What a service may say of the HTTP reply to a REST call by its metadata. Nothing, unless set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Metadata that holds the status of a successful reply.
    pub status_metadata: Option<HeaderName>,
    /// Metadata that passes although it is kept inside by default, such as `location`.
    pub headers: Arc<[HeaderName]>,
}

/// How replies of REST are compressed for clients that accept it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    /// Whether they are at all. Default `true`.
    pub enabled: bool,
    /// Bytes from which on a reply is worth it. Default 1 KiB.
    pub min_size: usize,
    /// Of those that a client likes equally the first is taken. Default zstd, br, gzip.
    pub encodings: Arc<[Encoding]>,
}

/// What a policy says of compression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartialCompression {
    /// There is none.
    Off,
    /// There is, with what is given.
    #[allow(missing_docs, reason = "the fields of Compression")]
    On { min_size: Option<usize>, encodings: Option<Arc<[Encoding]>> },
}

/// How JSON is read and written. Every default is `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Json {
    /// Skip unknown fields in body and query instead of refusing them.
    pub ignore_unknown_fields: bool,
    /// Write 64-bit integers as numbers instead of strings.
    pub int64_as_number: bool,
    /// Write fields without presence even at their default.
    pub emit_defaults: bool,
    /// Write names as in the `.proto` file instead of lowerCamelCase.
    pub preserve_proto_names: bool,
    /// Write enums as numbers.
    pub enums_as_numbers: bool,
    /// Write each message of a stream as `{"result": …}`.
    pub stream_envelope: bool,
}

impl Default for Compression {
    fn default() -> Self {
        let encodings = Arc::new([Encoding::Zstd, Encoding::Br, Encoding::Gzip]);
        Self { enabled: true, min_size: 1 << 10, encodings }
    }
}
