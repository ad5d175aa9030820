//! The words of pasta, which `--network pasta:WORD,WORD,…` passes on as they
//! are: its own option syntax, as in podman.

use crate::error::{Error, Result};

/// Options whose value is the next word, in both spellings of pasta(1).
const WITH_VALUE: &[(&str, &str)] = &[
    ("-a", "--address"),
    ("-g", "--gateway"),
    ("-I", "--ns-ifname"),
    ("-m", "--mtu"),
    ("-t", "--tcp-ports"),
    ("-u", "--udp-ports"),
    ("-T", "--tcp-ns"),
    ("-U", "--udp-ns"),
    ("-n", "--netmask"),
    ("-M", "--mac-addr"),
    ("-i", "--interface"),
    ("-o", "--outbound"),
    ("-D", "--dns"),
    ("-S", "--search"),
    ("-p", "--pcap"),
    ("-l", "--log-file"),
];

/// The same for those that have one spelling, those of later versions among them.
const LONG_WITH_VALUE: &[&str] = &[
    "--dns-forward",
    "--dns-host",
    "--fqdn",
    "--hostname",
    "--log-size",
    "--map-guest-addr",
    "--map-host-loopback",
    "--ns-mac-addr",
    "--outbound-if4",
    "--outbound-if6",
];

/// Options that say which namespace is served, and how pasta runs: not the user's.
const OURS: &[&str] = &[
    "-f",
    "--foreground",
    "-F",
    "--fd",
    "-P",
    "--pid",
    "--netns",
    "--netns-only",
    "--userns",
    "--no-netns-quit",
    "--runas",
    "-1",
    "--one-off",
    "-s",
    "--socket",
    "-h",
    "--help",
    "--version",
];

/// What `--network pasta:…` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PastaOptions {
    /// As given, in that order.
    pub(crate) words: Vec<String>,
}

impl PastaOptions {
    /// # Errors
    /// `Invalid` for a word that pasta would not take as an option, and for one
    /// that would serve something else than the container. What else it does
    /// not know, pasta itself says.
    pub(crate) fn parse(words: &[String]) -> Result<Self> {
        let mut expects_value = false;
        for word in words {
            let wrong = |why: &str| Error::invalid(format!("--network pasta:{word}: {why}"));
            if word.chars().any(char::is_control) {
                return Err(wrong("a control character in it"));
            }
            if std::mem::take(&mut expects_value) {
                continue;
            }
            if !word.starts_with('-') || word == "-" || word == "--" {
                return Err(wrong("not an option of pasta")
                    .hint("for example --network pasta:-T,5432,--map-gw; man pasta has them all"));
            }
            let name = word.split('=').next().unwrap_or(word);
            if OURS.contains(&name) {
                return Err(wrong("which namespace pasta serves, and how it runs, is coracle's to say"));
            }
            expects_value = WITH_VALUE.iter().any(|(short, long)| word == short || word == long)
                || LONG_WITH_VALUE.contains(&word.as_str());
        }
        Ok(Self { words: words.to_vec() })
    }

    /// Whether `--map-gw` is there: podman's word for pasta's default, that the
    /// gateway's address is the host's loopback.
    pub(crate) fn maps_gateway(&self) -> bool {
        self.words.iter().any(|word| word == "--map-gw")
    }

    /// Whether an option is given, in any of its spellings: `-t`, `-t80`, `--tcp-ports`.
    pub(crate) fn has(&self, long: &str) -> bool {
        let short = short_of(long);
        self.words.iter().any(|word| {
            word == long
                || word.strip_prefix(long).is_some_and(|rest| rest.starts_with('='))
                || short.is_some_and(|short| word.starts_with(short) && !word.starts_with("--"))
        })
    }

    /// The values of an option.
    pub(crate) fn values(&self, long: &str) -> Vec<&str> {
        let short = short_of(long);
        let mut values = Vec::new();
        let mut words = self.words.iter();
        while let Some(word) = words.next() {
            let joined = word.strip_prefix(long).and_then(|rest| rest.strip_prefix('='));
            let glued = short.and_then(|short| word.strip_prefix(short)).filter(|rest| !rest.is_empty());
            if word == long || short == Some(word.as_str()) {
                values.extend(words.next().map(String::as_str));
            } else {
                values.extend(joined.or(glued));
            }
        }
        values
    }
}

fn short_of(long: &str) -> Option<&'static str> {
    WITH_VALUE.iter().find(|(_, other)| *other == long).map(|(short, _)| *short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<PastaOptions> {
        PastaOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn words_are_passed_on() {
        let options = parse(&["-T", "5432", "--map-gw", "-a10.1.0.7", "--mtu=1500", "--address", "fd01::7"])
            .expect("valid");
        assert!(options.maps_gateway() && options.has("--tcp-ns") && options.has("--mtu"));
        assert!(!options.has("--tcp-ports") && !options.has("--gateway"));
        assert_eq!(options.values("--address"), ["10.1.0.7", "fd01::7"]);
        assert_eq!(options.values("--mtu"), ["1500"]);
        assert_eq!(options.values("--tcp-ns"), ["5432"]);
        let options = parse(&["--dns-forward", "198.51.100.1", "--map-guest-addr=1.2.3.4"]).expect("valid");
        assert_eq!(options.values("--dns-forward"), ["198.51.100.1"]);
        assert_eq!(options.values("--map-guest-addr"), ["1.2.3.4"]);
        assert!(parse(&[]).expect("valid").words.is_empty());
    }

    #[test]
    fn words_that_are_none() {
        for bad in [
            &["mtu=1500"][..],
            &["--netns", "/x"],
            &["-f"],
            &["-P=/x"],
            &["-"],
            &["-a", "1.2.3.4", "x"],
            &["-4\n"],
        ] {
            let error = parse(bad).expect_err("not pasta's").to_string();
            assert!(error.starts_with("--network pasta:"), "{error}");
        }
    }
}
