//! Files that flags name.

use crate::error::{Context, Error, Result};
use std::fs::File;
use std::io::Read;

/// The text of a file that a flag names; a pipe will do.
///
/// # Errors
/// `Invalid` where it has more than `max` bytes or is not UTF-8.
pub(in crate::cli) fn read_text(flag: &str, path: &str, max: u64) -> Result<String> {
    let action = || format!("{flag}: read {path}");
    let file = File::open(path).context(action)?;
    let mut bytes = Vec::new();
    file.take(max + 1).read_to_end(&mut bytes).context(action)?;
    if bytes.len() as u64 > max {
        return Err(Error::invalid(format!("the file has more than {max} bytes")).context(action()));
    }
    String::from_utf8(bytes).map_err(|error| error.utf8_error()).context(action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_read_within_its_bound() {
        let mut file = tempfile::NamedTempFile::new().expect("temporary file");
        file.write_all(b"A=1").expect("write");
        let path = file.path().to_str().expect("UTF-8").to_owned();
        assert_eq!(read_text("--env-file", &path, 3).expect("fits"), "A=1");
        let error = read_text("--env-file", &path, 2).expect_err("too long");
        assert!(error.to_string().starts_with("--env-file: read /"), "{error}");
        file.write_all(&[0xff]).expect("write");
        assert!(read_text("--env-file", &path, 9).is_err());
        // An endless one ends at the bound.
        assert!(read_text("--env-file", "/dev/zero", 1 << 16).is_err());
        assert!(read_text("--env-file", "/does/not/exist", 9).is_err());
    }
}
