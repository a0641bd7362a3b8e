//! The command line as people meet it: help, a good folder, a bad one, a bad start. (With this test in the crate, cargo
//! builds the binary that whole-proxy tests run.)

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn weir_proxy(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir-proxy")).args(arguments).output().expect("the binary was built for this test")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_names_every_flag() {
    let help = stdout(&weir_proxy(&["--help"]));
    for flag in ["--config", "--workers", "--admin", "--cache", "--log-format", "--bind", "--plugins", "validate"] {
        assert!(help.contains(flag), "{flag} is not in:\n{help}");
    }
}

#[test]
fn validate_prints_position_and_reason_and_exits_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.yaml");
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec:\n  gatewayClassName: weir\n";
    fs::write(&path, format!("{gateway}  listeners: [{{name: http, port: 8080, protocol: HTTP}}]\n")).unwrap();
    let good = weir_proxy(&["validate", &path.to_string_lossy()]);
    assert!(good.status.success(), "{}{}", stdout(&good), stderr(&good));

    fs::write(&path, format!("{gateway}  listener: [{{name: http, port: 8080, protocol: HTTP}}]\n")).unwrap();
    let bad = weir_proxy(&["validate", &path.to_string_lossy()]);
    let text = stdout(&bad) + &stderr(&bad);
    assert_eq!(bad.status.code(), Some(1), "{text}");
    assert!(text.contains("shop.yaml:6:3: Gateway default/edge: spec.listener: unknown field"), "{text}");
}

#[test]
fn failed_start_prints_reason_and_exits_with_1() {
    for (arguments, expected) in [
        (&["--config", "/nowhere/at/all"][..], "/nowhere/at/all"),
        (&["--config", ".", "--admin", "0.0.0.0:15000"][..], "loopback"),
    ] {
        let output = weir_proxy(arguments);
        assert!(!output.status.success());
        let text = stderr(&output);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
    assert!(Path::new(env!("CARGO_BIN_EXE_weir-proxy")).exists());
}
