//! Messages, server and client of `proto/portico/test/v1/echo.proto`.

#![allow(
    unreachable_pub,
    unused_qualifications,
    missing_debug_implementations,
    clippy::pedantic,
    clippy::nursery,
    clippy::or_fun_call,
    clippy::use_self,
    clippy::enum_variant_names,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

pub(crate) use portico::test::v1::*;

/// The test service's files with everything they import, as one encoded `FileDescriptorSet`.
pub(crate) const ECHO_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/test/echo.binpb"));

pub(crate) mod google {
    pub(crate) mod api {
        include!(concat!(env!("OUT_DIR"), "/test/google.api.rs"));
    }
    pub(crate) mod protobuf {
        include!(concat!(env!("OUT_DIR"), "/test/google.protobuf.rs"));
    }
}
pub(crate) mod portico {
    pub(crate) mod test {
        pub(crate) mod v1 {
            include!(concat!(env!("OUT_DIR"), "/test/portico.test.v1.rs"));
        }
    }
}
