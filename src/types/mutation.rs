//! Inputs that nobody thought of, for the tests of parsers: good ones, mutated.
//!
//! Each run is the same as the last one, as it begins with the same seed, and
//! short. `CORACLE_FUZZ_SECONDS` makes it as long as that, and another one each
//! time: `contrib/fuzz`. `CORACLE_FUZZ_SEED` repeats one.

use std::time::{Duration, Instant, SystemTime};

/// Bytes that an input grows to at most.
const LONGEST: usize = 256 << 10;
/// Inputs that later ones are made of.
const CORPUS: usize = 2000;
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;

/// Numbers without a pattern, and the same ones for the same seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        // xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators".
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `end`; 0 where that is 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() >> 33).unwrap_or(0).checked_rem(end).unwrap_or(0)
    }
}

/// What is fed to a parser.
pub(crate) struct Fuzz<'a> {
    pub(crate) name: &'a str,
    /// Good inputs.
    pub(crate) good: Vec<Vec<u8>>,
    /// Words that mean something to the parser.
    pub(crate) words: &'a [&'a [u8]],
    /// Inputs, where no time is given.
    pub(crate) short: u64,
}

/// Says which input it was, when a check has panicked.
struct Current {
    name: String,
    seed: u64,
    number: u64,
    input: Vec<u8>,
}

impl Drop for Current {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self { name, seed, number, input } = self;
            eprintln!("{name}: input {number} of CORACLE_FUZZ_SEED={seed}: {}", input.escape_ascii());
        }
    }
}

impl Fuzz<'_> {
    /// Calls `check` with each good input, which it must take, and with mutated
    /// ones. It says whether the parser took the input, and panics where the
    /// parser did what it must not.
    pub(crate) fn run(self, mut check: impl FnMut(&[u8], &mut Random) -> bool) {
        let variable = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let time = variable("CORACLE_FUZZ_SECONDS").map(Duration::from_secs);
        let now = || SystemTime::UNIX_EPOCH.elapsed().map_or(SEED, |now| now.as_nanos() as u64);
        let seed = variable("CORACLE_FUZZ_SEED").unwrap_or_else(|| time.map_or(SEED, |_| now()));
        let mut random = Random::new(seed);
        let mut current = Current { name: self.name.to_owned(), seed, number: 0, input: Vec::new() };
        for good in &self.good {
            current.input.clone_from(good);
            assert!(check(good, &mut random), "{}: a good input is refused", self.name);
        }
        let (begin, mut taken, mut corpus) = (Instant::now(), 0_u64, self.good.clone());
        loop {
            let goes_on = match time {
                None => current.number < self.short,
                Some(time) => !current.number.is_multiple_of(64) || begin.elapsed() < time,
            };
            if !goes_on {
                break;
            }
            current.number += 1;
            current.input = mutated(&corpus, self.words, &mut random);
            if check(&current.input, &mut random) {
                taken += 1;
                if corpus.len() < CORPUS {
                    corpus.push(current.input.clone());
                } else {
                    // Not over the good ones, which the others come from.
                    let at = self.good.len() + random.below(CORPUS - self.good.len());
                    corpus[at].clone_from(&current.input);
                }
            }
        }
        eprintln!(
            "{}: {} inputs, {taken} taken, in {:.0?}, CORACLE_FUZZ_SEED={seed}",
            self.name,
            current.number,
            begin.elapsed()
        );
    }
}

/// One of `corpus`, changed in a few places.
fn mutated(corpus: &[Vec<u8>], words: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    // One change mostly: of many, the first that is refused hides the others.
    for _ in 0..=(random.next() % 8).saturating_sub(4) {
        let at = random.below(bytes.len() + 1);
        let length = short_length(random).min(bytes.len() - at);
        match random.below(10) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.next() as u8,
            2 if at < bytes.len() => {
                bytes[at] = bytes[at].wrapping_add(if random.next() & 1 == 0 { 1 } else { 255 });
            }
            3 => drop(bytes.drain(at..at + length)),
            4 => {
                let piece = bytes[at..at + length].to_vec();
                splice(&mut bytes, random.below(at + 1), &piece);
            }
            5 if !words.is_empty() => splice(&mut bytes, at, words[random.below(words.len())]),
            6 if !words.is_empty() => {
                let word = words[random.below(words.len())];
                let end = (at + word.len()).min(bytes.len());
                bytes.splice(at..end, word.iter().copied());
            }
            7 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                let to = (from + short_length(random)).min(other.len());
                splice(&mut bytes, at, &other[from..to]);
            }
            8 => bytes[at..at + length].fill(random.next() as u8),
            9 => bytes.truncate(at),
            _ => {}
        }
    }
    bytes.truncate(LONGEST);
    bytes
}

/// Short pieces mostly, and sometimes blocks of an archive.
fn short_length(random: &mut Random) -> usize {
    let most = [2, 4, 8, 32, 512, 1536][random.below(6)];
    random.below(most)
}

fn splice(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() + piece.len() <= LONGEST {
        bytes.splice(at..at, piece.iter().copied());
    }
}
