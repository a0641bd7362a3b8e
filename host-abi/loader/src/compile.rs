//! Compilation of a module in a child process: both ends. Cranelift has no limit of time or memory, and its allocations
//! are never returned to the system. A child process has limits, and its memory is freed when it exits.
//!
//! ```text
//! parent: CompilerProcess::compile ── module on standard input ──► child: PROGRAM compile --cache DIR --compile-timeout TIME -
//!         exit code, one line of JSON on standard output ◄──────── limits itself, compiles, stores in the cache
//! ```
//!
//! The cache writes files atomically, so a killed child leaves nothing behind that could be loaded.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use weir_host_abi::limits::MAX_MODULE_BYTES;
use weir_host_abi::{Engine, Module, ModuleCache, ModuleHash};
use weir_model::{GatewayDuration, UnitError};

use crate::ModuleLoadError;
use crate::limits::{
    COMPILE_MEMORY_BYTES, COMPILE_NICENESS, MAX_COMPILE_TIMEOUT, MAX_COMPILER_MESSAGE_BYTES, MIN_COMPILE_TIMEOUT,
};

/// Starts the child process that compiles modules.
#[derive(Debug, Clone)]
pub struct CompilerProcess {
    program: PathBuf,
    timeout: Duration,
}

/// The child's output when the compilation fails.
#[derive(Debug, Serialize, Deserialize)]
struct CompileFailure {
    error: String,
    hint: String,
}

impl CompilerProcess {
    /// Returns a compiler that runs this program, even if its file was replaced since the start. `timeout` is the time of
    /// one compilation.
    pub fn this_program(timeout: Duration) -> Self {
        let running = Path::new("/proc/self/exe");
        let program = if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_default() };
        Self { program, timeout }
    }

    /// Compiles a module into the cache.
    ///
    /// # Errors
    /// The module is invalid for this host, or does not compile within the limits.
    pub async fn compile(&self, cache: &Path, module: Vec<u8>) -> Result<(), ModuleLoadError> {
        let started = Command::new(&self.program)
            .arg("compile")
            .arg("--cache")
            .arg(cache)
            .arg("--compile-timeout")
            .arg(GatewayDuration(self.timeout).to_string())
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = started.map_err(|error| {
            ModuleLoadError::new(
                format!("cannot start the compiler process: {error}"),
                "check the process limits of the system",
            )
        })?;
        match tokio::time::timeout(self.timeout, run_child(child, module)).await {
            Ok(Ok(child_output)) => child_output.into_result(self.timeout),
            Ok(Err(error)) => Err(ModuleLoadError::new(format!("lost the compiler process: {error}"), "")),
            Err(_) => Err(ModuleLoadError::new(
                format!("does not compile within {}", GatewayDuration(self.timeout)),
                "set a longer --compile-timeout, or make the module smaller",
            )),
        }
    }
}

/// The exit status and the output of a child.
struct ChildOutput {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

async fn run_child(mut child: Child, module: Vec<u8>) -> io::Result<ChildOutput> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A child that exits early reports the reason itself; the closed input is no further information.
            drop(stdin.write_all(&module).await);
        }
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (read_output, read_errors) = (read_bounded(stdout, &mut output), read_bounded(stderr, &mut errors));
    let (status, (), (), ()) = tokio::join!(child.wait(), feed, read_output, read_errors);
    Ok(ChildOutput { status: status?, output, errors })
}

async fn read_bounded(from: Option<impl AsyncReadExt + Unpin>, into: &mut Vec<u8>) {
    let Some(from) = from else { return };
    // Bytes that were read before an error are still reported.
    drop(from.take(MAX_COMPILER_MESSAGE_BYTES).read_to_end(into).await);
}

impl ChildOutput {
    fn into_result(self, timeout: Duration) -> Result<(), ModuleLoadError> {
        if self.status.success() {
            return Ok(());
        }
        if let Ok(CompileFailure { error, hint }) = serde_json::from_slice(&self.output) {
            return Err(ModuleLoadError::new(error, hint));
        }
        let errors = String::from_utf8_lossy(&self.errors);
        let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output");
        let memory = COMPILE_MEMORY_BYTES >> 20;
        Err(ModuleLoadError::new(
            format!("the compiler process failed with {}: {}", self.status, last.trim()),
            format!(
                "a module may take {memory} MiB, and {} s of CPU time with this --compile-timeout, to compile",
                cpu_seconds(timeout)
            ),
        ))
    }
}

/// The arguments of the child process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileRequest {
    /// Path of the module; `-` is standard input.
    pub module: PathBuf,
    /// Path of the cache folder.
    pub cache: PathBuf,
    /// The time of the compilation.
    pub timeout: Duration,
}

/// Parses the time of a compilation, from [`MIN_COMPILE_TIMEOUT`] to [`MAX_COMPILE_TIMEOUT`].
///
/// # Errors
/// The text is no duration, or out of bounds; the message is for the command line.
pub fn parse_compile_timeout(text: &str) -> Result<Duration, String> {
    let GatewayDuration(timeout) =
        text.parse().map_err(|error: UnitError| format!("{}; {}", error.reason, error.hint))?;
    if !(MIN_COMPILE_TIMEOUT..=MAX_COMPILE_TIMEOUT).contains(&timeout) {
        let (least, most) = (GatewayDuration(MIN_COMPILE_TIMEOUT), GatewayDuration(MAX_COMPILE_TIMEOUT));
        return Err(format!("{} is out of range: {least} to {most}", GatewayDuration(timeout)));
    }
    Ok(timeout)
}

/// Returns the CPU time of a compilation in seconds, at least 1. Less than the time by the clock, so that the process ends
/// itself with a reason.
fn cpu_seconds(timeout: Duration) -> u64 {
    (timeout.as_secs() * 3 / 4).max(1)
}

/// Compiles one module into the cache, in the child process. Writes a failure to standard output. Returns true on
/// success.
pub fn compile_here(request: &CompileRequest) -> bool {
    limit_this_process(request.timeout);
    let Err(failure) = compile_into_cache(request) else { return true };
    let line = serde_json::to_string(&failure).unwrap_or_default();
    // A closed standard output is ignored; the exit code still reports the failure.
    drop(writeln!(io::stdout(), "{line}"));
    false
}

fn compile_into_cache(request: &CompileRequest) -> Result<(), CompileFailure> {
    let failed = |error: String, hint: &str| CompileFailure { error, hint: hint.to_owned() };
    let module = |error: String| failed(error, "the module must be a Proxy-Wasm filter built for wasm32");
    let cache = |error: String| failed(error, "check the folder of --cache and its disk");
    let bytes = read_module(&request.module).map_err(|error| module(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(module(format!("has more than {MAX_MODULE_BYTES} bytes")));
    }
    let engine = Engine::new().map_err(|error| failed(error.to_string(), ""))?;
    let artifact = Module::precompile(&engine, &bytes).map_err(|error| module(error.to_string()))?;
    let opened = ModuleCache::open(&request.cache).map_err(|error| cache(error.to_string()))?;
    opened.store(&engine, &ModuleHash::of(&bytes), &artifact).map_err(|error| cache(error.to_string()))
}

fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = MAX_MODULE_BYTES as u64 + 1;
    if path.as_os_str() == "-" {
        io::stdin().take(limit).read_to_end(&mut bytes)?;
    } else {
        std::fs::File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Limits this process, so that requests have priority and a module that exhausts memory ends this process only.
fn limit_this_process(timeout: Duration) {
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    // A stricter limit of the environment remains: these calls then fail without harm.
    let _ = rustix::process::setrlimit(Resource::As, bound(COMPILE_MEMORY_BYTES));
    let _ = rustix::process::setrlimit(Resource::Cpu, bound(cpu_seconds(timeout)));
    let _ = rustix::process::setrlimit(Resource::Core, bound(0));
    let _ = rustix::process::nice(COMPILE_NICENESS);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn timeout_has_bounds() {
        for (text, expected) in [("1s", Some(1)), ("10m", Some(600)), ("1h", Some(3_600))] {
            assert_eq!(parse_compile_timeout(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
        for (text, reason) in [("0s", "1s to 1h"), ("999ms", "1s to 1h"), ("2h", "1s to 1h"), ("soon", "duration")] {
            let error = parse_compile_timeout(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[tokio::test]
    async fn module_that_compiles_too_long_is_rejected_with_option() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("never-ends");
        std::fs::write(&program, "#!/bin/sh\nexec sleep 600\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
        let compiler = CompilerProcess { program, timeout: Duration::from_millis(50) };
        let error = compiler.compile(folder.path(), Vec::new()).await.unwrap_err();
        assert_eq!(error.reason, "does not compile within 50ms");
        assert!(error.hint.contains("--compile-timeout"), "{}", error.hint);
    }
}
