//! Builds a [`Schema`] from the bytes of its files.
//!
//! Two passes: [`super::names`] declares, this module links. It never fails as a whole: what cannot be linked is left
//! out with a [`Problem`], a message drags along the messages that hold it ([`super::broken`]), and a service is left
//! out when one of its methods needs such a message. Only services, never single methods, are left out, so that a
//! client never sees half an interface.

use std::sync::Arc;

use bytes::Bytes;
use hashbrown::hash_map::Entry;
use hashbrown::{HashMap, HashSet};

use super::broken::Broken;
use super::declaration::FileDeclaration;
use super::fields::Fields;
use super::names::{Names, shorten};
use super::services::link_service;
use super::{EnumId, Extension, File, Message, MessageId, Problem, Schema, Symbol, set};

/// Most files of a schema. All of Google's public APIs have about 8,000.
const MAX_FILES: usize = 20_000;
/// Most bytes of descriptors in a schema.
const MAX_BYTES: usize = 256 << 20;
/// Most methods of a schema. All of Google's public APIs have about 5,500.
const MAX_METHODS: usize = 200_000;
/// Most problems that are kept; a hostile set could have one per type.
const MAX_PROBLEMS: usize = 1_000;

impl Schema {
    /// Builds a schema from encoded `FileDescriptorProto`s, in any order.
    ///
    /// Of several files with one name the first counts. Imports of `google/*` files that are missing are taken from
    /// the vendored ones, whose services stay out. Never fails: see [`Schema::problems`] for what was left out.
    pub fn from_files(files: Vec<Bytes>) -> Self {
        let mut problems = Problems::default();
        let (files, given) = gather(files, &mut problems);
        let mut declarations: Vec<_> = files
            .iter()
            .map(|file| FileDeclaration::read(file).unwrap_or_default()) // gather() keeps only files that can be read
            .collect();
        for fallback in declarations.iter_mut().skip(given) {
            fallback.services.clear();
        }

        let mut names = Names::default();
        let mut left_out = HashSet::new();
        for (index, file) in declarations.iter().enumerate() {
            if let Err(reason) = names.declare(index, file) {
                left_out.insert(file.name);
                // A vendored file in conflict with what was given loses without a word: nobody asked for it.
                if index < given {
                    problems.note(file_subject(file.name), reason);
                }
            }
        }
        let mut schema = link(names, &Imports::new(&declarations, &left_out), problems);
        schema.files = keep_files(&files, &declarations);
        schema
    }
}

/// What is known of the files around a declaration, to explain why a name is not there.
pub(super) struct Imports<'a> {
    /// Each file's name, and its first import that is missing or was left out.
    files: Vec<(&'a str, Option<&'a str>)>,
}

impl<'a> Imports<'a> {
    fn new(declarations: &[FileDeclaration<'a>], left_out: &HashSet<&str>) -> Self {
        let there: HashSet<&str> = declarations.iter().map(|file| file.name).collect();
        let missing = |import: &&&str| !there.contains(**import) || left_out.contains(**import);
        let files = declarations.iter().map(|file| (file.name, file.dependencies.iter().find(missing).copied()));
        Self { files: files.collect() }
    }

    /// Why a type that is used in this file may be unknown.
    pub(super) fn explain_missing(&self, file: usize, type_name: &str) -> String {
        let type_name = shorten(type_name.strip_prefix('.').unwrap_or(type_name));
        match self.files.get(file) {
            Some((file, Some(import))) => format!(
                "type {type_name:?} is not declared, and {}, which {} imports, is missing",
                shorten(import).escape_debug(),
                shorten(file).escape_debug()
            ),
            Some((_, None)) | None => format!("type {type_name:?} is not declared"),
        }
    }
}

/// Problems, up to a bound.
#[derive(Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn note(&mut self, subject: String, reason: String) {
        if self.0.len() < MAX_PROBLEMS {
            self.0.push(Problem { subject, reason });
        }
    }
}

/// The files that can be read, one per name, followed by vendored ones that they import without bringing them.
/// The number is that of the files that were given.
fn gather(files: Vec<Bytes>, problems: &mut Problems) -> (Vec<Bytes>, usize) {
    let mut kept: Vec<Bytes> = Vec::with_capacity(files.len());
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(files.len());
    let mut wanted = Vec::new();
    let mut size = 0usize;
    for (position, file) in files.into_iter().enumerate() {
        size = size.saturating_add(file.len());
        if kept.len() >= MAX_FILES || size > MAX_BYTES {
            let reason = format!("there are more than {MAX_FILES} files or {MAX_BYTES} bytes of them");
            problems.note(format!("every file after the first {}", kept.len()), reason);
            break;
        }
        let declaration = match FileDeclaration::read(&file) {
            Ok(declaration) if !declaration.name.is_empty() => declaration,
            Ok(_) => {
                problems.note(format!("file number {}", position + 1), String::from("it has no name"));
                continue;
            }
            Err(_) => {
                problems.note(format!("file number {}", position + 1), String::from("its descriptor is malformed"));
                continue;
            }
        };
        match by_name.entry(String::from(declaration.name)) {
            Entry::Occupied(first) => {
                if kept[*first.get()] != file {
                    let reason = String::from("it is there twice with different contents, the first one counts");
                    problems.note(file_subject(declaration.name), reason);
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(kept.len());
                wanted.extend(declaration.dependencies.iter().filter_map(|import| set::vendored(import)));
                kept.push(file);
            }
        }
    }
    let given = kept.len();
    while let Some(vendored) = wanted.pop() {
        if let Entry::Vacant(entry) = by_name.entry(String::from(vendored.name)) {
            entry.insert(kept.len());
            wanted.extend(vendored.dependencies.iter().filter_map(|import| set::vendored(import)));
            kept.push(vendored.bytes.clone());
        }
    }
    (kept, given)
}

fn link(names: Names<'_>, imports: &Imports<'_>, mut problems: Problems) -> Schema {
    let mut broken = Broken::new(names.messages.len());
    let mut fields = Fields::new(&names, imports);
    let mut messages = Vec::with_capacity(names.messages.len());
    for (pending, id) in names.messages.iter().zip(0u32..) {
        let message = fields.message(pending).unwrap_or_else(|reason| {
            problems.note(format!("message {}", pending.name), reason.clone());
            broken.mark(MessageId(id), format!("message {}: {reason}", pending.name));
            Message {
                name: Arc::clone(&pending.name),
                fields: Box::default(),
                oneofs: Box::default(),
                map_entry: pending.map_entry,
                message_set: false,
            }
        });
        messages.push(message);
    }
    broken.spread(&messages);
    let extensions = link_extensions(&names, &mut fields, &broken, &mut problems);

    let mut methods = 0;
    let mut services = Vec::with_capacity(names.services.len());
    for pending in &names.services {
        match link_service(pending, &names, imports, &broken, &mut problems) {
            Ok(service) if methods + service.methods.len() > MAX_METHODS => {
                problems.note(service.name.to_string(), format!("there are more than {MAX_METHODS} methods"));
            }
            Ok(service) => {
                methods += service.methods.len();
                services.push(service);
            }
            Err(reason) => problems.note(pending.name.to_string(), reason),
        }
    }

    let Names { mut enums, .. } = names;
    enums.shrink_to_fit();
    let sound = (0u32..).map(MessageId).take(messages.len()).filter(|id| broken.reason(*id).is_none());
    let types = (0u32..).map(|id| Symbol::Enum(EnumId(id))).take(enums.len()).chain(sound.map(Symbol::Message));
    let mut schema = Schema { messages, enums, services, extensions, problems: problems.0, ..Schema::default() };
    schema.add_symbols(types);
    schema.add_symbols(schema.service_symbols());
    schema
}

/// Extensions by what they extend; of two with one number the first counts.
fn link_extensions(
    names: &Names<'_>,
    fields: &mut Fields<'_, '_>,
    broken: &Broken,
    problems: &mut Problems,
) -> HashMap<MessageId, Vec<Extension>> {
    let mut extensions: HashMap<MessageId, Vec<Extension>> = HashMap::new();
    let mut taken: HashMap<(MessageId, u32), Arc<str>> = HashMap::new();
    for pending in &names.extensions {
        let (extendee, field) = match fields.extension(pending) {
            Ok(linked) => linked,
            Err((name, reason)) => {
                problems.note(format!("extension {name}"), reason);
                continue;
            }
        };
        let needed = [Some(extendee), field.kind.message()];
        if let Some(reason) = needed.into_iter().flatten().find_map(|id| broken.reason(id)) {
            problems.note(format!("extension {}", field.name), format!("it needs {reason}"));
            continue;
        }
        match taken.entry((extendee, field.number)) {
            Entry::Occupied(first) if **first.get() == *field.name => {} // the same file under two import paths
            Entry::Occupied(first) => {
                problems.note(format!("extension {}", field.name), format!("{} has its number", first.get()));
            }
            Entry::Vacant(entry) => {
                entry.insert(Arc::clone(&field.name));
                extensions.entry(extendee).or_default().push(Extension { field, file: pending.file });
            }
        }
    }
    extensions
}

fn file_subject(name: &str) -> String {
    format!("file {}", shorten(name).escape_debug())
}

fn keep_files(files: &[Bytes], declarations: &[FileDeclaration<'_>]) -> Vec<File> {
    let names: HashMap<&str, Arc<str>> = declarations.iter().map(|file| (file.name, Arc::from(file.name))).collect();
    let shared = |name: &&str| names.get(name).map_or_else(|| Arc::from(*name), Arc::clone);
    let kept = files.iter().zip(declarations).map(|(bytes, file)| File {
        name: shared(&file.name),
        bytes: bytes.clone(),
        dependencies: file.dependencies.iter().map(shared).collect(),
    });
    kept.collect()
}
