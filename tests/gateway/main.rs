//! Black-box tests.

mod admin;
mod architecture;
mod attacks;
mod backend_smoke;
mod client_streams;
mod compression;
mod demo;
mod demo_command;
mod docs;
mod errors;
mod headers;
mod inspect;
mod lifecycle;
mod limits;
mod local;
mod matrix;
mod native;
mod rest;
mod routes;
mod schemas;
mod scripted_smoke;
mod smoke;
mod streams;
mod support;
mod uploads;
mod upstreams;
