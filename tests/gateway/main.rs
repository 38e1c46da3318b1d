//! Black-box tests.

mod backend_smoke;
mod demo;
mod docs;
mod errors;
mod headers;
mod inspect;
mod matrix;
mod native;
mod rest;
mod routes;
mod scripted_smoke;
mod smoke;
mod support;
mod upstreams;
