//! Links the fields of messages, and extensions.
//!
//! **Invariant**: in a message that links, numbers and names are unique, every [`Kind`] points to something declared,
//! and map entries are used by map fields only.

use std::sync::Arc;

use super::declaration::{FieldDeclaration, MessageDeclaration, OneofDeclaration};
use super::features::{Features, Presence};
use super::link::Imports;
use super::names::{Names, PendingExtension, PendingMessage, is_identifier, shorten};
use super::texts::Texts;
use super::wire::Malformed;
use super::{Cardinality, Field, Kind, Message, MessageId, Symbol};
use crate::pb::google::protobuf::field_descriptor_proto::{Label, Type};

/// Most fields of a schema together, extensions included. All of Google's public APIs have about 250,000.
const MAX_FIELDS: usize = 2_000_000;
/// Largest field number that fits a tag.
const MAX_NUMBER: i32 = (1 << 29) - 1;

/// Links fields, counting them.
pub(super) struct Fields<'n, 'a> {
    names: &'n Names<'a>,
    imports: &'n Imports<'n>,
    texts: Texts,
    linked: usize,
}

/// What surrounds a field.
#[derive(Clone, Copy)]
struct Around<'s> {
    scope: &'s str,
    file: usize,
    features: Features,
    map_entry: bool,
    extension: bool,
}

impl<'n, 'a> Fields<'n, 'a> {
    pub(super) fn new(names: &'n Names<'a>, imports: &'n Imports<'n>) -> Self {
        Self { names, imports, texts: Texts::default(), linked: 0 }
    }

    /// # Errors
    /// Why the message cannot be used.
    pub(super) fn message(&mut self, pending: &PendingMessage<'_>) -> Result<Message, String> {
        let declaration = MessageDeclaration::read(pending.raw).map_err(malformed)?;
        self.count(declaration.fields.len())?;
        let declared: Result<Vec<_>, _> = declaration.fields.iter().map(|raw| FieldDeclaration::read(raw)).collect();
        let declared = declared.map_err(malformed)?;
        check_names(&declared)?;
        let oneofs = Oneofs::read(&declaration, &declared, pending.features)?;

        let mut fields = Vec::with_capacity(declared.len());
        for field in &declared {
            let (oneof, features) = oneofs.of(field)?;
            let around = Around {
                scope: &pending.name,
                file: pending.file,
                features: features.unwrap_or(pending.features),
                map_entry: pending.map_entry,
                extension: false,
            };
            let mut linked = self.field(field, around).map_err(|reason| format!("field {}: {reason}", field.name))?;
            linked.number = number(field.number, MAX_NUMBER)?;
            linked.oneof = oneof;
            fields.push(linked);
        }
        if pending.map_entry {
            check_map_entry(&fields)?;
        }
        Ok(Message {
            name: Arc::clone(&pending.name),
            fields: fields.into(),
            oneofs: oneofs.names,
            map_entry: pending.map_entry,
            message_set: declaration.message_set,
        })
    }

    /// The extended message and the extension.
    ///
    /// # Errors
    /// The extension's name, as far as it has one, and why it is left out.
    pub(super) fn extension(&mut self, pending: &PendingExtension<'_>) -> Result<(MessageId, Field), (String, String)> {
        let anonymous = |reason| (format!("in {:?}", pending.scope), reason);
        self.count(1).map_err(anonymous)?;
        let declaration = FieldDeclaration::read(pending.raw).map_err(malformed).map_err(anonymous)?;
        if !is_identifier(declaration.name) {
            return Err(anonymous(format!("{:?} is not a name", shorten(declaration.name))));
        }
        let scope: &str = &pending.scope;
        let name = if scope.is_empty() { declaration.name.to_owned() } else { format!("{scope}.{}", declaration.name) };
        self.named_extension(&declaration, pending, &name).map_err(|reason| (name, reason))
    }

    fn named_extension(
        &mut self,
        declaration: &FieldDeclaration<'_>,
        pending: &PendingExtension<'_>,
        name: &str,
    ) -> Result<(MessageId, Field), String> {
        let extendee = match self.names.resolve(&pending.scope, declaration.extendee) {
            Some(Symbol::Message(id)) => id,
            Some(Symbol::Enum(_) | Symbol::Service(_)) => return Err(String::from("what it extends is not a message")),
            None => return Err(self.imports.explain_missing(pending.file, declaration.extendee)),
        };
        let around = Around {
            scope: &pending.scope,
            file: pending.file,
            features: pending.features,
            map_entry: false,
            extension: true,
        };
        let mut field = self.field(declaration, around)?;
        // In a MessageSet the number is a value, not part of a tag.
        field.number = number(declaration.number, i32::MAX)?;
        field.json_name = format!("[{name}]").into();
        field.name = name.into();
        Ok((extendee, field))
    }

    /// Everything but number and oneof, of a field whose name was checked.
    fn field(&mut self, declaration: &FieldDeclaration<'_>, around: Around<'_>) -> Result<Field, String> {
        let features = around.features.with(&declaration.overrides).with_packed_option(declaration.packed);
        let kind = self.kind(declaration, around, features)?;
        let is_map = self.map_entry(kind);
        let cardinality = match Label::try_from(declaration.label).unwrap_or(Label::Optional) {
            Label::Repeated if is_map => Cardinality::Map,
            _ if is_map => return Err(String::from("a map entry stands by itself")),
            Label::Repeated if features.packed && kind.is_packable() => Cardinality::Packed,
            Label::Repeated => Cardinality::Repeated,
            Label::Required => Cardinality::Required,
            Label::Optional if features.presence == Presence::Required && !around.extension => Cardinality::Required,
            Label::Optional if has_presence(declaration, around, kind) => Cardinality::Explicit,
            Label::Optional if features.presence == Presence::Implicit => Cardinality::Implicit,
            Label::Optional => Cardinality::Explicit,
        };
        let json_name = declaration.json_name.filter(|name| !name.is_empty());
        Ok(Field {
            name: self.texts.share(declaration.name),
            json_name: match json_name {
                Some(name) => self.texts.share(name),
                None => self.texts.share(&json_name_of(declaration.name)),
            },
            number: 0,
            kind,
            cardinality,
            utf8: features.utf8,
            oneof: None,
        })
    }

    fn kind(&self, declaration: &FieldDeclaration<'_>, around: Around<'_>, features: Features) -> Result<Kind, String> {
        // Descriptors that no compiler has linked may leave the type out where a name is given.
        let declared = if declaration.kind == 0 { None } else { Some(declaration.kind) };
        let declared = declared.map(Type::try_from).transpose().map_err(|_| "its type is not known")?;
        let wanted = match declared {
            Some(Type::Double) => return Ok(Kind::Double),
            Some(Type::Float) => return Ok(Kind::Float),
            Some(Type::Int32) => return Ok(Kind::Int32),
            Some(Type::Int64) => return Ok(Kind::Int64),
            Some(Type::Uint32) => return Ok(Kind::Uint32),
            Some(Type::Uint64) => return Ok(Kind::Uint64),
            Some(Type::Sint32) => return Ok(Kind::Sint32),
            Some(Type::Sint64) => return Ok(Kind::Sint64),
            Some(Type::Fixed32) => return Ok(Kind::Fixed32),
            Some(Type::Fixed64) => return Ok(Kind::Fixed64),
            Some(Type::Sfixed32) => return Ok(Kind::Sfixed32),
            Some(Type::Sfixed64) => return Ok(Kind::Sfixed64),
            Some(Type::Bool) => return Ok(Kind::Bool),
            Some(Type::String) => return Ok(Kind::String),
            Some(Type::Bytes) => return Ok(Kind::Bytes),
            Some(wanted @ (Type::Enum | Type::Message | Type::Group)) => Some(wanted),
            None => None,
        };
        match (self.names.resolve(around.scope, declaration.type_name), wanted) {
            (Some(Symbol::Enum(id)), None | Some(Type::Enum)) => Ok(Kind::Enum(id)),
            (Some(Symbol::Message(id)), Some(Type::Group)) => Ok(Kind::Group(id)),
            (Some(Symbol::Message(id)), None | Some(Type::Message)) => {
                // Maps and their values are length-delimited whatever the file says.
                let in_map = around.map_entry || self.names.messages[id.0 as usize].map_entry;
                Ok(if features.delimited && !in_map { Kind::Group(id) } else { Kind::Message(id) })
            }
            (None, _) => Err(self.imports.explain_missing(around.file, declaration.type_name)),
            (Some(_), _) => Err(format!("{:?} is another kind of type", shorten(declaration.type_name))),
        }
    }

    fn map_entry(&self, kind: Kind) -> bool {
        kind.message().is_some_and(|id| self.names.messages[id.0 as usize].map_entry)
    }

    fn count(&mut self, fields: usize) -> Result<(), String> {
        self.linked = self.linked.saturating_add(fields);
        if self.linked > MAX_FIELDS {
            return Err(format!("there are more than {MAX_FIELDS} fields"));
        }
        Ok(())
    }
}

/// The real oneofs of a message.
struct Oneofs {
    /// By index in the declaration: index among the real ones and features; `None` for synthetic ones.
    declared: Vec<Option<(u16, Features)>>,
    names: Box<[Box<str>]>,
}

impl Oneofs {
    fn read(
        message: &MessageDeclaration<'_>,
        fields: &[FieldDeclaration<'_>],
        features: Features,
    ) -> Result<Self, String> {
        let mut synthetic = vec![false; message.oneofs.len()];
        for field in fields.iter().filter(|field| field.proto3_optional) {
            if let Some(slot) = field.oneof.and_then(|index| synthetic.get_mut(usize::try_from(index).ok()?)) {
                *slot = true;
            }
        }
        let mut names: Vec<Box<str>> = Vec::new();
        let mut declared = Vec::with_capacity(message.oneofs.len());
        for (raw, synthetic) in message.oneofs.iter().zip(synthetic) {
            let oneof = OneofDeclaration::read(raw).map_err(malformed)?;
            if synthetic {
                declared.push(None);
                continue;
            }
            if !is_identifier(oneof.name) {
                return Err(format!("oneof {:?} is not a name", shorten(oneof.name)));
            }
            let index = u16::try_from(names.len()).map_err(|_| "it has too many oneofs")?;
            declared.push(Some((index, features.with(&oneof.overrides))));
            names.push(oneof.name.into());
        }
        Ok(Self { declared, names: names.into() })
    }

    /// Index of the field's real oneof, and the features that it passes on.
    fn of(&self, field: &FieldDeclaration<'_>) -> Result<(Option<u16>, Option<Features>), String> {
        let Some(index) = field.oneof else { return Ok((None, None)) };
        let oneof = usize::try_from(index).ok().and_then(|index| self.declared.get(index));
        let oneof = oneof.ok_or_else(|| format!("field {}: its oneof does not exist", field.name))?;
        if oneof.is_some() && matches!(Label::try_from(field.label), Ok(Label::Repeated | Label::Required)) {
            return Err(format!("field {}: a member of a oneof is repeated or required", field.name));
        }
        Ok((oneof.map(|(index, _)| index), oneof.map(|(_, features)| features)))
    }
}

/// Whether absence can be told whatever the features say.
fn has_presence(declaration: &FieldDeclaration<'_>, around: Around<'_>, kind: Kind) -> bool {
    around.extension || declaration.oneof.is_some() || declaration.proto3_optional || kind.message().is_some()
}

fn check_names(fields: &[FieldDeclaration<'_>]) -> Result<(), String> {
    if let Some(field) = fields.iter().find(|field| !is_identifier(field.name)) {
        return Err(format!("field {:?} is not a name", shorten(field.name)));
    }
    let mut numbers: Vec<_> = fields.iter().map(|field| (field.number, field.name)).collect();
    numbers.sort_unstable();
    if let Some([(number, one), (_, other)]) = numbers.array_windows().find(|[one, other]| one.0 == other.0) {
        return Err(format!("fields {one} and {other} share number {number}"));
    }
    numbers.sort_unstable_by_key(|(_, name)| *name);
    if let Some([(_, name), _]) = numbers.array_windows().find(|[one, other]| one.1 == other.1) {
        return Err(format!("two fields are named {name}"));
    }
    Ok(())
}

/// Entries are made by compilers: <https://protobuf.dev/programming-guides/proto3/#backwards>.
fn check_map_entry(fields: &[Field]) -> Result<(), String> {
    let [key, value] = fields else { return Err(String::from("a map entry has a key and a value only")) };
    let key_kind = !matches!(
        key.kind,
        Kind::Double | Kind::Float | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) | Kind::Group(_)
    );
    let singular = |field: &Field| matches!(field.cardinality, Cardinality::Implicit | Cardinality::Explicit);
    let named = key.number == 1 && &*key.name == "key" && value.number == 2 && &*value.name == "value";
    if named && key_kind && singular(key) && singular(value) {
        Ok(())
    } else {
        Err(String::from("a map entry has a key and a value only"))
    }
}

fn number(number: i32, most: i32) -> Result<u32, String> {
    u32::try_from(number)
        .ok()
        .filter(|_| (1..=most).contains(&number))
        .ok_or_else(|| format!("{number} is not a field number"))
}

/// lowerCamelCase as protoc derives it: an underscore goes, and what follows it is upper case.
fn json_name_of(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut upper = false;
    for character in name.chars() {
        if character == '_' {
            upper = true;
        } else {
            json.push(if upper { character.to_ascii_uppercase() } else { character });
            upper = false;
        }
    }
    json
}

fn malformed(_: Malformed) -> String {
    String::from("its descriptor is malformed")
}
