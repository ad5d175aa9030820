//! One line of comma-separated values, as `--mount` and `--network` take them.

use crate::error::{Error, Result};

/// The fields of one line of comma-separated values: RFC 4180, section 2.
pub(crate) fn split_fields(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => break,
            None => return Err(Error::invalid("a comma is missing after a quoted field")),
        }
    }
    if fields.iter().any(String::is_empty) {
        return Err(Error::invalid("a field is empty"));
    }
    Ok(fields)
}

/// A field after its opening quote, and what follows the closing one.
fn quoted_field(text: &str) -> Result<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let end = rest.find('"').ok_or_else(|| Error::invalid("a quote is not closed"))?;
        field.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None => return Ok((field, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_have_commas_and_quotes() {
        assert_eq!(split_fields("a,b=c").expect("valid"), ["a", "b=c"]);
        assert_eq!(split_fields(r#""a=b,c","d""e",f"#).expect("valid"), ["a=b,c", r#"d"e"#, "f"]);
        for bad in ["", "a,", ",a", "\"a", "\"a\"b"] {
            assert!(split_fields(bad).is_err(), "{bad:?}");
        }
    }
}
