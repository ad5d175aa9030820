//! The terminal at stdin: whether it is what `-t` with `-i` needs, and questions
//! to the person who sits there.

use super::ui;
use crate::error::{BestEffort, Context, Error, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use std::io::{BufRead, IsTerminal, Read, Stdin};

/// Docker's exit code where stdin is no terminal.
const NO_TERMINAL: u8 = 1;

/// A program on a terminal that reads something else than a terminal sees
/// neither the end of its input nor keys: docker refuses that, and so do we.
///
/// # Errors
/// `Invalid`, exit code 1, for a terminal whose stdin is to be passed on from
/// what is none.
pub(crate) fn check_stdin(stdin: bool, tty: bool) -> Result<()> {
    if stdin && tty && !std::io::stdin().is_terminal() {
        return Err(Error::invalid("the input device is not a TTY")
            .hint("stdin is not a terminal here: leave out -t to pass it on, or -i to have a terminal without it")
            .with_exit_code(NO_TERMINAL));
    }
    Ok(())
}

/// Bytes of an answer.
const ANSWER_MAX: usize = 4096;
/// As after a signal from the keyboard: 128 + SIGINT.
const INTERRUPTED: u8 = 130;

/// Asks for a line.
pub(crate) fn ask(question: &str) -> Result<String> {
    ui::prompt(question);
    let mut line = String::new();
    std::io::stdin().lock().take(ANSWER_MAX as u64).read_line(&mut line).context(|| "read the answer")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Asks for a line that the terminal does not show.
///
/// # Errors
/// `Failed`, exit code 130, for Ctrl-C.
pub(crate) fn ask_secret(question: &str) -> Result<String> {
    let stdin = std::io::stdin();
    // Keys come one by one and make no signals: whatever is typed, the terminal
    // shows what is typed again afterwards.
    let _quiet = Quiet::new(&stdin).context(|| "make the terminal silent")?;
    ui::prompt(question);
    let answer = read_secret(&mut stdin.lock());
    ui::note("");
    answer
}

fn read_secret(keys: &mut dyn Read) -> Result<String> {
    let mut typed = Vec::new();
    let mut key = [0];
    while typed.len() < ANSWER_MAX && keys.read(&mut key).context(|| "read the answer")? == 1 {
        match key[0] {
            b'\n' | b'\r' => break,
            // Ctrl-C, Ctrl-\.
            0x03 | 0x1c => return Err(Error::failed("interrupted").with_exit_code(INTERRUPTED)),
            // Ctrl-D ends an empty line.
            0x04 if typed.is_empty() => break,
            // Backspace and delete take a letter, which may be several bytes.
            0x08 | 0x7f => while typed.pop().is_some_and(|byte| byte & 0xc0 == 0x80) {},
            // Ctrl-U takes all.
            0x15 => typed.clear(),
            byte => typed.push(byte),
        }
    }
    String::from_utf8(typed).map_err(|_| Error::invalid("what was typed is not UTF-8"))
}

/// A terminal that shows nothing until this is dropped.
struct Quiet<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Quiet<'a> {
    fn new(stdin: &'a Stdin) -> rustix::io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut quiet = before.clone();
        quiet.local_modes -= LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG;
        tcsetattr(stdin, OptionalActions::Flush, &quiet)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        tcsetattr(self.stdin, OptionalActions::Now, &self.before).or_ignore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_typed_as_a_line_is() {
        let read = |mut keys: &[u8]| read_secret(&mut keys);
        assert_eq!(read(b"secret\nmore").expect("line"), "secret");
        assert_eq!(read("sä\x7fax\x7f\r".as_bytes()).expect("line"), "sa");
        assert_eq!(read(b"wrong\x15right").expect("line"), "right");
        assert_eq!(read(b"\x04x").expect("line"), "");
        assert_eq!(read(b"se\x03").expect_err("Ctrl-C").exit_code(), Some(130));
        assert!(read(b"\xff\n").is_err());
    }
}
