//! Compiling a module in a child process: both ends. Cranelift has no limit of time or memory, and what it allocates
//! never comes back; a child has limits, and gives everything back when it ends.
//!
//! ```text
//! parent: CompilerProcess::compile ── module on standard input ──► child: PROGRAM compile --cache DIR -
//!         exit code, one line of JSON on standard output ◄──────── limits itself, compiles, stores in the cache
//! ```
//!
//! The cache makes whole files appear at once, so a child that is killed leaves nothing behind that could be loaded.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use weir_host_abi::limits::MAX_MODULE_BYTES;
use weir_host_abi::{Engine, EngineOptions, Module, ModuleCache, ModuleHash};

use crate::ModuleRefusal;
use crate::limits::{
    COMPILE_CPU_SECONDS, COMPILE_MEMORY_BYTES, COMPILE_NICENESS, COMPILE_TIMEOUT, MAX_COMPILER_MESSAGE_BYTES,
};

/// How to start the child.
#[derive(Debug, Clone)]
pub struct CompilerProcess {
    program: PathBuf,
}

/// What the child says when it cannot compile.
#[derive(Debug, Serialize, Deserialize)]
struct CompileFailure {
    error: String,
    hint: String,
}

impl CompilerProcess {
    /// This very program, also when its file has been replaced since it was started.
    pub fn this_program() -> Self {
        let running = Path::new("/proc/self/exe");
        let program = if running.exists() { running.to_owned() } else { std::env::current_exe().unwrap_or_default() };
        Self { program }
    }

    /// Compiles a module into the cache.
    ///
    /// # Errors
    /// It is no module for this host, or does not compile within the limits.
    pub async fn compile(&self, cache: &Path, module: Vec<u8>) -> Result<(), ModuleRefusal> {
        let started = Command::new(&self.program)
            .arg("compile")
            .arg("--cache")
            .arg(cache)
            .arg("-")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let child = started.map_err(|error| {
            ModuleRefusal::new(
                format!("no process to compile it can be started: {error}"),
                "check the limits of processes",
            )
        })?;
        match tokio::time::timeout(COMPILE_TIMEOUT, talk(child, module)).await {
            Ok(Ok(ended)) => ended.verdict(),
            Ok(Err(error)) => Err(ModuleRefusal::new(format!("the process that compiles it was lost: {error}"), "")),
            Err(_) => Err(ModuleRefusal::new(
                format!("does not compile within {} s", COMPILE_TIMEOUT.as_secs()),
                "make the module smaller",
            )),
        }
    }
}

/// How a child ended and what it said.
struct Ended {
    status: ExitStatus,
    output: Vec<u8>,
    errors: Vec<u8>,
}

async fn talk(mut child: Child, module: Vec<u8>) -> io::Result<Ended> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async move {
        if let Some(mut stdin) = stdin {
            // A child that ends early says why by itself; that its input is closed then is no news.
            drop(stdin.write_all(&module).await);
        }
    };
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let (says, fails) = (read_bounded(stdout, &mut output), read_bounded(stderr, &mut errors));
    let (status, (), (), ()) = tokio::join!(child.wait(), feed, says, fails);
    Ok(Ended { status: status?, output, errors })
}

async fn read_bounded(from: Option<impl AsyncReadExt + Unpin>, into: &mut Vec<u8>) {
    let Some(from) = from else { return };
    // What was read before an error is still worth showing.
    drop(from.take(MAX_COMPILER_MESSAGE_BYTES).read_to_end(into).await);
}

impl Ended {
    fn verdict(&self) -> Result<(), ModuleRefusal> {
        if self.status.success() {
            return Ok(());
        }
        if let Ok(CompileFailure { error, hint }) = serde_json::from_slice(&self.output) {
            return Err(ModuleRefusal::new(error, hint));
        }
        let errors = String::from_utf8_lossy(&self.errors);
        let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let memory = COMPILE_MEMORY_BYTES >> 20;
        Err(ModuleRefusal::new(
            format!("the process that compiles it ended with {}: {}", self.status, last.trim()),
            format!("a module may take {memory} MiB and {COMPILE_CPU_SECONDS} s of CPU time to compile"),
        ))
    }
}

/// What the child is asked: where the module is (`-`: on standard input) and where the cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileRequest {
    /// The module.
    pub module: PathBuf,
    /// The cache folder.
    pub cache: PathBuf,
}

/// The child: compiles one module into the cache and says on standard output why not. True when it worked.
pub fn compile_here(request: &CompileRequest) -> bool {
    limit_this_process();
    let Err(failure) = compile_into_cache(request) else { return true };
    let line = serde_json::to_string(&failure).unwrap_or_default();
    // Without a reader there is nobody to tell; the exit code says the rest.
    drop(writeln!(io::stdout(), "{line}"));
    false
}

fn compile_into_cache(request: &CompileRequest) -> Result<(), CompileFailure> {
    let failed = |error: String, hint: &str| CompileFailure { error, hint: hint.to_owned() };
    let module = |error: String| failed(error, "the module must be a Proxy-Wasm filter built for wasm32");
    let cache = |error: String| failed(error, "check the folder given to --cache and its disk");
    let bytes = read_module(&request.module).map_err(|error| module(format!("cannot be read: {error}")))?;
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(module(format!("has more than {MAX_MODULE_BYTES} bytes")));
    }
    let engine = Engine::new(EngineOptions::default()).map_err(|error| failed(error.to_string(), ""))?;
    let artefact = Module::precompile(&engine, &bytes).map_err(|error| module(error.to_string()))?;
    let opened = ModuleCache::open(&request.cache).map_err(|error| cache(error.to_string()))?;
    opened.store(&engine, &ModuleHash::of(&bytes), &artefact).map_err(|error| cache(error.to_string()))
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

/// Requests come first, and a module that makes the compiler explode ends this process and no other.
fn limit_this_process() {
    let bound = |limit: u64| Rlimit { current: Some(limit), maximum: Some(limit) };
    // A stricter limit set from outside stands; then these calls fail, and nothing is lost.
    let _ = rustix::process::setrlimit(Resource::As, bound(COMPILE_MEMORY_BYTES));
    let _ = rustix::process::setrlimit(Resource::Cpu, bound(COMPILE_CPU_SECONDS));
    let _ = rustix::process::setrlimit(Resource::Core, bound(0));
    let _ = rustix::process::nice(COMPILE_NICENESS);
}
