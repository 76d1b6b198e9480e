//! The committed code is what the contract generates. With `UPDATE=1` it is written instead.

use std::fs;
use std::path::{Path, PathBuf};

use protox::prost::Message;
use tonic_prost_build::Builder;

/// Between brokers only: generated on its own, since it stands behind a feature.
const RAFT: &str = "tidelog/v1/raft.proto";

#[test]
fn generated_code_is_committed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let contract = root.join("../../proto");
    let committed = root.join("src/gen");
    let fresh = tempfile::tempdir().unwrap();
    let public = protos(&contract).into_iter().filter(|name| name != RAFT).collect::<Vec<_>>();

    let stubs = tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"client\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]");
    generate(&contract, &public, stubs, &fresh.path().join("tidelog.v1.rs"));
    let raft = [RAFT.to_owned()];
    let between = fresh.path().join("tidelog.v1.raft.rs");
    generate(&contract, &raft, tonic_prost_build::configure(), &between);
    let mut descriptors = protox::Compiler::new([&contract]).unwrap();
    let descriptors = descriptors.include_imports(true).open_files(&public).unwrap();
    let descriptors = descriptors.file_descriptor_set().encode_to_vec();
    fs::write(fresh.path().join("tidelog.v1.bin"), descriptors).unwrap();

    for name in ["tidelog.v1.rs", "tidelog.v1.raft.rs", "tidelog.v1.bin"] {
        let generated = fs::read(fresh.path().join(name)).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&committed).unwrap();
            fs::write(committed.join(name), generated).unwrap();
            continue;
        }
        let same = fs::read(committed.join(name)).is_ok_and(|committed| committed == generated);
        assert!(same, "src/gen/{name} is stale: run UPDATE=1 cargo test -p tidelog-proto");
    }
}

/// All files of the contract, by the names that they import each other by.
fn protos(contract: &Path) -> Vec<String> {
    let folder = fs::read_dir(contract.join("tidelog/v1")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let protos = names.filter(|name| name.ends_with(".proto"));
    let mut protos = protos.map(|name| format!("tidelog/v1/{name}")).collect::<Vec<_>>();
    protos.sort();
    protos
}

/// Writes the code of `protos` to `out`.
fn generate(contract: &Path, protos: &[String], builder: Builder, out: &PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let mut compiler = protox::Compiler::new([contract]).unwrap();
    // Comments become documentation.
    let compiled = compiler.include_source_info(true).include_imports(true).open_files(protos);
    let descriptors = compiled.unwrap().file_descriptor_set();
    builder
        .bytes(".")
        .build_transport(false)
        .out_dir(folder.path())
        .compile_fds(descriptors)
        .unwrap();
    fs::rename(folder.path().join("tidelog.v1.rs"), out).unwrap();
}
