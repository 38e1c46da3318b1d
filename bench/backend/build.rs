//! Compiles `bench.proto`, and writes its descriptors with everything that they import to `bench.binpb`.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=../proto");
    let mut compiler = protox::Compiler::new(["../proto", "../../proto"])?;
    compiler.include_imports(true).include_source_info(false).open_file("bench.proto")?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?).join("bench.binpb");
    std::fs::write(out, compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure().build_client(false).compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
