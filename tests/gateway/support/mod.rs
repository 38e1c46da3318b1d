//! What the tests have in common: backends, the gateway between, and clients of every version of HTTP.

pub(crate) mod authorizer;
pub(crate) mod backend;
pub(crate) mod callers;
pub(crate) mod client;
pub(crate) mod delay;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod grpc;
pub(crate) mod memory;
pub(crate) mod names;
pub(crate) mod outcomes;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod rest;
pub(crate) mod rpc;
pub(crate) mod site;
pub(crate) mod tls;
pub(crate) mod tokens;
pub(crate) mod ways;
pub(crate) mod websocket;
