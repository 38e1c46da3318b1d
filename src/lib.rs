//! Portico: a gRPC and HTTP/2 API gateway with transcoding.
//!
//! `ARCHITECTURE.md` has the bird's eye view and the code map; to follow a request, start reading in [`proxy`].

pub mod config;
pub mod grpc;
pub mod pb;
pub mod schema;
pub mod telemetry;
