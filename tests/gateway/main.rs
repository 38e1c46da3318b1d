//! Black-box tests.

mod backend_smoke;
mod demo;
mod errors;
mod headers;
mod inspect;
mod rest;
mod routes;
mod scripted_smoke;
mod smoke;
mod support;
