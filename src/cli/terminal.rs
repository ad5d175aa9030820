//! Whether stdin can be what `-t` together with `-i` needs.

use crate::error::{Error, Result};
use std::io::IsTerminal;

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
