//! The messages and services that the program itself speaks, compiled from `proto/` by `build.rs`.
//!
//! The operator's own services never appear here: they are known by their descriptors ([`crate::schema`]).

#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::pedantic,
    clippy::nursery,
    clippy::or_fun_call,
    clippy::use_self,
    clippy::allow_attributes_without_reason,
    clippy::match_single_binding,
    reason = "generated code"
)]

pub mod envoy {
    pub mod config {
        pub mod core {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.config.core.v3.rs"));
            }
        }
    }
    pub mod extensions {
        pub mod common {
            pub mod ratelimit {
                pub mod v3 {
                    include!(concat!(env!("OUT_DIR"), "/envoy.extensions.common.ratelimit.v3.rs"));
                }
            }
        }
    }
    pub mod service {
        pub mod auth {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.auth.v3.rs"));
            }
        }
        pub mod ratelimit {
            pub mod v3 {
                include!(concat!(env!("OUT_DIR"), "/envoy.service.ratelimit.v3.rs"));
            }
        }
    }
    pub mod r#type {
        pub mod v3 {
            include!(concat!(env!("OUT_DIR"), "/envoy.r#type.v3.rs"));
        }
    }
}
pub mod google {
    pub mod api {
        include!(concat!(env!("OUT_DIR"), "/google.api.rs"));
    }
    pub mod protobuf {
        include!(concat!(env!("OUT_DIR"), "/google.protobuf.rs"));
    }
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
    }
}
pub mod grpc {
    pub mod health {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/grpc.health.v1.rs"));
        }
    }
    pub mod reflection {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1.rs"));
        }
        pub mod v1alpha {
            include!(concat!(env!("OUT_DIR"), "/grpc.reflection.v1alpha.rs"));
        }
    }
}
pub mod portico {
    pub mod library {
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/portico.library.v1.rs"));
        }
    }
}

/// The vendored files by import path, with their sources: what an operator's `.proto` may import without shipping it.
pub const VENDORED: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/vendored.rs"));

/// The vendored files as one encoded `FileDescriptorSet`.
pub const VENDORED_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vendored.binpb"));

/// The demo's files with everything they import, as one encoded `FileDescriptorSet`.
pub const DEMO_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/demo.binpb"));
