//! Random readable names for containers that were given none: `calm_heron`.

use crate::error::{Context, Error, Kind, Result};

/// Words that say something good or plain; each goes with each noun.
const ADJECTIVES: &[&str] = &[
    "able", "agile", "airy", "amber", "apt", "azure", "bold", "brave", "breezy", "bright", "brisk", "calm",
    "candid", "careful", "cheerful", "chief", "civil", "clean", "clear", "clever", "cosy", "crisp",
    "curious", "daring", "deft", "diligent", "eager", "early", "earnest", "easy", "exact", "fair",
    "faithful", "famous", "fancy", "fine", "firm", "fleet", "fluent", "fond", "frank", "free", "fresh",
    "friendly", "gallant", "gentle", "genuine", "glad", "golden", "good", "graceful", "grand", "handy",
    "happy", "hardy", "hearty", "honest", "humble", "ideal", "jolly", "keen", "kind", "lasting", "level",
    "light", "lively", "loyal", "lucid", "lucky", "mellow", "merry", "mild", "modest", "neat", "nimble",
    "noble", "open", "patient", "placid", "pleasant", "polite", "precise", "prompt", "proud", "quick",
    "quiet", "rapid", "ready", "robust", "serene", "sharp", "silver", "simple", "smooth", "snug", "solid",
    "steady", "stout", "sunny", "swift", "tidy", "trusty", "upbeat", "vivid", "warm", "wise", "witty",
    "zesty",
];

/// Things of the water and its shores, as befits a coracle.
const NOUNS: &[&str] = &[
    "alder",
    "anchor",
    "auk",
    "bay",
    "beach",
    "beacon",
    "beaver",
    "birch",
    "boat",
    "bollard",
    "boulder",
    "bream",
    "breeze",
    "bridge",
    "brook",
    "buoy",
    "canal",
    "canoe",
    "cape",
    "carp",
    "cliff",
    "cloud",
    "coast",
    "compass",
    "coral",
    "cormorant",
    "cove",
    "crane",
    "creek",
    "curlew",
    "current",
    "delta",
    "dinghy",
    "dipper",
    "dock",
    "dolphin",
    "drift",
    "dune",
    "eddy",
    "egret",
    "estuary",
    "falls",
    "ferry",
    "fjord",
    "fleet",
    "ford",
    "frigate",
    "gannet",
    "grebe",
    "gull",
    "harbour",
    "haven",
    "heron",
    "inlet",
    "island",
    "jetty",
    "kayak",
    "keel",
    "kelp",
    "kingfisher",
    "lagoon",
    "lake",
    "lantern",
    "ledge",
    "lighthouse",
    "lily",
    "loch",
    "mallard",
    "marina",
    "marlin",
    "marsh",
    "mast",
    "meadow",
    "mist",
    "mooring",
    "newt",
    "oar",
    "ocean",
    "osprey",
    "otter",
    "oyster",
    "paddle",
    "pearl",
    "pebble",
    "perch",
    "petrel",
    "pier",
    "pike",
    "plover",
    "pond",
    "pool",
    "puffin",
    "quay",
    "raft",
    "rapids",
    "reed",
    "reef",
    "ripple",
    "river",
    "rudder",
    "sail",
    "salmon",
    "sandpiper",
    "schooner",
    "seal",
    "shell",
    "shoal",
    "shore",
    "skiff",
    "sloop",
    "spray",
    "spring",
    "stork",
    "strait",
    "stream",
    "sturgeon",
    "swan",
    "teal",
    "tern",
    "tide",
    "trout",
    "turtle",
    "wader",
    "wave",
    "wharf",
    "willow",
    "yawl",
];

/// Names that are tried before giving up; there are many more.
const TRIES: u32 = 20;

/// Gives random names to `take` until one is free: until its result is no
/// `Conflict`.
///
/// # Errors
/// `Conflict` where none was found; else what `take` says.
pub(super) fn with_random<T>(mut take: impl FnMut(String) -> Result<T>) -> Result<T> {
    for attempt in 0..TRIES {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .context(|| "get random bytes for a name")?;
        match take(random_name(random, attempt)) {
            Err(error) if error.kind() == Kind::Conflict => {}
            result => return result,
        }
    }
    Err(Error::conflict("no free random name was found").hint("give one with --name"))
}

/// A name that these random bytes choose; the same bytes, the same name. With
/// `attempt` above 0, when others were taken, a number is added.
pub(crate) fn random_name(random: [u8; 8], attempt: u32) -> String {
    let number = u64::from_le_bytes(random);
    let (rest, adjective) = pick(number, ADJECTIVES);
    let (rest, noun) = pick(rest, NOUNS);
    if attempt == 0 { format!("{adjective}_{noun}") } else { format!("{adjective}_{noun}_{}", rest % 10_000) }
}

fn pick<'a>(number: u64, words: &[&'a str]) -> (u64, &'a str) {
    let count = words.len() as u64;
    (number / count, words[(number % count) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::digest::Digest;
    use crate::types::id::check_name;
    use std::collections::HashSet;

    #[test]
    fn every_name_is_valid_and_words_are_there_once() {
        for words in [ADJECTIVES, NOUNS] {
            assert!(words.len() >= 100, "{}", words.len());
            assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
            assert!(words.is_sorted(), "in order, so that a double is seen");
            assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        }
        for random in [[0; 8], [255; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
            for attempt in [0, 1] {
                check_name("container", &random_name(random, attempt)).expect("valid");
            }
        }
    }

    #[test]
    fn names_differ() {
        let name = |seed: u64| {
            let hash = Digest::of(&seed.to_le_bytes());
            let bytes: Vec<u8> = hash.hex().bytes().take(8).collect();
            random_name(bytes.try_into().expect("eight bytes"), 0)
        };
        let names: HashSet<String> = (0..1000).map(name).collect();
        assert!(names.len() > 900, "{}", names.len());
        assert!(random_name([7; 8], 1).starts_with(&random_name([7; 8], 0)));
    }
}
