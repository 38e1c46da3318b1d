//! Server reflection as simple as it can be: each answer holds the one file that was asked for, so that a client has
//! to follow the imports itself.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response};
use portico::pb::google::protobuf::{DescriptorProto, FileDescriptorProto};
use portico::pb::grpc::reflection::{v1, v1alpha};
use prost::Message;
use tokio_stream::StreamExt;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, BoxStream, CompressionEncoding, Service};
use tonic::{Code, Status, Streaming};
use v1::server_reflection_request::MessageRequest;
use v1::server_reflection_response::MessageResponse;
use v1::server_reflection_server::ServerReflectionServer;
use v1alpha::server_reflection_server::ServerReflectionServer as AlphaServer;

/// Which versions a backend has; the others answer UNIMPLEMENTED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reflection {
    Both,
    V1,
    V1alpha,
    None,
}

/// The reflection service in those versions.
#[derive(Debug, Clone)]
pub(crate) struct Reflector {
    versions: Reflection,
    answers: Answers,
}

impl Reflector {
    pub(crate) fn new(versions: Reflection, descriptors: &[u8]) -> Self {
        Self { versions, answers: Answers(Arc::new(Files::new(descriptors))) }
    }

    /// Answers requests for reflection; any other gives nothing.
    pub(crate) fn call(&self, request: &mut Request<Body>) -> Option<BoxFuture<Response<Body>, Infallible>> {
        let has = |version| self.versions == Reflection::Both || self.versions == version;
        match request.uri().path().split('/').nth(1) {
            Some("grpc.reflection.v1.ServerReflection") if has(Reflection::V1) => {
                let server = ServerReflectionServer::new(self.answers.clone());
                Some(server.send_compressed(CompressionEncoding::Gzip).call(std::mem::take(request)))
            }
            Some("grpc.reflection.v1alpha.ServerReflection") if has(Reflection::V1alpha) => {
                let server = AlphaServer::new(self.answers.clone());
                Some(server.send_compressed(CompressionEncoding::Gzip).call(std::mem::take(request)))
            }
            _ => None,
        }
    }
}

/// Both versions have the same messages on the wire.
#[derive(Debug, Clone)]
struct Answers(Arc<Files>);

#[tonic::async_trait]
impl v1::server_reflection_server::ServerReflection for Answers {
    type ServerReflectionInfoStream = BoxStream<v1::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: tonic::Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<tonic::Response<Self::ServerReflectionInfoStream>, Status> {
        let files = Arc::clone(&self.0);
        Ok(tonic::Response::new(Box::pin(request.into_inner().map(move |question| Ok(files.answer(question?))))))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Answers {
    type ServerReflectionInfoStream = BoxStream<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: tonic::Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<tonic::Response<Self::ServerReflectionInfoStream>, Status> {
        let files = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |question| {
            let question = v1::ServerReflectionRequest::decode(question?.encode_to_vec().as_slice());
            let answer = files.answer(question.expect("the versions are alike")).encode_to_vec();
            Ok(v1alpha::ServerReflectionResponse::decode(answer.as_slice()).expect("the versions are alike"))
        });
        Ok(tonic::Response::new(Box::pin(answers)))
    }
}

/// Encoded files by what they are asked for by.
#[derive(Debug, Default)]
struct Files {
    by_name: HashMap<String, Vec<u8>>,
    by_symbol: HashMap<String, Vec<u8>>,
    services: Vec<String>,
}

/// A `FileDescriptorSet` whose files stay the bytes that they were.
#[derive(Clone, PartialEq, Message)]
struct RawSet {
    #[prost(bytes = "vec", repeated, tag = "1")]
    files: Vec<Vec<u8>>,
}

impl Files {
    fn new(descriptors: &[u8]) -> Self {
        let mut files = Self::default();
        for bytes in RawSet::decode(descriptors).expect("the test gives a descriptor set").files {
            let file = FileDescriptorProto::decode(bytes.as_slice()).expect("the test gives whole files");
            let package = file.package.clone().unwrap_or_default();
            let mut symbols = Vec::new();
            for message in &file.message_type {
                messages(&package, message, &mut symbols);
            }
            symbols.extend(file.enum_type.iter().map(|of| join(&package, of.name())));
            symbols.extend(file.extension.iter().map(|of| join(&package, of.name())));
            for service in &file.service {
                let name = join(&package, service.name());
                symbols.extend(service.method.iter().map(|method| join(&name, method.name())));
                symbols.push(name.clone());
                files.services.push(name);
            }
            files.by_symbol.extend(symbols.into_iter().map(|symbol| (symbol, bytes.clone())));
            files.by_name.insert(file.name().to_owned(), bytes);
        }
        files
    }

    fn answer(&self, question: v1::ServerReflectionRequest) -> v1::ServerReflectionResponse {
        let found = match &question.message_request {
            Some(MessageRequest::FileByFilename(name)) => self.by_name.get(name).map(|bytes| file(bytes)),
            Some(MessageRequest::FileContainingSymbol(symbol)) => self.by_symbol.get(symbol).map(|bytes| file(bytes)),
            Some(MessageRequest::ListServices(_)) => Some(self.list()),
            Some(MessageRequest::FileContainingExtension(_) | MessageRequest::AllExtensionNumbersOfType(_)) | None => {
                None
            }
        };
        let missing = v1::ErrorResponse { error_code: Code::NotFound.into(), error_message: "not here".into() };
        v1::ServerReflectionResponse {
            valid_host: question.host.clone(),
            original_request: Some(question),
            message_response: Some(found.unwrap_or(MessageResponse::ErrorResponse(missing))),
        }
    }

    fn list(&self) -> MessageResponse {
        let service = self.services.iter().map(|name| v1::ServiceResponse { name: name.clone() }).collect();
        MessageResponse::ListServicesResponse(v1::ListServiceResponse { service })
    }
}

fn file(bytes: &[u8]) -> MessageResponse {
    MessageResponse::FileDescriptorResponse(v1::FileDescriptorResponse { file_descriptor_proto: vec![bytes.to_vec()] })
}

fn messages(scope: &str, message: &DescriptorProto, symbols: &mut Vec<String>) {
    let name = join(scope, message.name());
    for nested in &message.nested_type {
        messages(&name, nested, symbols);
    }
    symbols.extend(message.enum_type.iter().map(|of| join(&name, of.name())));
    symbols.extend(message.extension.iter().map(|of| join(&name, of.name())));
    symbols.push(name);
}

fn join(scope: &str, name: &str) -> String {
    if scope.is_empty() { name.to_owned() } else { format!("{scope}.{name}") }
}
