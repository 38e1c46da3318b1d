//! Portico: a gateway that offers gRPC services as REST/JSON and as gRPC on one port.
//!
//! This is the library behind the command `portico`. It is not made for being embedded: its interface follows the needs
//! of the command and of the tests, and changes with them. `ARCHITECTURE.md` has the bird's eye view, the code map and
//! the invariants; to follow a request, start reading in [`proxy`].
//!
//! | level | modules |
//! |---|---|
//! | 6 | [`cli`], [`gateway`], [`serve`], [`inspect`], [`demo`] |
//! | 5 | [`server`], [`admin`] |
//! | 4 | [`proxy`] |
//! | 3 | [`snapshot`], [`credentials`], [`error`] |
//! | 2 | [`route`], [`transcode`], [`policy`], [`upstream`], [`store`] |
//! | 1 | [`schema`], [`body`] |
//! | 0 | [`config`], [`fetch`], [`jose`], [`encoding`], [`grpc`], [`telemetry`], [`pb`], [`runtime`], [`io`] |
//!
//! A module imports only from lower levels, and those of level 2 never import each other.
//!
//! A gateway in a few lines, as the tests start it:
//!
//! ```
//! use std::path::Path;
//!
//! use portico::gateway::Gateway;
//! use portico::{config, runtime};
//!
//! let text = r#"
//! listeners: [{ address: "127.0.0.1:0" }]
//! admin: off
//! upstreams: [{ name: library, endpoints: ["127.0.0.1:50051"] }]
//! telemetry: { access_log: { path: off } }
//! "#;
//! let loaded = config::from_str(text, "portico.yaml", Path::new("")).expect("a good configuration");
//! let control = runtime::control()?;
//!
//! let gateway = Gateway::start(loaded.config, control.handle()).expect("a free port");
//!
//! assert_eq!(gateway.addresses().len(), 1);
//! gateway.stop();
//! # Ok::<(), std::io::Error>(())
//! ```

pub mod admin;
pub mod body;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod encoding;
pub mod error;
pub mod expression;
pub mod fetch;
pub mod gateway;
pub mod grpc;
pub mod inspect;
pub(crate) mod io;
pub mod jose;
pub mod media;
pub mod multipart;
pub mod pb;
pub mod policy;
pub mod proxy;
pub mod route;
pub mod runtime;
pub mod schema;
pub mod serve;
pub mod server;
pub mod snapshot;
pub mod store;
pub mod telemetry;
pub mod transcode;
pub mod upstream;
