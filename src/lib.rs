//! Portico: a gRPC and HTTP/2 API gateway with transcoding.
//!
//! `ARCHITECTURE.md` has the bird's eye view and the code map; to follow a request, start reading in [`proxy`].

pub mod admin;
pub mod body;
pub mod cli;
pub mod config;
pub mod demo;
pub mod error;
pub mod gateway;
pub mod grpc;
pub mod inspect;
pub(crate) mod io;
pub mod pb;
pub mod policy;
pub mod proxy;
pub mod route;
pub mod runtime;
pub mod schema;
pub mod serve;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod transcode;
pub mod upstream;
