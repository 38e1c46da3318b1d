//! What a file's syntax or edition, and the options inside it, mean for its fields and enums.
//!
//! The one place that knows proto2, proto3 and editions apart. Features are inherited from the file to its messages,
//! their oneofs, fields and enums; each level may override some. `json_format`, naming style and visibility change
//! what a compiler accepts, never what travels, so they are not kept.
//!
//! Defaults per edition: <https://protobuf.dev/editions/features/>.

use super::wire::{Malformed, Reader, Value};
use crate::pb::google::protobuf::Edition;
use crate::pb::google::protobuf::feature_set::{
    EnumType, FieldPresence, MessageEncoding, RepeatedFieldEncoding, Utf8Validation,
};

/// Resolved features of one element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Features {
    pub(super) presence: Presence,
    pub(super) closed_enums: bool,
    pub(super) packed: bool,
    pub(super) utf8: bool,
    pub(super) delimited: bool,
    /// Whether options may override features: only editions let them.
    overridable: bool,
}

/// Presence of a singular scalar field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    Explicit,
    Implicit,
    Required,
}

/// What one element's options say of features; `None` where they are silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Overrides {
    presence: Option<Presence>,
    closed_enums: Option<bool>,
    packed: Option<bool>,
    utf8: Option<bool>,
    delimited: Option<bool>,
}

impl Features {
    /// Defaults of a file. A file without `syntax` is proto2.
    ///
    /// # Errors
    /// The syntax or edition is not known, as a sentence.
    pub(super) fn of_file(syntax: &str, edition: i32) -> Result<Self, String> {
        let edition = match syntax {
            "" | "proto2" => Edition::Proto2,
            "proto3" => Edition::Proto3,
            "editions" => Edition::try_from(edition).unwrap_or(Edition::Unknown),
            other => return Err(format!("its syntax {other:?} is not known")),
        };
        if edition == Edition::Proto2 {
            return Ok(Self {
                presence: Presence::Explicit,
                closed_enums: true,
                packed: false,
                utf8: false,
                delimited: false,
                overridable: false,
            });
        }
        let proto3 = Self {
            presence: Presence::Implicit,
            closed_enums: false,
            packed: true,
            utf8: true,
            delimited: false,
            overridable: false,
        };
        if edition == Edition::Proto3 {
            return Ok(proto3);
        }
        if matches!(edition, Edition::Edition2023 | Edition::Edition2024) {
            return Ok(Self { presence: Presence::Explicit, overridable: true, ..proto3 });
        }
        Err(String::from("its edition is not known; proto2, proto3 and editions 2023 and 2024 are"))
    }

    /// Features of an element inside this one, given what its own options say.
    pub(super) fn with(self, overrides: &Overrides) -> Self {
        if !self.overridable {
            return self;
        }
        Self {
            presence: overrides.presence.unwrap_or(self.presence),
            closed_enums: overrides.closed_enums.unwrap_or(self.closed_enums),
            packed: overrides.packed.unwrap_or(self.packed),
            utf8: overrides.utf8.unwrap_or(self.utf8),
            delimited: overrides.delimited.unwrap_or(self.delimited),
            overridable: true,
        }
    }

    /// `[packed = …]`, which only the syntaxes before editions have.
    pub(super) fn with_packed_option(self, packed: Option<bool>) -> Self {
        match packed {
            Some(packed) if !self.overridable => Self { packed, ..self },
            Some(_) | None => self,
        }
    }
}

impl Overrides {
    /// Merges an encoded `google.protobuf.FeatureSet` into what was read before. Values that are not known change
    /// nothing.
    pub(super) fn merge(&mut self, features: &[u8]) -> Result<(), Malformed> {
        let mut reader = Reader::new(features);
        while let Some((number, value)) = reader.next()? {
            let Value::Varint(value) = value else { continue };
            let Ok(value) = i32::try_from(value) else { continue };
            match number {
                1 => self.presence = presence(value).or(self.presence),
                2 => self.closed_enums = closed(value).or(self.closed_enums),
                3 => self.packed = packed(value).or(self.packed),
                4 => self.utf8 = verified(value).or(self.utf8),
                5 => self.delimited = delimited(value).or(self.delimited),
                _ => {}
            }
        }
        Ok(())
    }
}

fn presence(value: i32) -> Option<Presence> {
    match FieldPresence::try_from(value).ok()? {
        FieldPresence::Unknown => None,
        FieldPresence::Explicit => Some(Presence::Explicit),
        FieldPresence::Implicit => Some(Presence::Implicit),
        FieldPresence::LegacyRequired => Some(Presence::Required),
    }
}

fn closed(value: i32) -> Option<bool> {
    match EnumType::try_from(value).ok()? {
        EnumType::Unknown => None,
        EnumType::Open => Some(false),
        EnumType::Closed => Some(true),
    }
}

fn packed(value: i32) -> Option<bool> {
    match RepeatedFieldEncoding::try_from(value).ok()? {
        RepeatedFieldEncoding::Unknown => None,
        RepeatedFieldEncoding::Packed => Some(true),
        RepeatedFieldEncoding::Expanded => Some(false),
    }
}

fn verified(value: i32) -> Option<bool> {
    match Utf8Validation::try_from(value).ok()? {
        Utf8Validation::Unknown => None,
        Utf8Validation::Verify => Some(true),
        Utf8Validation::None => Some(false),
    }
}

fn delimited(value: i32) -> Option<bool> {
    match MessageEncoding::try_from(value).ok()? {
        MessageEncoding::Unknown => None,
        MessageEncoding::LengthPrefixed => Some(false),
        MessageEncoding::Delimited => Some(true),
    }
}
