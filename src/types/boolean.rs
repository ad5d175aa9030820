//! Booleans as docker's flags write them.

use crate::error::{Error, Result};

/// Go's `strconv.ParseBool`; `name` is the flag or key, for the error.
///
/// # Errors
/// `Invalid` for anything else.
pub(crate) fn parse(name: &str, value: &str) -> Result<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("invalid value {value:?} of {name}: not true or false"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_gos() {
        assert!(parse("--rm", "1").expect("valid") && !parse("--rm", "False").expect("valid"));
        for bad in ["", "yes", "tRUE", "2"] {
            assert_eq!(
                parse("--rm", bad).expect_err(bad).to_string(),
                format!("invalid value {bad:?} of --rm: not true or false")
            );
        }
    }
}
