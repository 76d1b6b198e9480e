//! The examples in other languages, against a cluster. Each brings a smoke test that kills a process of
//! its own and checks what is left.
//!
//! They need their language's gRPC library: `TIDELOG_PYTHON` names an interpreter that has `grpcio` and
//! `grpcio-tools` (default `python3`), `TIDELOG_NODE_MODULES` a folder with `@grpc/grpc-js` and
//! `@grpc/proto-loader` (default: that of the example). Without them the tests say so and pass; where the
//! variable is set they fail.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::stage::Stage;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Whether the language has what the example needs; a probe that fails is told.
fn is_there(mut probe: Command, required_by: &str) -> bool {
    let found = probe.output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os(required_by).is_none(), "{probe:?} fails, {required_by} is set");
        println!("skipped: {probe:?} fails, so its gRPC library is not there");
    }
    found
}

/// Runs a smoke test to its end, on a cluster of its own.
async fn smoke(mut test: Command) {
    let stage = Stage::ready().await;
    test.arg(stage.cluster.bootstrap().join(","));
    let output = tokio::task::spawn_blocking(move || test.output()).await.unwrap().unwrap();
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{stdout}");
    assert!(output.status.success(), "{}\n{stdout}\n{stderr}", output.status);
}

#[tokio::test(flavor = "multi_thread")]
async fn python_services_keep_the_stock_right() {
    let python = std::env::var("TIDELOG_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut probe = Command::new(&python);
    probe.args(["-c", "import grpc, grpc_tools"]);
    if !is_there(probe, "TIDELOG_PYTHON") {
        return;
    }
    let stubs = tempfile::tempdir().unwrap();
    let proto = root().join("proto");
    let mut generate = Command::new(&python);
    generate.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto);
    for option in ["--python_out", "--grpc_python_out"] {
        generate.arg(format!("{option}={}", stubs.path().display()));
    }
    for file in std::fs::read_dir(proto.join("tidelog/v1")).unwrap() {
        generate.arg(file.unwrap().path());
    }
    let generated = generate.output().unwrap();
    assert!(generated.status.success(), "{generated:#?}");

    let mut test = Command::new(&python);
    // Nothing is written beside the sources.
    test.env("PYTHONPATH", stubs.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    test.arg(root().join("examples/shop/python/smoke_test.py"));
    smoke(test).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_service_tells_each_order_once() {
    let example = root().join("examples/shop/node");
    let modules = std::env::var_os("TIDELOG_NODE_MODULES").unwrap_or_default();
    let node = |argument: &str| {
        let mut command = Command::new("node");
        command.current_dir(&example).env("NODE_PATH", &modules).arg(argument);
        command
    };
    let mut probe = node("-e");
    probe.arg("require('@grpc/grpc-js'); require('@grpc/proto-loader')");
    if is_there(probe, "TIDELOG_NODE_MODULES") {
        smoke(node("smoke_test.js")).await;
    }
}
