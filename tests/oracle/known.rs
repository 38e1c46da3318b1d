//! Where prost-reflect judges otherwise, on purpose or by mistake, told by what the one that refuses says.

/// What we refuse and it takes, and why.
pub(crate) const WE_REFUSE: &[(&str, &str)] = &[
    ("is given twice", "of a name given twice, the last one wins there; protojson refuses it too"),
    ("expected field paths", "empty paths are taken there; protojson refuses them"),
    ("the name or number of a declared enum value", "all enums are open there; a closed one has no other numbers"),
    ("expected an integer from", "what is too large becomes the largest number there; protojson refuses it"),
    ("not a valid escape", "halves of surrogates are taken there in what is ignored"),
    ("another field of the same oneof", "an enum's name that is ignored is no member there; protojson refuses it too"),
    ("as the key, found", "zeros and a plus may stand in front there; protojson takes them too"),
    ("expected a base64 string", "any padding is taken there; protojson wants it right or none"),
    (
        "expected a number, found the string",
        "quoted, too large is Infinity there, and digits may be left out around a point",
    ),
    ("is out of range", "times and durations that have no form are written there"),
    ("malformed message", "some fields that are cut off are taken there; protojson refuses them"),
    ("a field mask path has no JSON form", "a path that would come back as another one is written there"),
];

/// What we take and it refuses, and why.
pub(crate) const WE_TAKE: &[(&str, &str)] = &[
    ("invalid digit found in string", "quoted numbers have no exponent there, and unsigned zero no sign"),
    ("expected '@type' field", "an empty object is an empty Any; protojson takes it too"),
    ("unsupported type url", "an empty Any has no form there; protojson writes an empty object"),
    ("to fit in target type", "quoted numbers have no exponent there"),
    ("unrecognized enum value", "quoted, there are only names of enums there; protojson refuses numbers too"),
    ("buffer underflow", "a field with another wire type is read as if it had its own there; protojson skips it"),
    ("delimited length exceeded", "the same"),
    ("expected 'value' field", "an Empty in an Any is written without a value; it is read either way"),
    ("float value out of range", "the largest float is refused there in its shortest form"),
    (
        "data is not UTF-8 encoded",
        "strings of proto2 are not checked on the wire; only U+FFFD shows that one is broken",
    ),
    ("invalid varint", "bits beyond the 64th are refused there and dropped elsewhere"),
    ("invalid wire type", "a field with another wire type is unknown to protobuf's own parsers"),
];

pub(crate) fn is_listed(table: &[(&str, &str)], said: &str) -> bool {
    table.iter().any(|(part, _)| said.contains(part))
}
