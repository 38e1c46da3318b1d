//! One field of an encoded message, as the service will read it.
//!
//! A [`Probe`] is compiled from a path and walks the bytes once, without building anything. It follows protobuf's rules
//! where they matter to whoever might want to show one value to a gateway and another to a service: the last value
//! counts, parts of a message that stands twice are merged, another member of a oneof takes a value back, numbers are
//! cut to their width, and a field in a wire type that is not its own is an unknown one.

use super::wire::{Reader, Value};
use super::{Kind, MessageId, Schema};

/// A path to one field.
#[derive(Debug, Clone)]
pub struct Probe {
    steps: Box<[Step]>,
    leaf: Leaf,
}

#[derive(Debug, Clone)]
struct Step {
    number: u32,
    /// The other members of its oneof, with their wire types.
    rivals: Box<[(u32, u8)]>,
}

/// What stands at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leaf {
    Bytes,
    Signed32,
    Unsigned32,
    ZigZag32,
    Signed64,
    Unsigned64,
    ZigZag64,
    Bool,
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

impl Probe {
    /// Finds the fields of a path, names as in the `.proto` file or in JSON, joined by dots.
    ///
    /// # Errors
    /// There is no such field, or it cannot tell callers apart: only single strings, bytes, integers and truth values can.
    pub fn compile(schema: &Schema, message: MessageId, path: &str) -> Result<Self, String> {
        let mut names = path.split('.').peekable();
        let mut steps = Vec::new();
        let mut message = message;
        while let Some(name) = names.next() {
            let declared = schema.message(message);
            let field = schema.field_named(message, name);
            let (_, field) = field.ok_or_else(|| format!("{} has no field {name}", declared.name))?;
            if field.cardinality.is_repeated() {
                return Err(format!("{}.{name} has many values, and a key has one", declared.name));
            }
            let rivals = declared
                .fields
                .iter()
                .filter(|other| field.oneof.is_some() && other.oneof == field.oneof && other.number != field.number);
            let rivals = rivals.map(|other| (other.number, other.kind.wire_type())).collect();
            steps.push(Step { number: field.number, rivals });
            match (field.kind, names.peek()) {
                (Kind::Message(inner), Some(_)) => message = inner,
                (kind, None) => {
                    let leaf = Leaf::of(kind).ok_or_else(|| {
                        format!("{}.{name} is neither text, bytes, an integer nor a truth value", declared.name)
                    })?;
                    return Ok(Self { steps: steps.into(), leaf });
                }
                (_, Some(_)) => return Err(format!("{}.{name} has no fields", declared.name)),
            }
        }
        Err("a path has at least one name".to_owned())
    }

    /// The field's value, integers as decimal text; `None` where the service sees its default.
    ///
    /// # Errors
    /// The bytes are no message.
    pub fn find(&self, message: &[u8]) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut found = None;
        self.visit(0, message, &mut found)?;
        Ok(found.filter(|value| !value.is_empty()))
    }

    fn visit(&self, depth: usize, message: &[u8], found: &mut Option<Vec<u8>>) -> Result<(), Unreadable> {
        let Some(step) = self.steps.get(depth) else { return Ok(()) };
        let is_leaf = depth + 1 == self.steps.len();
        let mut reader = Reader::new(message);
        loop {
            let before = reader.remaining();
            let Some((number, value)) = reader.next().map_err(|_| Unreadable)? else { return Ok(()) };
            if number != step.number {
                let tag = message.get(message.len() - before).copied().unwrap_or_default();
                if step.rivals.contains(&(number, tag & 7)) {
                    *found = None;
                }
                continue;
            }
            match value {
                Value::Bytes(inner) if !is_leaf => self.visit(depth + 1, inner, found)?,
                value if is_leaf => {
                    if let Some(value) = self.leaf.read(value) {
                        *found = Some(value);
                    }
                }
                Value::Bytes(_) | Value::Varint(_) | Value::Other => {}
            }
        }
    }
}

impl Leaf {
    fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::String | Kind::Bytes => Some(Self::Bytes),
            Kind::Int32 => Some(Self::Signed32),
            Kind::Uint32 => Some(Self::Unsigned32),
            Kind::Sint32 => Some(Self::ZigZag32),
            Kind::Int64 => Some(Self::Signed64),
            Kind::Uint64 => Some(Self::Unsigned64),
            Kind::Sint64 => Some(Self::ZigZag64),
            Kind::Bool => Some(Self::Bool),
            Kind::Double
            | Kind::Float
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed32
            | Kind::Sfixed64
            | Kind::Enum(_)
            | Kind::Message(_)
            | Kind::Group(_) => None,
        }
    }

    /// The value; empty for a default, `None` in a wire type of another kind.
    fn read(self, value: Value<'_>) -> Option<Vec<u8>> {
        let bits = match (self, value) {
            (Self::Bytes, Value::Bytes(bytes)) => return Some(bytes.to_vec()),
            (Self::Bytes, Value::Varint(_)) | (_, Value::Bytes(_) | Value::Other) => return None,
            (_, Value::Varint(bits)) => bits,
        };
        let low = u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        let number = match self {
            Self::Bytes => 0,
            Self::Signed32 => i128::from(low.cast_signed()),
            Self::Unsigned32 => i128::from(low),
            Self::ZigZag32 => i128::from((low >> 1).cast_signed() ^ -(low & 1).cast_signed()),
            Self::Signed64 => i128::from(bits.cast_signed()),
            Self::Unsigned64 => i128::from(bits),
            Self::ZigZag64 => i128::from((bits >> 1).cast_signed() ^ -(bits & 1).cast_signed()),
            Self::Bool => i128::from(bits != 0),
        };
        Some(if number == 0 { Vec::new() } else { number.to_string().into_bytes() })
    }
}
