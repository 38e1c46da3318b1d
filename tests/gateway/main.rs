//! Black-box tests.

mod backend_smoke;
mod demo;
mod docs;
mod inspect;
mod scripted_smoke;
mod smoke;
mod support;
