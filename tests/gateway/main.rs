//! Black-box tests.

mod backend_smoke;
mod demo;
mod docs;
mod inspect;
mod matrix;
mod native;
mod scripted_smoke;
mod smoke;
mod support;
mod upstreams;
