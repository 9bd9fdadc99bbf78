//! The gateway's fuzz targets without what guides them: inputs that chance makes of those in `fuzz/corpus`, for every run of
//! the tests, as the instrumented build of the whole gateway takes too long for that. `cargo xtask fuzz --gateway` looks further.
//!
//! A seed is a hundred inputs. A failure names its seed and shows the input; `TICKGATE_TEST_SEED=n` runs that one alone,
//! `TICKGATE_TEST_SEEDS=n` runs so many of each target.

#[path = "../../fuzz/checks/config.rs"]
mod config;
#[path = "../../fuzz/checks/proxy.rs"]
mod proxy;
#[path = "../../fuzz/checks/request.rs"]
mod request;
#[path = "../../fuzz/checks/token.rs"]
mod token;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::Path;

/// Inputs of a seed.
const INPUTS: usize = 100;
/// Bytes of an input at most, as in the targets.
const INPUT_BYTES_MAX: usize = 4_096;
/// Changes of one input at most.
const CHANGES_MAX: usize = 6;
/// Bytes that mean something to one reader or another.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\r\n\t :,;.=\"\\{}[]()*#?/&%@-_+~09AaZz";

/// What inputs are made of: those of the repository, and their words.
struct Corpus {
    inputs: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
}

impl Corpus {
    fn read(target: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
        let files = std::fs::read_dir(&folder).expect("a folder of inputs");
        let mut paths: Vec<_> = files.map(|file| file.expect("it can be listed").path()).collect();
        // The order of a folder is as it comes, and a seed is to mean the same everywhere.
        paths.sort();
        let inputs: Vec<Vec<u8>> =
            paths.iter().map(|path| std::fs::read(path).expect("it can be read")).collect();
        assert!(!inputs.is_empty(), "{}", folder.display());
        let is_between = |byte: &u8| byte.is_ascii_whitespace() || b"\",;:={}[]()".contains(byte);
        let mut words: Vec<Vec<u8>> =
            inputs.iter().flat_map(|input| input.split(is_between)).map(<[u8]>::to_vec).collect();
        words.retain(|word| (2..=64).contains(&word.len()));
        words.sort();
        words.dedup();
        Self { inputs, words }
    }

    fn any(&self, rng: &mut StdRng) -> &[u8] {
        &self.inputs[rng.random_range(0..self.inputs.len())]
    }

    /// One of them, changed a little.
    fn next(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut input = self.any(rng).to_vec();
        input.truncate(INPUT_BYTES_MAX);
        for _ in 0..rng.random_range(1..=CHANGES_MAX) {
            self.change(&mut input, rng);
        }
        input.truncate(INPUT_BYTES_MAX);
        input
    }

    fn change(&self, input: &mut Vec<u8>, rng: &mut StdRng) {
        let (from, to) = part(input, rng);
        match rng.random_range(0..8) {
            0 if from < input.len() => input[from] ^= 1 << rng.random_range(0..8),
            1 if from < input.len() => input[from] = TELLING[rng.random_range(0..TELLING.len())],
            2 => input.insert(from, TELLING[rng.random_range(0..TELLING.len())]),
            3 => drop(input.drain(from..to)),
            4 => {
                let again = input[from..to].to_vec();
                input.splice(to..to, again);
            }
            5 => {
                let other = self.any(rng);
                let (begin, end) = part(other, rng);
                input.splice(from..to, other[begin..end].iter().copied());
            }
            6 if !self.words.is_empty() => {
                let word = &self.words[rng.random_range(0..self.words.len())];
                input.splice(from..from, word.iter().copied());
            }
            7 if rng.random_range(0..4) == 0 => input.truncate(from),
            _ => input.extend(rng.random::<[u8; 2]>()),
        }
    }
}

/// Some bytes of an input, mostly few.
fn part(input: &[u8], rng: &mut StdRng) -> (usize, usize) {
    let from = rng.random_range(0..=input.len());
    let most = if rng.random_range(0..4) == 0 { input.len() } else { 16 };
    (from, (from + rng.random_range(0..=most)).min(input.len()))
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Shows what was being checked when something panics.
struct Shown<'a>(&'a str, u64, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(target, seed, input) = self;
            eprintln!("{target}: run again with TICKGATE_TEST_SEED={seed}: \"{}\"", input.escape_ascii());
        }
    }
}

fn fuzz(target: &str, seeds: u64, check: impl Fn(&[u8])) {
    let corpus = Corpus::read(target);
    for input in &corpus.inputs {
        let _shown = Shown(target, 0, input);
        check(input);
    }
    let seeds = match number("TICKGATE_TEST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TICKGATE_TEST_SEEDS").unwrap_or(seeds),
    };
    for seed in seeds {
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..INPUTS {
            let input = corpus.next(&mut rng);
            let _shown = Shown(target, seed, &input);
            check(&input);
        }
    }
}

#[test]
fn heads_of_requests() {
    fuzz("request", 10_000, request::check);
}

#[test]
fn heads_of_proxies() {
    fuzz("proxy", 10_000, proxy::check);
}

#[test]
fn tokens_and_keys() {
    fuzz("token", 10_000, token::check);
}

#[test]
fn configurations() {
    fuzz("config", 200, |input| {
        if let Ok(text) = std::str::from_utf8(input) {
            config::check(text);
        }
    });
}
