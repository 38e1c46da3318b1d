//! grpc.reflection of the demo, v1 and v1alpha, by which the gateway learns the library like any other upstream.

use std::sync::Arc;

use prost::Message;
use tokio_stream::StreamExt;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::pb;
use crate::pb::grpc::reflection::{v1, v1alpha};
use crate::pb::portico::library::v1::library_server;
use crate::schema::Schema;
use crate::schema::reflect::Index;

/// Both versions of the service; clones share one index.
#[derive(Debug, Clone)]
pub(crate) struct Reflection {
    index: Arc<Index>,
}

impl Reflection {
    /// Over the library, health and reflection itself.
    pub(crate) fn new() -> Self {
        let schema = Schema::from_set(pb::DEMO_SET).expect("the build wrote a whole descriptor set");
        let services = vec![Arc::from(library_server::SERVICE_NAME)];
        Self { index: Arc::new(Index::new(&[(Arc::new(schema), services)])) }
    }
}

#[tonic::async_trait]
impl v1::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<v1::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.index);
        Ok(Response::new(Box::pin(request.into_inner().map(move |question| Ok(index.answer(question?))))))
    }
}

#[tonic::async_trait]
impl v1alpha::server_reflection_server::ServerReflection for Reflection {
    type ServerReflectionInfoStream = BoxStream<v1alpha::ServerReflectionResponse>;

    async fn server_reflection_info(
        &self,
        request: Request<Streaming<v1alpha::ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let index = Arc::clone(&self.index);
        let answers = request.into_inner().map(move |question| {
            let answer = index.answer(translated(&question?)?);
            translated(&answer)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// The same message in the other version: both are alike on the wire.
fn translated<T: Message + Default>(message: &impl Message) -> Result<T, Status> {
    T::decode(message.encode_to_vec().as_slice()).map_err(|error| Status::internal(error.to_string()))
}
