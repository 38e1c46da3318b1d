//! Black-box tests.

mod admin;
mod architecture;
mod backend_smoke;
mod demo;
mod demo_command;
mod inspect;
mod lifecycle;
mod limits;
mod schemas;
mod scripted_smoke;
mod smoke;
mod support;
