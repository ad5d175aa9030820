//! `doctor`.

use super::ui;
use crate::dirs::Dirs;
use crate::engine::doctor::{self, Check, Remedy, Severity};
use crate::error::{Context, Result};

/// Say what this host allows, and what would mend the rest
///
/// Each thing is tried where that leaves no trace. The exit code is 0 where
/// nothing is amiss, 1 where something is limited, and 2 where no container runs.
#[derive(Debug, clap::Args)]
pub(crate) struct DoctorArgs {
    /// `json` for programs
    #[arg(short, long, value_name = "FORMAT", value_parser = ["json"])]
    format: Option<String>,
    /// The same as `--format json`
    #[arg(long)]
    json: bool,
    /// Mend what a user may mend without an administrator, then look again
    #[arg(long)]
    fix: bool,
    /// Show only what is amiss
    #[arg(short, long)]
    quiet: bool,
}

/// Runs `doctor`.
///
/// # Errors
/// Where no folder of the user's is known.
pub(crate) fn doctor(args: DoctorArgs) -> Result<u8> {
    let dirs = Dirs::from_environment(rustix::process::getuid().as_raw())?;
    if args.fix {
        let (done, failed) = doctor::mend(&doctor::examine_outside(&dirs));
        for line in &done {
            ui::line(&format!("mended   {line}"))?;
        }
        for error in &failed {
            ui::warning(&error.to_string());
            error.hints().iter().for_each(|hint| ui::warning(hint));
        }
        if done.is_empty() && failed.is_empty() {
            ui::line("mended   nothing: what is amiss needs a step of yours or an administrator")?;
        }
    }
    let checks = doctor::examine(&dirs);
    if args.json || args.format.is_some() {
        ui::line(&serde_json::to_string_pretty(&checks).context(|| "write the checks")?)?;
    } else {
        ui::write(report(&checks, args.quiet).as_bytes())?;
    }
    Ok(doctor::worst(&checks).exit_code())
}

fn report(checks: &[Check], quiet: bool) -> String {
    let shown = checks.iter().filter(|check| !quiet || check.severity > Severity::Note);
    let mut text: String = shown.map(check_text).collect();
    text.push_str(&letter(checks));
    text.push_str(&summary(checks));
    text
}

fn check_text(check: &Check) -> String {
    let mark = match check.severity {
        Severity::Ok => "ok     ",
        Severity::Note => "note   ",
        Severity::Limited => "limited",
        Severity::Broken => "broken ",
    };
    let mut text = format!("{mark}  {}: {}\n", check.name, check.found);
    if let Some(cost) = &check.cost {
        text.push_str(&format!("         means: {cost}\n"));
    }
    match &check.remedy {
        Some(Remedy::User(step)) => text.push_str(&format!("         fix: {step}\n")),
        Some(Remedy::Administrator(command)) if check.severity == Severity::Note => {
            text.push_str(&format!("         administrator: {command}\n"));
        }
        Some(Remedy::Administrator(_)) => text.push_str("         fix: an administrator can, see below\n"),
        None => {}
    }
    text
}

/// What to send to the administrator, each remedy once.
fn letter(checks: &[Check]) -> String {
    let amiss = checks.iter().filter(|check| check.severity > Severity::Note);
    let mut remedies: Vec<(&str, &str)> = Vec::new();
    for check in amiss {
        if let Some(Remedy::Administrator(text)) = &check.remedy {
            if !remedies.iter().any(|(_, known)| known == text) {
                remedies.push((&check.found, text));
            }
        }
    }
    if remedies.is_empty() {
        return String::new();
    }
    let user = std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    let mut text = format!("\nFor an administrator, so that {user} can run containers without root:\n");
    for (found, remedy) in remedies {
        text.push_str(&format!("\n  # {found}\n"));
        remedy.lines().for_each(|line| text.push_str(&format!("  {line}\n")));
    }
    text
}

fn summary(checks: &[Check]) -> String {
    let count = |severity| checks.iter().filter(|check| check.severity == severity).count();
    format!(
        "\n{} looked at: {} ok, {} to know, {} limited, {} broken\n",
        checks.len(),
        count(Severity::Ok),
        count(Severity::Note),
        count(Severity::Limited),
        count(Severity::Broken)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(severity: Severity, remedy: Option<Remedy>) -> Check {
        let mut check = doctor::sample("slirp4netns", "not installed");
        check.severity = severity;
        check.cost = Some("loopback alone".into());
        check.remedy = remedy;
        check
    }

    #[test]
    fn a_check_in_words() {
        let one = check(Severity::Limited, Some(Remedy::User("do it".into())));
        let expected =
            "limited  slirp4netns: not installed\n         means: loopback alone\n         fix: do it\n";
        assert_eq!(check_text(&one), expected);
    }

    #[test]
    fn the_administrator_gets_each_remedy_once_and_only_what_matters() {
        let install = || Some(Remedy::Administrator("sudo apt install slirp4netns".into()));
        let checks = [
            check(Severity::Limited, install()),
            check(Severity::Limited, install()),
            check(Severity::Note, Some(Remedy::Administrator("sudo sysctl x=y".into()))),
        ];
        let text = letter(&checks);
        assert_eq!(text.matches("sudo apt install slirp4netns").count(), 1, "{text}");
        assert!(!text.contains("sysctl"), "{text}");
        assert!(letter(&[check(Severity::Ok, None)]).is_empty());
        assert!(summary(&checks).contains("3 looked at: 0 ok, 1 to know, 2 limited, 0 broken"));
    }

    #[test]
    fn for_programs_a_remedy_is_under_the_name_of_who_applies_it() {
        let value =
            serde_json::to_value(check(Severity::Broken, Some(Remedy::User("do it".into())))).expect("JSON");
        assert_eq!(value["severity"], "broken");
        assert_eq!(value["user"], "do it");
        assert!(value.get("administrator").is_none());
        assert!(value.get("mend").is_none());
    }
}
