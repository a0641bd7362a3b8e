//! The runner of a fuzz target: first the inputs in its folder of `corpus/`, then new inputs for the configured time.
//!
//! An input joins the pool of the run when it covers a new point, for example a new result of a hostcall. Most new
//! inputs are mutations of inputs in the pool.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rustix::time::{ClockId, clock_gettime};
use sha2::{Digest, Sha256};

/// Default run time of a target in seconds.
const DEFAULT_SECONDS: u64 = 3;

/// Maximum size of an input in bytes.
const MAX_INPUT: usize = 2_000;

/// Maximum number of inputs in the corpus of a target. They are chosen for maximum coverage.
const MAX_CORPUS_INPUTS: usize = 50;

/// An observed event, for example a hostcall with its result.
pub(crate) type CoveragePoint = [u8; 4];

/// The events observed with one input.
pub(crate) type Coverage = BTreeSet<CoveragePoint>;

/// Runs a target on its corpus and on new inputs.
pub(crate) fn fuzz(target: &'static str, run: fn(&[u8]) -> Coverage) {
    let mut random = Random::new(target);
    let mut pool: Vec<(Vec<u8>, Coverage)> = Vec::new();
    let mut seen = Coverage::new();
    for input in corpus(target) {
        let coverage = random.run(run, &input);
        seen.extend(&coverage);
        pool.push((input, coverage));
    }
    let (replayed, known) = (pool.len(), seen.len());
    let until = now() + Duration::from_secs(setting("WEIR_SECONDS").unwrap_or(DEFAULT_SECONDS));
    let mut new_inputs = 0_u64;
    while now() < until {
        let input = random.input(&pool);
        let coverage = random.run(run, &input);
        new_inputs += 1;
        if !coverage.is_subset(&seen) {
            seen.extend(&coverage);
            pool.push((input, coverage));
        }
    }
    println!(
        "{target}: {replayed} corpus inputs covered {known} points, {new_inputs} new inputs covered {} more",
        seen.len() - known
    );
    if setting("WEIR_KEEP").is_some() {
        save_corpus(target, pool);
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap()
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder(target)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// Replaces the corpus by the inputs with the largest coverage. Files are named by the hash of their content.
fn save_corpus(target: &str, mut pool: Vec<(Vec<u8>, Coverage)>) {
    let folder = folder(target);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    let mut shown = Coverage::new();
    for _ in 0..MAX_CORPUS_INPUTS {
        pool.retain(|(_, coverage)| !coverage.is_subset(&shown));
        let worth =
            |(input, coverage): &&(Vec<u8>, Coverage)| (coverage.difference(&shown).count(), Reverse(input.len()));
        let Some((input, coverage)) = pool.iter().max_by_key(worth) else { break };
        let name = Sha256::digest(input).iter().take(8).fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
        fs::write(folder.join(name), input).unwrap();
        shown.extend(coverage);
    }
    println!("{target}: the corpus covers {} points", shown.len());
}

/// A generator of inputs.
struct Random {
    target: &'static str,
    seed: u64,
    generator: SmallRng,
}

impl Random {
    fn new(target: &'static str) -> Self {
        let seed = setting("WEIR_SEED").unwrap_or_else(|| SmallRng::from_os_rng().random());
        println!("{target}: WEIR_SEED={seed}");
        Self { target, seed, generator: SmallRng::seed_from_u64(seed) }
    }

    fn run(&self, run: fn(&[u8]) -> Coverage, input: &[u8]) -> Coverage {
        let guard = PrintInputOnPanic { target: self.target, seed: self.seed, input };
        let coverage = run(input);
        drop(guard);
        coverage
    }

    fn input(&mut self, pool: &[(Vec<u8>, Coverage)]) -> Vec<u8> {
        let mut input = match pool.choose(&mut self.generator) {
            Some((input, _)) if self.generator.random_range(0..8) > 0 => input.clone(),
            _ => self.noise(MAX_INPUT),
        };
        for _ in 0..self.generator.random_range(1..6) {
            self.change(&mut input, pool);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let mut noise = vec![0; self.generator.random_range(0..most)];
        self.generator.fill(&mut noise[..]);
        noise
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[(Vec<u8>, Coverage)]) {
        let at = self.generator.random_range(0..=input.len());
        let end = self.generator.random_range(at..=input.len().min(at + 64));
        match self.generator.random_range(0..8) {
            0 | 1 if at < input.len() => input[at] = self.generator.random(),
            2 if at < input.len() => input[at] ^= 1 << self.generator.random_range(0..8),
            3 => drop(input.drain(at..end)),
            4 => drop(input.splice(at..end, [0xff; 4])),
            5 => {
                let noise = self.noise(24);
                drop(input.splice(at..end, noise));
            }
            6 => {
                let part = input[at..end].to_vec();
                drop(input.splice(at..at, part));
            }
            _ => {
                let Some((other, _)) = pool.choose(&mut self.generator) else { return };
                let from = self.generator.random_range(0..=other.len());
                drop(input.splice(at.., other[from..].iter().copied()));
            }
        }
    }
}

/// A guard that prints the input when the test panics.
struct PrintInputOnPanic<'a> {
    target: &'static str,
    seed: u64,
    input: &'a [u8],
}

impl Drop for PrintInputOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut digits = String::new();
            for byte in self.input {
                write!(digits, "{byte:02x}").unwrap();
            }
            println!("{}: WEIR_SEED={} failed on {digits}", self.target, self.seed);
        }
    }
}
