//! What the source itself promises: its layers, the size of its parts, reasons for exceptions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// From the bottom up. A module imports from lines above its own and from itself, never from its neighbours.
const LAYERS: &[&[&str]] = &[
    &["media"],
    &["encoding", "expression", "grpc", "io", "jose", "multipart", "pb", "runtime"],
    &["config"],
    &["fetch", "telemetry"],
    &["body", "schema"],
    &["policy", "route", "store", "transcode", "upstream"],
    &["credentials", "error", "snapshot"],
    &["proxy"],
    &["admin", "server"],
    &["cli", "demo", "gateway"],
    &["inspect", "serve"],
    &["lib", "main"],
];

const MAX_FILE: usize = 600;
const MAX_FUNCTION: usize = 80;

/// Where tests may wait by the clock, and why.
const SLEEPS: &[(&str, &str)] = &[
    ("tests/gateway/support/backend/echo.rs", "a backend that is told to be slow"),
    ("tests/gateway/support/backend/scripted.rs", "a backend that is told to be slow"),
    ("tests/gateway/inspect/documented.rs", "waits for a child process to listen"),
    ("tests/gateway/architecture.rs", "names them"),
];

/// A source file: its path from the repository's root, and its lines.
struct Source {
    path: String,
    text: String,
}

impl Source {
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// Lines without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.lines().map(|(number, line)| (number, line.split("//").next().unwrap_or_default()))
    }

    /// The top-level module that the file belongs to.
    fn module(&self) -> &str {
        let inside = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        inside.split('/').next().unwrap_or(inside)
    }
}

fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut open: Vec<PathBuf> = vec![root.join(folder)];
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(std::fs::read_dir(&path).expect("a folder").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("source is text");
            let path = path.strip_prefix(root).expect("below the root").display().to_string();
            found.push(Source { path, text });
        }
    }
    assert!(!found.is_empty(), "{folder} has source files");
    found
}

/// The modules that a line names as `crate::module`.
fn imports(code: &str) -> impl Iterator<Item = &str> {
    code.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        rest.get(..end).unwrap_or_default()
    })
}

fn nothing(faults: &[String]) {
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn modules_import_from_lower_layers_only() {
    let layers: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(level, names)| names.iter().map(move |name| (*name, level))).collect();
    let mut faults = Vec::new();
    for source in sources("src") {
        let module = source.module();
        let Some(level) = layers.get(module) else {
            faults.push(format!("{}: the module {module} has no layer", source.path));
            continue;
        };
        for (number, code) in source.code() {
            for import in imports(code).filter(|import| *import != module) {
                match layers.get(import) {
                    Some(below) if below < level => {}
                    Some(_) => faults.push(format!("{}:{number}: {module} must not know {import}", source.path)),
                    // Also the empty name of a braced list, in which modules would hide.
                    None => faults.push(format!("{}:{number}: the module {import:?} has no layer", source.path)),
                }
            }
        }
    }
    nothing(&faults);
}

#[test]
fn every_module_says_what_it_is() {
    let silent = |source: &&Source| !source.text.starts_with("//!");
    let all: Vec<_> = sources("src").into_iter().chain(sources("tests")).collect();

    nothing(&all.iter().filter(silent).map(|source| format!("{} has no head", source.path)).collect::<Vec<_>>());
}

#[test]
fn files_and_functions_stay_small() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines = source.lines().count();
        if lines > MAX_FILE {
            faults.push(format!("{} has {lines} lines, {MAX_FILE} are allowed", source.path));
        }
        for (name, lines) in functions(&source) {
            if lines > MAX_FUNCTION {
                faults.push(format!("{}: {name} has {lines} lines, {MAX_FUNCTION} are allowed", source.path));
            }
        }
    }
    nothing(&faults);
}

/// Names and lengths. The formatter puts the closing brace of a function below the beginning of its first line.
fn functions(source: &Source) -> Vec<(String, usize)> {
    let mut open: Vec<(usize, usize, String)> = Vec::new();
    let mut found = Vec::new();
    for (number, code) in source.code() {
        let indent = code.len() - code.trim_start().len();
        if let Some(name) = function(code.trim()).filter(|_| !code.trim_end().ends_with(['}', ';'])) {
            open.push((indent, number, name));
        } else if code.trim() == "}"
            && let Some((_, begun, name)) = open.pop_if(|(outer, ..)| *outer == indent)
        {
            found.push((name, number - begun + 1));
        }
    }
    found
}

/// The name of the function that begins on a line.
fn function(code: &str) -> Option<String> {
    let (before, after) = code.split_once("fn ")?;
    let qualified = before
        .split_whitespace()
        .all(|word| matches!(word, "pub" | "const" | "async" | "extern") || word.starts_with("pub("));
    let name: String = after.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
    (qualified && !name.is_empty()).then_some(name)
}

#[test]
fn every_exception_has_its_reason() {
    let mut faults = Vec::new();
    for source in ["src", "tests", "benches"].into_iter().flat_map(sources) {
        let lines: Vec<&str> = source.text.lines().collect();
        for (index, line) in lines.iter().enumerate().filter(|(_, line)| is_allowance(line)) {
            let end = lines.iter().skip(index).position(|line| line.trim_end().ends_with(")]"));
            let last = end.map_or(index, |length| index + length);
            if !lines[index..=last].iter().any(|line| line.contains("reason = \"")) {
                faults.push(format!("{}:{}: {}", source.path, index + 1, line.trim()));
            }
        }
    }
    nothing(&faults);
}

fn is_allowance(line: &str) -> bool {
    let line = line.trim_start();
    line.starts_with("#[allow(") || line.starts_with("#![allow(")
}

#[test]
fn tests_wait_for_what_happens_and_not_for_time_to_pass() {
    let is_listed = |source: &Source| SLEEPS.iter().any(|(path, _)| *path == source.path);
    let mut faults = Vec::new();
    for source in sources("tests").iter().filter(|source| !is_listed(source)) {
        for (number, _) in source.code().filter(|(_, code)| code.contains("sleep(")) {
            faults.push(format!("{}:{number} sleeps; wait for what is to happen, or list it here", source.path));
        }
    }
    for (path, reason) in SLEEPS {
        if !Path::new(env!("CARGO_MANIFEST_DIR")).join(path).is_file() {
            faults.push(format!("{path} is listed ({reason}) and does not exist"));
        }
    }
    nothing(&faults);
}
