//! Runs the READMEs of the examples: the `sh` blocks of each example, in order, in one shell.
//!
//! The blocks use fixed ports. So the test copies the example, and replaces each port in its resources and its README
//! by a free one. It needs the feature `tools`, since the blocks use curl, python3 and node.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The start of the script: stops at the first failure, kills background jobs at exit, and waits for ports.
const PROLOGUE: &str = r#"
set -eu
EXAMPLE=$1
trap 'for job in $(jobs -p); do kill "$job" 2>/dev/null || true; done' EXIT
listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# A script sends its first request before the proxy listens.
curl() {
    for attempt in $(seq 600); do
        case $EXAMPLE in
            control-plane) ports="8081 8082 8083 9000 9001" ;;
            mtls-mesh) ports="8080 9000 15008" ;;
            grpc | quickstart) ports="8080 9000 9001" ;;
            *) ports="8080 9000" ;;
        esac
        missing=
        for port in $ports; do listens "$port" || missing=$port; done
        if [ -z "$missing" ]; then break; fi
        sleep 0.1
    done
    command curl --silent --show-error --max-time 20 "$@"
}
weir() {
    for attempt in $(seq 600); do if listens 15080; then break; else sleep 0.1; fi; done
    command weir "$@"
}
command -v rustup >/dev/null || rustup() { echo "there is no rustup; the target must be here"; }
"#;

struct Example {
    name: String,
    /// The `sh` blocks of the README.
    commands: Vec<String>,
    /// The lines of the README's `text` blocks. Each must be in the output.
    expected: Vec<String>,
}

#[test]
fn quickstart() {
    run("quickstart");
}

#[test]
fn custom_filter() {
    run("custom-filter");
}

#[test]
fn control_plane() {
    run("control-plane");
}

#[test]
fn grpc() {
    run("grpc");
}

#[test]
fn mtls_mesh() {
    run("mtls-mesh");
}

#[test]
fn every_example_has_a_test() {
    let tested = fs::read_to_string(root().join("tests/examples.rs")).expect("this file");
    for entry in fs::read_dir(root().join("examples")).expect("a folder of examples") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let is_run = tested.contains(&format!("run(\"{name}\")"));
        assert!(!path.is_dir() || is_run, "examples/{name} is not run by tests/examples.rs");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

fn run(name: &str) {
    let example = read(name);
    let copy = Copy::of(name);
    let script = copy.adapt(&(PROLOGUE.to_owned() + &example.commands.join("\n")));
    let output = Command::new("bash")
        .args(["-c", &script, "bash", name])
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .expect("bash starts");
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).replace('\r', "");
    assert!(output.status.success(), "{name} ended with {}:\n{script}\n{text}", output.status);
    for line in &example.expected {
        let line = copy.adapt(line);
        assert!(text.lines().any(|printed| printed == line), "{name} did not print `{line}`:\n{text}");
    }
}

fn read(name: &str) -> Example {
    let path = root().join("examples").join(name).join("README.md");
    let readme = fs::read_to_string(&path).expect("an example has a README");
    let mut example = Example { name: name.to_owned(), commands: Vec::new(), expected: Vec::new() };
    for (index, block) in readme.split("```").enumerate().filter(|(index, _)| index % 2 == 1) {
        let (language, text) = block.split_once('\n').expect("a block has lines");
        match language.trim() {
            "sh" => example.commands.push(text.to_owned()),
            "text" => example.expected.extend(text.lines().filter(|line| !line.is_empty()).map(str::to_owned)),
            _ => {}
        }
        assert!(index > 0, "{}: begins with a block", example.name);
    }
    example
}

/// A copy of an example with free ports.
struct Copy {
    /// Texts of the example, and their replacements.
    replacements: BTreeMap<String, String>,
    folder: PathBuf,
}

impl Copy {
    fn of(name: &str) -> Self {
        let original = root().join("examples").join(name);
        let folder = std::env::temp_dir().join(format!("weir-example-{name}-{}", std::process::id()));
        let mut replacements = BTreeMap::new();
        let ports = [
            "8080", "8081", "8082", "8083", "9000", "9001", "15001", "15002", "15008", "15010", "15011", "15012",
            "15080",
        ];
        for port in ports {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            replacements.insert(port.to_owned(), listener.local_addr().expect("bound").port().to_string());
        }
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder).expect("a temporary folder");
        replacements.insert(format!("examples/{name}"), folder.display().to_string());
        let copy = Self { replacements, folder };
        copy.copy_folder(&original, &copy.folder);
        copy
    }

    /// Copies the text files of a folder with their replacements.
    fn copy_folder(&self, from: &Path, to: &Path) {
        fs::create_dir_all(to).expect("a temporary folder");
        for entry in fs::read_dir(from).expect("a folder") {
            let path = entry.expect("a readable entry").path();
            let target = to.join(path.file_name().expect("a name"));
            if path.ends_with("bootstrap") {
                self.copy_folder(&path, &target);
            } else if path.extension().is_some_and(|end| end == "yaml" || end == "md" || end == "sh" || end == "cjs") {
                let text = self.adapt(&fs::read_to_string(&path).expect("a text"));
                fs::write(&target, text).expect("a writable folder");
                fs::set_permissions(&target, fs::metadata(&path).expect("it is there").permissions()).expect("ours");
            }
        }
    }

    fn adapt(&self, text: &str) -> String {
        // The tests may use another target folder than `target`.
        let target = std::env::current_exe().expect("a path").ancestors().nth(3).expect("target").display().to_string();
        let text = text.replace("target/", &format!("{target}/"));
        // Examples run in parallel, so each proxy gets a free admin port.
        let text = text.replace("weir-proxy --config", "weir-proxy --admin 127.0.0.1:0 --config");
        self.replacements.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).ok();
    }
}
