//! What the documents say of files, configurations and errors is so. `docs/configuration.md` and the wrong configurations
//! of `docs/errors.md` are tested beside the configuration itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use portico::config;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = repository().join(path);
    fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display())).expect("a document")
}

/// The files of a folder with that ending, not those below it.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let mut found: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == ending)).collect();
    found.sort();
    found
}

fn documents() -> Vec<PathBuf> {
    ["", "docs", "docs/decisions", "bench"].into_iter().flat_map(|folder| files(folder, "md")).collect()
}

/// The fenced blocks of a document: language and text.
fn blocks(document: &str) -> impl Iterator<Item = (&str, &str)> {
    document.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'))
}

/// A document without its fenced blocks and code spans, in which brackets are no links.
fn prose(document: &str) -> String {
    let outside: String = document.split("```").step_by(2).collect();
    outside.split('`').step_by(2).collect()
}

/// The targets of inline links and of link definitions.
fn links(document: &str) -> Vec<String> {
    let prose = prose(document);
    let inline = prose.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    let defined = prose.lines().filter(|line| line.starts_with('[')).filter_map(|line| line.split_once("]: "));
    inline.chain(defined.map(|(_, target)| target)).map(str::to_owned).collect()
}

/// The anchors of a document's headings, as they are made where the repository is shown.
fn anchors(document: &str) -> BTreeSet<String> {
    let outside: String = document.split("```").step_by(2).collect();
    let headings = outside.lines().filter(|line| line.starts_with('#'));
    let kept = |character: &char| character.is_alphanumeric() || matches!(character, ' ' | '-' | '_');
    headings
        .map(|line| line.trim_start_matches('#').trim().to_lowercase())
        .map(|heading| heading.chars().filter(kept).collect::<String>().replace(' ', "-"))
        .collect()
}

#[test]
fn methods_of_the_library_that_are_named_are_there() {
    const SERVICE: &str = "portico.library.v1.";
    let source = read("proto/portico/library/v1/library.proto");
    let methods: Vec<&str> =
        source.split("rpc ").skip(1).filter_map(|rest| rest.split_once('(').map(|(name, _)| name)).collect();
    for path in documents().into_iter().chain(files("examples", "yaml")) {
        let text = read(&path);
        for (_, rest) in text.match_indices("match: ").map(|(at, word)| text.split_at(at + word.len())) {
            let pattern = rest.trim_start_matches('"').split(['"', ',', ' ', '\n']).next().unwrap_or_default();
            let Some(method) = pattern.strip_prefix(SERVICE) else { continue };
            let known = method.strip_prefix("Library/").is_some_and(|name| match name.strip_suffix('*') {
                Some(start) => methods.iter().any(|method| method.starts_with(start)),
                None => methods.contains(&name),
            });
            assert!(known || method == "*", "{}: {pattern}", path.display());
        }
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut followed = 0;
    for document in documents() {
        let text = read(&document);
        for link in links(&text).iter().filter(|link| !link.contains("://")) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target =
                if path.is_empty() { document.clone() } else { document.parent().expect("a folder").join(path) };
            assert!(target.exists(), "{} links to {link}, which is not there", document.display());
            if !anchor.is_empty() {
                assert!(anchors(&read(&target)).contains(anchor), "{}: no heading {link}", document.display());
            }
            followed += 1;
        }
    }
    assert!(followed >= 40, "{followed} links");
}

#[test]
fn configurations_in_the_readme_load_without_a_warning() {
    let readme = read("README.md");

    let mut loaded = 0;
    for (_, text) in blocks(&readme).filter(|(language, _)| *language == "yaml") {
        match config::from_str(text, "README.md", repository()) {
            Ok(configuration) => assert!(configuration.warnings.is_empty(), "{text}"),
            Err(errors) => panic!("{errors}"),
        }
        loaded += 1;
    }
    assert_eq!(loaded, 1);
}

#[test]
fn configurations_in_the_guide_to_upstreams_load_without_a_warning() {
    let guide = read("docs/upstreams.md");

    let file = blocks(&guide).find(|(language, _)| *language == "yaml file").expect("a file of endpoints").1;
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("endpoints.yaml"), file).expect("a file");
    let mut loaded = 0;
    for (_, text) in blocks(&guide).filter(|(language, _)| *language == "yaml") {
        match config::from_str(text, "docs/upstreams.md", folder.path()) {
            Ok(configuration) => assert!(configuration.warnings.is_empty(), "{text}"),
            Err(errors) => panic!("{errors}"),
        }
        loaded += 1;
    }
    let endpoints = config::endpoints::read(&folder.path().join("endpoints.yaml")).expect("it is right");
    assert_eq!((loaded, endpoints.len()), (8, 2));
}

#[test]
fn every_module_is_on_the_code_map() {
    let architecture = read("ARCHITECTURE.md");
    let library = read("src/lib.rs");
    let modules: Vec<_> = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();

    for module in &modules {
        let named = ["", ".rs", "/"].iter().any(|ending| architecture.contains(&format!("`{module}{ending}`")));
        assert!(named, "{module} is not on the code map of ARCHITECTURE.md");
    }
    assert!(modules.len() >= 20 && architecture.lines().count() <= 250);
}

#[test]
fn files_that_the_architecture_names_exist() {
    let architecture = read("ARCHITECTURE.md");

    for name in architecture.split('`').skip(1).step_by(2).filter(|name| name.ends_with(".rs") && !name.contains(' ')) {
        let found = ["src", ""].iter().any(|folder| repository().join(folder).join(name).exists());
        assert!(found, "{name} is not there");
    }
}

#[test]
fn every_reason_that_callers_can_meet_is_explained() {
    let explained = read("docs/transcoding.md");
    let folders = ["src/proxy", "src/proxy/websocket"];
    let made: String = folders.iter().flat_map(|folder| files(folder, "rs")).map(read).collect();
    let source = read("src/error.rs");
    let names = source.lines().filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""));

    let mut reasons = 0;
    for (reason, rest) in names {
        let name = rest.trim_end_matches("\",");
        let used = made.contains(&format!("Reason::{reason}"));
        assert_eq!(explained.contains(&format!("| `{name}` |")), used || name == "INVALID_REQUEST", "{name}");
        reasons += 1;
    }
    assert!(reasons >= 20, "{reasons} reasons");
}

#[test]
fn every_record_is_in_the_index() {
    let index = read("docs/decisions/README.md");

    for record in files("docs/decisions", "md") {
        let name = record.file_name().expect("a file").to_string_lossy();
        let Some((number, _)) = name.split_once('-') else { continue };
        let heading = read(&record).lines().next().expect("a heading").to_owned();
        let title = heading.strip_prefix(&format!("# {number}: ")).unwrap_or_else(|| panic!("{name}: {heading}"));
        assert!(index.contains(&format!("| [{number}]({name}) | {title} |")), "{name} is not in the index");
    }
}
