//! Random settings of the mapping.

use fastrand::Rng;
use portico::config::Json;

/// Each of them is as it is without any configuration in two of three cases.
pub(crate) fn random(rng: &mut Rng) -> Json {
    let mut is_set = || rng.u8(..3) == 0;
    Json {
        ignore_unknown_fields: is_set(),
        int64_as_number: is_set(),
        emit_defaults: is_set(),
        preserve_proto_names: is_set(),
        enums_as_numbers: is_set(),
        // Of streams, which are not looked at.
        stream_envelope: false,
    }
}
