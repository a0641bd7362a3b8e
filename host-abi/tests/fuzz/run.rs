//! How a target is run: what is kept in its folder of `corpus/` first, then new inputs for as long as is asked for.
//!
//! An input is kept for the time of the run when it shows a sight that no other one has shown (a hostcall that answers
//! something new, say): most new inputs are kept ones with a few changes.

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

/// How long each target takes when nobody asks for more, in seconds.
const SECONDS: u64 = 3;

/// Bytes of an input.
const MAX_INPUT: usize = 2_000;

/// Inputs of one target in the corpus: those that together show the most.
const MAX_KEPT: usize = 50;

/// Something that was seen to happen.
pub(crate) type Sight = [u8; 4];

/// What one input has shown.
pub(crate) type Sights = BTreeSet<Sight>;

/// Runs a target on its corpus and on new inputs.
pub(crate) fn fuzz(target: &'static str, run: fn(&[u8]) -> Sights) {
    let mut random = Random::new(target);
    let mut kept: Vec<(Vec<u8>, Sights)> = Vec::new();
    let mut seen = Sights::new();
    for input in corpus(target) {
        let sights = random.run(run, &input);
        seen.extend(&sights);
        kept.push((input, sights));
    }
    let (replayed, known) = (kept.len(), seen.len());
    let until = now() + Duration::from_secs(setting("WEIR_SECONDS").unwrap_or(SECONDS));
    let mut inputs = 0_u64;
    while now() < until {
        let input = random.input(&kept);
        let sights = random.run(run, &input);
        inputs += 1;
        if !sights.is_subset(&seen) {
            seen.extend(&sights);
            kept.push((input, sights));
        }
    }
    println!(
        "{target}: {replayed} inputs of the corpus showed {known} sights, {inputs} new ones {}",
        seen.len() - known
    );
    if setting("WEIR_KEEP").is_some() {
        keep(target, kept);
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

/// Writes the inputs that together show the most in place of what was there, under the hash of what is in them.
fn keep(target: &str, mut kept: Vec<(Vec<u8>, Sights)>) {
    let folder = folder(target);
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir_all(&folder).unwrap();
    let mut shown = Sights::new();
    for _ in 0..MAX_KEPT {
        kept.retain(|(_, sights)| !sights.is_subset(&shown));
        let worth = |(input, sights): &&(Vec<u8>, Sights)| (sights.difference(&shown).count(), Reverse(input.len()));
        let Some((input, sights)) = kept.iter().max_by_key(worth) else { break };
        let name = Sha256::digest(input).iter().take(8).fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
        fs::write(folder.join(name), input).unwrap();
        shown.extend(sights);
    }
    println!("{target}: what is kept shows {} sights", shown.len());
}

/// Makes inputs, and says which one it was when a run fails.
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

    fn run(&self, run: fn(&[u8]) -> Sights, input: &[u8]) -> Sights {
        let named = NamedWhenFailing { target: self.target, seed: self.seed, input };
        let sights = run(input);
        drop(named);
        sights
    }

    fn input(&mut self, kept: &[(Vec<u8>, Sights)]) -> Vec<u8> {
        let mut input = match kept.choose(&mut self.generator) {
            Some((input, _)) if self.generator.random_range(0..8) > 0 => input.clone(),
            _ => self.noise(MAX_INPUT),
        };
        for _ in 0..self.generator.random_range(1..6) {
            self.change(&mut input, kept);
        }
        input.truncate(MAX_INPUT);
        input
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        let mut noise = vec![0; self.generator.random_range(0..most)];
        self.generator.fill(&mut noise[..]);
        noise
    }

    fn change(&mut self, input: &mut Vec<u8>, kept: &[(Vec<u8>, Sights)]) {
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
                let Some((other, _)) = kept.choose(&mut self.generator) else { return };
                let from = self.generator.random_range(0..=other.len());
                drop(input.splice(at.., other[from..].iter().copied()));
            }
        }
    }
}

/// Prints the input when the test ends by it.
struct NamedWhenFailing<'a> {
    target: &'static str,
    seed: u64,
    input: &'a [u8],
}

impl Drop for NamedWhenFailing<'_> {
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
