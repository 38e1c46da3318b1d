//! Black-box tests.

mod backend_smoke;
mod demo;
mod scripted_smoke;
mod smoke;
mod support;
