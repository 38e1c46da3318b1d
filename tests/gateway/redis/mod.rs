//! Limits that several gateways share by a real Redis.

mod client;
mod fleet;
mod gateways;
mod script;
