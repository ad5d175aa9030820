//! Files that hold the id of what a command has made: `--cidfile`, `--pod-id-file`.

use crate::error::{BestEffort, Context, Error, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes of a file with an id.
const MAX: u64 = 4096;

/// Makes something, and writes its id to the file where one is asked for. `what`
/// names the file. It must not be there yet: it says which command made which
/// container or pod. It goes again where nothing was made.
///
/// # Errors
/// `Conflict` where the file is there.
pub(super) fn with<T>(
    what: &str,
    path: Option<&Path>,
    action: impl FnOnce() -> Result<T>,
    id: impl FnOnce(&T) -> &str,
) -> Result<T> {
    let Some(path) = path else { return action() };
    let mut file = reserve(what, path)?;
    let made = action().inspect_err(|_| std::fs::remove_file(path).or_ignore())?;
    file.write_all(id(&made).as_bytes()).context(|| format!("write {}", path.display()))?;
    Ok(made)
}

fn reserve(what: &str, path: &Path) -> Result<File> {
    match File::options().write(true).create_new(true).mode(0o644).open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(Error::conflict(format!("the {what} {} exists already", path.display()))
                .hint("make sure that nothing of that id is left, and delete the file"))
        }
        Err(error) => Err(error).context(|| format!("make the {what} {}", path.display())),
    }
}

/// What is in such a file.
///
/// # Errors
/// `NotFound` where there is none.
pub(crate) fn text(what: &str, path: &Path) -> Result<String> {
    let step = || format!("read the {what} {}", path.display());
    let mut text = String::new();
    File::open(path).context(step)?.take(MAX).read_to_string(&mut text).context(step)?;
    Ok(text)
}
