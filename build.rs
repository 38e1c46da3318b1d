//! Compiles `proto/` with protox, so that nobody needs protoc.
//!
//! Writes to `OUT_DIR`: one Rust file per package that the program speaks itself, `vendored.rs` (the sources of
//! every vendored file, offered as imports to the operator's `.proto` files) and `vendored.binpb` (their descriptors);
//! in `test/` the same for the service that the black-box tests call.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Files whose messages or services the program itself uses.
const SPOKEN: &[&str] = &[
    "envoy/service/ratelimit/v3/rls.proto",
    "google/protobuf/descriptor.proto",
    "google/rpc/status.proto",
    "google/rpc/error_details.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
    "portico/library/v1/library.proto",
    "envoy/service/auth/v3/external_auth.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let root = Path::new("proto").canonicalize()?;

    let spoken = protox::Compiler::new([&root])?
        .include_source_info(true)
        .include_imports(true)
        .open_files(SPOKEN)?
        .file_descriptor_set();
    std::fs::write(out.join("demo.binpb"), demo_set(&root)?)?;
    let mut prost = prost_build::Config::new();
    prost.compile_well_known_types().disable_comments(["."]).bytes([".google.api.HttpBody"]);
    tonic_prost_build::configure().build_client(false).build_server(true).compile_fds_with_config(spoken, prost)?;

    test_service(&root, &out.join("test"))?;

    let mut names = Vec::new();
    collect(&root, &root, &mut names)?;
    names.retain(|name| name.starts_with("google/"));
    names.sort();
    let mut vendored = protox::Compiler::new([&root])?;
    vendored.include_imports(true).include_source_info(false).open_files(&names)?;
    // The one well-known type that no vendored file imports; protox brings it along.
    vendored.open_file("google/protobuf/field_mask.proto")?;
    std::fs::write(out.join("vendored.binpb"), vendored.encode_file_descriptor_set())?;
    let mut source = String::from("&[\n");
    for name in &names {
        writeln!(source, "    ({name:?}, include_str!({:?})),", root.join(name))?;
    }
    source.push_str("]\n");
    std::fs::write(out.join("vendored.rs"), source)?;
    Ok(())
}

/// The demo's descriptors with everything that they import, as its reflection serves them.
fn demo_set(root: &Path) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut demo = protox::Compiler::new([root])?;
    demo.include_imports(true).include_source_info(true).open_files([
        "portico/library/v1/library.proto",
        "grpc/health/v1/health.proto",
        "grpc/reflection/v1/reflection.proto",
        "grpc/reflection/v1alpha/reflection.proto",
        "google/rpc/error_details.proto",
    ])?;
    Ok(demo.encode_file_descriptor_set())
}

/// The service that the black-box tests call, with a client. Goes to a folder of its own, from which the tests include
/// it; the program never does.
fn test_service(root: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(out)?;
    let mut echo = protox::Compiler::new([root])?;
    echo.include_imports(true).include_source_info(true).open_files(["portico/test/v1/echo.proto"])?;
    std::fs::write(out.join("echo.binpb"), echo.encode_file_descriptor_set())?;
    let mut prost = prost_build::Config::new();
    prost.compile_well_known_types().disable_comments(["."]).out_dir(out);
    tonic_prost_build::configure().out_dir(out).compile_fds_with_config(echo.file_descriptor_set(), prost)?;
    Ok(())
}

fn collect(root: &Path, folder: &Path, names: &mut Vec<String>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(root, &path, names)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            names.push(path.strip_prefix(root)?.to_string_lossy().replace('\\', "/"));
        }
    }
    Ok(())
}
