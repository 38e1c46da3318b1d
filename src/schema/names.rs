//! First pass over the files: which names they declare.
//!
//! Gives every message and enum its id, so that the second pass ([`super::link`]) can resolve references in any order.
//! A file is declared as a whole or not at all. The same declaration twice, under two import paths, is one; another
//! one of the same name leaves its file out.
//!
//! **Invariant**: every name in the table is a dotted sequence of identifiers of at most [`MAX_NAME`] bytes.

use std::sync::Arc;

use hashbrown::HashMap;

use super::declaration::{EnumDeclaration, FileDeclaration, MessageDeclaration, ServiceDeclaration, Types};
use super::features::Features;
use super::texts::Texts;
use super::wire::Malformed;
use super::{Enum, EnumId, MessageId, Symbol};

/// Longest full name, in bytes.
const MAX_NAME: usize = 512;
/// Most parts of a full name: bounds what resolving a relative name costs.
const MAX_PARTS: usize = 64;
/// Messages may nest this deep, as in protoc.
const MAX_DEPTH: usize = 32;
/// Most messages, enums and services of a schema together. All of Google's public APIs have about 50,000.
const MAX_TYPES: usize = 250_000;

/// Most enum values of a schema together. All of Google's public APIs have about 70,000.
const MAX_VALUES: usize = 1_000_000;

/// All that is declared, with what the second pass needs.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) table: HashMap<Arc<str>, Symbol>,
    /// Indexed by [`MessageId`].
    pub(super) messages: Vec<PendingMessage<'a>>,
    /// Indexed by [`EnumId`]; an enum refers to nothing, so it is complete already.
    pub(super) enums: Vec<Enum>,
    /// Where each enum came from, to tell whether another declaration is the same.
    enum_sources: Vec<(&'a [u8], Features)>,
    /// Names of enum values, of which several versions of an API have the same.
    texts: Texts,
    /// Enum values so far, those of files that were left out included.
    values: usize,
    pub(super) services: Vec<PendingService<'a>>,
    pub(super) extensions: Vec<PendingExtension<'a>>,
}

/// A message whose fields are not linked yet.
#[derive(Debug)]
pub(super) struct PendingMessage<'a> {
    pub(super) name: Arc<str>,
    pub(super) raw: &'a [u8],
    pub(super) file: usize,
    /// Of the message itself.
    pub(super) features: Features,
    pub(super) map_entry: bool,
    outer: Features,
}

/// A service whose methods are not linked yet.
#[derive(Debug)]
pub(super) struct PendingService<'a> {
    pub(super) name: Arc<str>,
    pub(super) raw: &'a [u8],
    pub(super) file: usize,
}

/// An extension that is not linked yet.
#[derive(Debug)]
pub(super) struct PendingExtension<'a> {
    pub(super) raw: &'a [u8],
    /// Package or message around it.
    pub(super) scope: Arc<str>,
    pub(super) file: usize,
    /// Of what is around it.
    pub(super) features: Features,
}

/// What surrounds a declaration.
#[derive(Clone, Copy)]
struct Scope<'s> {
    name: &'s Arc<str>,
    file: usize,
    features: Features,
    depth: usize,
}

/// Lengths to return to when a file turns out bad halfway.
struct Mark {
    messages: usize,
    enums: usize,
    services: usize,
    extensions: usize,
}

impl<'a> Names<'a> {
    /// Declares everything in a file.
    ///
    /// # Errors
    /// Why the whole file is left out; nothing of it is declared then.
    pub(super) fn declare(&mut self, index: usize, file: &FileDeclaration<'a>) -> Result<(), String> {
        let mark = Mark {
            messages: self.messages.len(),
            enums: self.enums.len(),
            services: self.services.len(),
            extensions: self.extensions.len(),
        };
        let declared = self.declare_file(index, file);
        if declared.is_err() {
            self.forget_since(&mark);
        }
        declared
    }

    /// What `name` means inside `scope`: innermost first, as
    /// <https://protobuf.dev/programming-guides/proto3/#name-resolution> has it. A leading dot makes it absolute.
    pub(super) fn resolve(&self, scope: &str, name: &str) -> Option<Symbol> {
        if let Some(absolute) = name.strip_prefix('.') {
            return self.table.get(absolute).copied();
        }
        if name.len() > MAX_NAME {
            return None;
        }
        let mut scope = Some(scope).filter(|scope| !scope.is_empty());
        while let Some(inner) = scope {
            if let Some(symbol) = self.table.get(format!("{inner}.{name}").as_str()) {
                return Some(*symbol);
            }
            scope = inner.rsplit_once('.').map(|(outer, _)| outer);
        }
        self.table.get(name).copied()
    }

    fn declare_file(&mut self, index: usize, file: &FileDeclaration<'a>) -> Result<(), String> {
        if !(file.package.is_empty() || is_full_name(file.package)) {
            return Err(format!("its package {:?} is not a name", shorten(file.package)));
        }
        let features = Features::of_file(file.syntax, file.edition)?.with(&file.overrides);
        let package = Arc::from(file.package);
        let scope = Scope { name: &package, file: index, features, depth: 0 };
        self.declare_types(scope, &file.types)?;
        for &raw in &file.services {
            let service = ServiceDeclaration::read(raw).map_err(malformed)?;
            let Some(name) = self.claim(scope, service.name, |names, symbol| match symbol {
                Symbol::Service(existing) => names.services[existing as usize].raw == raw,
                Symbol::Message(_) | Symbol::Enum(_) => false,
            })?
            else {
                continue;
            };
            let symbol = Symbol::Service(count(self.services.len())?);
            self.table.insert(Arc::clone(&name), symbol);
            self.services.push(PendingService { name, raw, file: index });
        }
        Ok(())
    }

    fn declare_types(&mut self, scope: Scope<'_>, types: &Types<'a>) -> Result<(), String> {
        if scope.depth > MAX_DEPTH {
            return Err(format!("messages nest more than {MAX_DEPTH} deep in it"));
        }
        for &raw in &types.enums {
            self.declare_enum(scope, raw)?;
        }
        for &raw in &types.messages {
            self.declare_message(scope, raw)?;
        }
        self.extensions.extend(types.extensions.iter().map(|raw| PendingExtension {
            raw,
            scope: Arc::clone(scope.name),
            file: scope.file,
            features: scope.features,
        }));
        Ok(())
    }

    fn declare_message(&mut self, scope: Scope<'_>, raw: &'a [u8]) -> Result<(), String> {
        let message = MessageDeclaration::read(raw).map_err(malformed)?;
        let Some(name) = self.claim(scope, message.name, |names, symbol| match symbol {
            Symbol::Message(MessageId(id)) => {
                let existing = &names.messages[id as usize];
                existing.raw == raw && existing.outer == scope.features
            }
            Symbol::Enum(_) | Symbol::Service(_) => false,
        })?
        else {
            return Ok(());
        };
        let id = MessageId(count(self.messages.len())?);
        self.table.insert(Arc::clone(&name), Symbol::Message(id));
        let features = scope.features.with(&message.overrides);
        self.messages.push(PendingMessage {
            name: Arc::clone(&name),
            raw,
            file: scope.file,
            features,
            map_entry: message.map_entry,
            outer: scope.features,
        });
        self.declare_types(Scope { name: &name, features, depth: scope.depth + 1, ..scope }, &message.types)
    }

    fn declare_enum(&mut self, scope: Scope<'_>, raw: &'a [u8]) -> Result<(), String> {
        let declaration = EnumDeclaration::read(raw).map_err(malformed)?;
        let Some(name) = self.claim(scope, declaration.name, |names, symbol| match symbol {
            Symbol::Enum(EnumId(id)) => names.enum_sources[id as usize] == (raw, scope.features),
            Symbol::Message(_) | Symbol::Service(_) => false,
        })?
        else {
            return Ok(());
        };
        if declaration.values.is_empty() {
            return Err(format!("enum {name} has no values"));
        }
        if let Some((value, _)) = declaration.values.iter().find(|(value, _)| !is_identifier(value)) {
            return Err(format!("enum {name} has a value {:?}, which is not a name", shorten(value)));
        }
        self.values += declaration.values.len();
        if self.values > MAX_VALUES {
            return Err(format!("there are more than {MAX_VALUES} enum values"));
        }
        let id = EnumId(count(self.enums.len())?);
        self.table.insert(Arc::clone(&name), Symbol::Enum(id));
        self.enum_sources.push((raw, scope.features));
        self.enums.push(Enum {
            name,
            values: declaration.values.iter().map(|&(value, number)| (self.texts.share(value), number)).collect(),
            closed: scope.features.with(&declaration.overrides).closed_enums,
        });
        Ok(())
    }

    /// The full name of a new declaration, `None` if the very same one is there already.
    fn claim(
        &self,
        scope: Scope<'_>,
        name: &str,
        is_same: impl FnOnce(&Self, Symbol) -> bool,
    ) -> Result<Option<Arc<str>>, String> {
        if !is_identifier(name) {
            return Err(format!("it declares {:?}, which is not a name", shorten(name)));
        }
        let full: Arc<str> =
            if scope.name.is_empty() { Arc::from(name) } else { Arc::from(format!("{}.{name}", scope.name)) };
        if full.len() > MAX_NAME || full.split('.').count() > MAX_PARTS {
            return Err(format!("a name in it is longer than {MAX_NAME} bytes or {MAX_PARTS} parts"));
        }
        if let Some(&symbol) = self.table.get(&full) {
            return if is_same(self, symbol) {
                Ok(None)
            } else {
                Err(format!("{full} is declared differently elsewhere"))
            };
        }
        if self.table.len() >= MAX_TYPES {
            return Err(format!("there are more than {MAX_TYPES} types"));
        }
        Ok(Some(full))
    }

    fn forget_since(&mut self, mark: &Mark) {
        let messages = self.messages.drain(mark.messages..).map(|message| message.name);
        let enums = self.enums.drain(mark.enums..).map(|enumeration| enumeration.name);
        let services = self.services.drain(mark.services..).map(|service| service.name);
        for name in messages.chain(enums).chain(services) {
            self.table.remove(&name);
        }
        self.enum_sources.truncate(mark.enums);
        self.extensions.truncate(mark.extensions);
    }
}

/// Whether this is a letter or underscore, followed by letters, digits and underscores.
pub(super) fn is_identifier(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// As much of a hostile name as belongs into a message; callers print it quoted and escaped.
pub(super) fn shorten(name: &str) -> &str {
    name.get(..name.floor_char_boundary(64)).unwrap_or_default()
}

fn is_full_name(name: &str) -> bool {
    name.len() <= MAX_NAME && name.split('.').all(is_identifier)
}

fn count(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| format!("there are more than {MAX_TYPES} types"))
}

fn malformed(_: Malformed) -> String {
    String::from("its descriptor is malformed")
}
