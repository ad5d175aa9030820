//! Users of the host, as its passwd(5) has them.

use super::subid::{find_program, read_bounded, run_helper};
use std::path::Path;

/// One line of passwd(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// The name in full, and whatever else is kept there.
    pub(crate) gecos: String,
    pub(crate) home: String,
    pub(crate) shell: String,
}

impl Account {
    /// The user of this name or number: from `/etc/passwd`, else from `getent
    /// passwd`, which asks the name services that a static program cannot load.
    pub(crate) fn of_host(word: &str) -> Option<Self> {
        let mut notes = Vec::new();
        let file = read_bounded(Path::new("/etc/passwd"), &mut notes).unwrap_or_default();
        find(&file, word).or_else(|| {
            let text = run_helper(&find_program("getent")?, &["passwd", word]).ok()?;
            find(&text, word)
        })
    }

    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, uid, gid, gecos, home, shell] = fields[..] else { return None };
        let text = |field: &str| field.trim_end().to_owned();
        (!name.is_empty()).then_some(())?;
        Some(Self {
            name: name.to_owned(),
            uid: uid.parse().ok()?,
            gid: gid.parse().ok()?,
            gecos: text(gecos),
            home: text(home),
            shell: text(shell),
        })
    }
}

/// A name goes before a number that is written the same.
fn find(passwd: &str, word: &str) -> Option<Account> {
    let all = || passwd.lines().filter_map(Account::parse);
    let number: Option<u32> = word.parse().ok();
    all().find(|account| account.name == word).or_else(|| all().find(|account| Some(account.uid) == number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let passwd = "bad\n:x:1:1:::\nroot:x:0:0:root:/root:/bin/sh\nada:x:1000:1001:Ada L,,,:/home/ada:/bin/zsh\n7:x:9:9::/:\n";
        let name = |word: &str| find(passwd, word).map(|account| account.name);
        assert_eq!(name("ada").as_deref(), Some("ada"));
        assert_eq!(name("1000").as_deref(), Some("ada"));
        assert_eq!(name("7").as_deref(), Some("7"));
        assert_eq!((name("1"), name("bob"), name("")), (None, None, None));
        let ada = find(passwd, "ada").expect("there");
        assert_eq!((ada.gid, ada.gecos.as_str(), ada.home.as_str()), (1001, "Ada L,,,", "/home/ada"));
        assert_eq!(ada.shell, "/bin/zsh");
    }
}
