//! `login` and `logout`.

use super::command::{Entry, command};
use super::registry_options::tls_verify;
use super::{terminal, ui};
use crate::engine::Engine;
use crate::engine::login::{self as engine_login, LoggedOut};
use crate::engine::registry_access::RegistryOptions;
use crate::error::{Context, Error, Result};
use crate::registry::credentials::{Credentials, Secret};
use clap::Args;
use std::io::{IsTerminal, Read};
use std::path::PathBuf;

pub(crate) const LOGIN: Entry =
    command!("login", &[], "Log in to a registry", "[OPTIONS] [REGISTRY]", LoginArgs, login);

pub(crate) const LOGOUT: Entry =
    command!("logout", &[], "Log out from a registry", "[OPTIONS] [REGISTRY]", LogoutArgs, logout);

/// Without a name: docker's.
const DEFAULT: &str = "docker.io";
/// Bytes of a password on stdin.
const PASSWORD_MAX: u64 = 64 << 10;

#[derive(Args, Debug)]
pub(crate) struct LoginArgs {
    /// Who
    #[arg(long, short = 'u', value_name = "USER")]
    username: Option<String>,
    /// The password; others on this machine may see it
    #[arg(long, short = 'p', value_name = "PASSWORD")]
    password: Option<String>,
    /// Read the password from stdin
    #[arg(long)]
    password_stdin: bool,
    /// Say who is logged in, and nothing else
    #[arg(long)]
    get_login: bool,
    /// Keep the login in this file
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Directory of certificates for the registry: *.crt, and a client's *.cert with *.key
    #[arg(long, value_name = "DIR")]
    cert_dir: Option<PathBuf>,
    /// Check the registry's certificate; false allows plain http as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tls_verify: Option<String>,
    /// Say where the login is kept
    #[arg(long, short = 'v')]
    verbose: bool,
    /// host or host:port, or a part of it: host:port/namespace
    #[arg(value_name = "REGISTRY", default_value = DEFAULT, hide_default_value = true)]
    registry: String,
}

#[derive(Args, Debug)]
pub(crate) struct LogoutArgs {
    /// From all
    #[arg(long, short = 'a')]
    all: bool,
    /// The file in which the login is kept
    #[arg(long, value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// host or host:port, or a part of it: host:port/namespace
    #[arg(value_name = "REGISTRY")]
    registry: Option<String>,
}

/// Logs in.
///
/// # Errors
/// `Failed` where the registry does not take the password.
pub(crate) fn login(args: LoginArgs) -> Result<u8> {
    let engine = Engine::open()?;
    if args.get_login {
        ui::line(&engine_login::logged_in(&engine.dirs, &args.registry, args.authfile.as_deref())?)?;
        return Ok(0);
    }
    let options = RegistryOptions {
        tls_verify: tls_verify(args.tls_verify.as_deref())?,
        cert_dir: args.cert_dir.clone(),
        auth_file: args.authfile.clone(),
        ..RegistryOptions::default()
    };
    if let Some(known) = known(&engine, &args)? {
        ui::line("Authenticating with existing credentials...")?;
        match engine_login::verify(&engine.dirs, &args.registry, &known, &options) {
            Ok(()) => {
                ui::line("Login Succeeded")?;
                return Ok(0);
            }
            // Nobody is there to be asked for others.
            Err(error) if !std::io::stdin().is_terminal() => return Err(error),
            Err(error) => ui::warning(&format!("the login that is stored does not do: {error}")),
        }
    }
    let credentials = ask(&engine, &args)?;
    engine_login::login(&engine.dirs, &args.registry, &credentials, &options)?;
    if args.verbose {
        let file = args.authfile.unwrap_or_else(|| crate::engine::registry_access::login_file(&engine.dirs));
        ui::line(&format!("Used: {}", file.display()))?;
    }
    ui::line("Login Succeeded")?;
    Ok(0)
}

/// What is stored, where nothing else is given.
fn known(engine: &Engine, args: &LoginArgs) -> Result<Option<Credentials>> {
    if args.username.is_some() || args.password.is_some() || args.password_stdin {
        return Ok(None);
    }
    engine_login::stored(&engine.dirs, &args.registry, args.authfile.as_deref())
}

/// From flags and stdin; what is missing from the person at the terminal.
fn ask(engine: &Engine, args: &LoginArgs) -> Result<Credentials> {
    if args.password.is_some() && args.password_stdin {
        return Err(Error::invalid("--password and --password-stdin are mutually exclusive"));
    }
    if args.password_stdin && args.username.is_none() {
        return Err(Error::invalid("Must provide --username with --password-stdin"));
    }
    if args.password.is_some() {
        ui::warning("Using --password via the CLI is insecure. Use --password-stdin.");
    }
    let typed = args.username.is_none() || args.password.is_none() && !args.password_stdin;
    if typed && !std::io::stdin().is_terminal() {
        return Err(Error::invalid("cannot ask for a user and a password: stdin is no terminal")
            .hint("give --username and --password-stdin"));
    }
    let user = match &args.username {
        Some(user) => user.clone(),
        None => {
            let known = engine_login::stored(&engine.dirs, &args.registry, args.authfile.as_deref())?;
            let known = known.map(|known| known.user).unwrap_or_default();
            let question =
                if known.is_empty() { "Username: ".into() } else { format!("Username ({known}): ") };
            let typed = terminal::ask(&question)?;
            if typed.is_empty() { known } else { typed }
        }
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => from_stdin()?,
        None => terminal::ask_secret("Password: ")?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::invalid("a user and a password are needed, and one of them is empty"));
    }
    if user.contains(':') {
        return Err(Error::invalid("a user's name has no colon in it"));
    }
    Ok(Credentials { user, secret: Secret::Password(password) })
}

/// All of stdin but the end of its line.
fn from_stdin() -> Result<String> {
    let mut text = String::new();
    std::io::stdin()
        .lock()
        .take(PASSWORD_MAX)
        .read_to_string(&mut text)
        .context(|| "read the password from stdin")?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Logs out.
///
/// # Errors
/// `Invalid` for a name with `--all`; where the file cannot be changed.
pub(crate) fn logout(args: LogoutArgs) -> Result<u8> {
    let engine = Engine::open()?;
    let file = args.authfile.as_deref();
    if args.all {
        if args.registry.is_some() {
            return Err(Error::invalid("--all and the name of a registry exclude each other"));
        }
        let gone = engine_login::logout_all(&engine.dirs, file)?;
        for key in gone {
            ui::line(&format!("Removing login credentials for {key}"))?;
        }
        return Ok(0);
    }
    let registry = args.registry.as_deref().unwrap_or(DEFAULT);
    match engine_login::logout(&engine.dirs, registry, file)? {
        LoggedOut::Removed => ui::line(&format!("Removing login credentials for {registry}"))?,
        LoggedOut::NotLoggedIn => ui::line(&format!("Not logged in to {registry}"))?,
        LoggedOut::Elsewhere(path) => {
            return Err(Error::conflict(format!(
                "the login to {registry} is in {}, which another tool keeps",
                path.display()
            ))
            .hint("log out with that tool, or name the file with --authfile"));
        }
    }
    Ok(0)
}
