//! Black-box tests.

mod attacks;
mod backend_smoke;
mod demo;
mod inspect;
mod scripted_smoke;
mod smoke;
mod support;
