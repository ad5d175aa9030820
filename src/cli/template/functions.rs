//! The functions of templates: text/template's own and docker's.

use super::print::{display, sprintf, truth};
use super::run::Datum;
use serde_json::Value;
use std::cmp::Ordering;

type Result<T> = std::result::Result<T, String>;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or",
    "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// Blanks that `pad` adds on one side, at most.
const MAX_PADDING: i64 = 1000;

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function (`and` and `or` are not among these: they look at no more
/// than they need). With `headings`, functions that change a text leave it.
pub(super) fn call(name: &str, arguments: &[Datum<'_>], headings: bool) -> Result<Value> {
    let values: Vec<Option<&Value>> = arguments.iter().map(Datum::as_deref).collect();
    if headings
        && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "pad" | "truncate")
    {
        return Ok(values.first().copied().flatten().cloned().unwrap_or(Value::Null));
    }
    match (name, values.as_slice()) {
        ("print", values) => Ok(print(values).into()),
        ("println", values) => {
            let words: Vec<String> = values.iter().map(|value| display(*value)).collect();
            Ok(format!("{}\n", words.join(" ")).into())
        }
        ("printf", [format, rest @ ..]) => Ok(sprintf(text(name, *format)?, rest)?.into()),
        ("json", [value]) => Ok(value.unwrap_or(&Value::Null).to_string().into()),
        ("len", [value]) => length(*value).map(Value::from),
        ("index", [value, keys @ ..]) => index(*value, keys),
        ("slice", [value, bounds @ ..]) => slice(*value, bounds),
        ("not", [value]) => Ok((!truth(*value)).into()),
        ("eq", [first, others @ ..]) if !others.is_empty() => {
            others.iter().try_fold(false, |found, other| Ok(found || equal(*first, *other)?)).map(Value::from)
        }
        ("ne", [one, two]) => Ok((!equal(*one, *two)?).into()),
        ("lt", [one, two]) => Ok((compare(*one, *two)? == Ordering::Less).into()),
        ("le", [one, two]) => Ok((compare(*one, *two)? != Ordering::Greater).into()),
        ("gt", [one, two]) => Ok((compare(*one, *two)? == Ordering::Greater).into()),
        ("ge", [one, two]) => Ok((compare(*one, *two)? != Ordering::Less).into()),
        ("upper", [value]) => Ok(text(name, *value)?.to_uppercase().into()),
        ("lower", [value]) => Ok(text(name, *value)?.to_lowercase().into()),
        ("title", [value]) => Ok(title(text(name, *value)?).into()),
        ("html", values) => Ok(html(&print(values)).into()),
        ("urlquery", values) => Ok(url_query(&print(values)).into()),
        ("split", [value, separator]) => {
            let (value, separator) = (text(name, *value)?, text(name, *separator)?);
            Ok(value.split(separator).collect::<Vec<_>>().into())
        }
        ("join", [value, separator]) => join(*value, text(name, *separator)?),
        ("pad", [value, before, after]) => {
            let (before, after) = (padding(*before)?, padding(*after)?);
            let value = text(name, *value)?;
            // As docker: nothing around nothing.
            if value.is_empty() { Ok("".into()) } else { Ok(format!("{before}{value}{after}").into()) }
        }
        ("truncate", [value, length]) => {
            let length = length.and_then(Value::as_u64).ok_or("truncate: the length is not a number")?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            Ok(text(name, *value)?.chars().take(length).collect::<String>().into())
        }
        _ => Err(format!("wrong number of arguments for {name}: {}", values.len())),
    }
}

fn text<'a>(name: &str, value: Option<&'a Value>) -> Result<&'a str> {
    value.and_then(Value::as_str).ok_or_else(|| format!("{name}: {} is not a string", display(value)))
}

/// Go's `Sprint`: a blank between two that are both no strings.
fn print(values: &[Option<&Value>]) -> String {
    let mut output = String::new();
    for (position, value) in values.iter().enumerate() {
        let is_text = |value: Option<&Value>| matches!(value, Some(Value::String(_)));
        if position > 0 && !is_text(*value) && !is_text(values[position - 1]) {
            output.push(' ');
        }
        output.push_str(&display(*value));
    }
    output
}

fn length(value: Option<&Value>) -> Result<usize> {
    match value {
        Some(Value::String(text)) => Ok(text.len()),
        Some(Value::Array(items)) => Ok(items.len()),
        // Where docker has no list, its document has null.
        Some(Value::Null) => Ok(0),
        Some(Value::Object(map)) => Ok(map.len()),
        other => Err(format!("len of {}", display(other))),
    }
}

fn index(value: Option<&Value>, keys: &[Option<&Value>]) -> Result<Value> {
    let mut value = value.cloned().unwrap_or(Value::Null);
    for key in keys {
        value = match (&value, key) {
            (Value::Object(map), Some(Value::String(key))) => {
                map.get(key).cloned().unwrap_or_else(|| "".into())
            }
            (Value::Array(items), Some(Value::Number(number))) => {
                let position = number.as_u64().and_then(|number| usize::try_from(number).ok());
                let item = position.and_then(|position| items.get(position));
                item.cloned().ok_or_else(|| format!("index out of range: {number}"))?
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (other, key) => {
                return Err(format!("can't index {} with {}", display(Some(other)), display(*key)));
            }
        };
    }
    Ok(value)
}

fn slice(value: Option<&Value>, bounds: &[Option<&Value>]) -> Result<Value> {
    let length = length(value)?;
    let bound = |position: usize, default: usize| match bounds.get(position) {
        None => Ok(default),
        Some(value) => {
            let number = value.and_then(Value::as_u64).and_then(|number| usize::try_from(number).ok());
            number
                .filter(|number| *number <= length)
                .ok_or_else(|| "slice: a bound is out of range".to_owned())
        }
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    if start > end || bounds.len() > 2 {
        return Err("slice: the bounds do not fit".into());
    }
    match value {
        Some(Value::String(text)) => text
            .get(start..end)
            .map(Value::from)
            .ok_or_else(|| "slice: a bound is inside of a character".into()),
        Some(Value::Array(items)) => Ok(items[start..end].to_vec().into()),
        other => Err(format!("can't slice {}", display(other))),
    }
}

fn equal(one: Option<&Value>, two: Option<&Value>) -> Result<bool> {
    match (one.unwrap_or(&Value::Null), two.unwrap_or(&Value::Null)) {
        (Value::Null, other) | (other, Value::Null) => Ok(other.is_null()),
        (Value::Bool(one), Value::Bool(two)) => Ok(one == two),
        (one, two) => compare(Some(one), Some(two)).map(Ordering::is_eq),
    }
}

fn compare(one: Option<&Value>, two: Option<&Value>) -> Result<Ordering> {
    let ordering = match (one, two) {
        (Some(Value::String(one)), Some(Value::String(two))) => Some(one.cmp(two)),
        (Some(Value::Number(one)), Some(Value::Number(two))) => match (one.as_i64(), two.as_i64()) {
            (Some(one), Some(two)) => Some(one.cmp(&two)),
            _ => one.as_f64().unwrap_or_default().partial_cmp(&two.as_f64().unwrap_or_default()),
        },
        _ => None,
    };
    ordering
        .ok_or_else(|| format!("incompatible types for comparison: {} and {}", display(one), display(two)))
}

fn title(text: &str) -> String {
    let mut start = true;
    let letter = |c: char| {
        let first = std::mem::replace(&mut start, !c.is_alphanumeric() && c != '_' && c != '\'');
        if first { c.to_uppercase().next().unwrap_or(c) } else { c }
    };
    text.chars().map(letter).collect()
}

fn join(value: Option<&Value>, separator: &str) -> Result<Value> {
    match value {
        None | Some(Value::Null) => Ok("".into()),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| display(Some(item))).collect();
            Ok(items.join(separator).into())
        }
        other => Err(format!("join: {} is not a list", display(other))),
    }
}

fn padding(value: Option<&Value>) -> Result<String> {
    let count = value.and_then(Value::as_i64).filter(|count| (0..=MAX_PADDING).contains(count));
    count.map(|count| " ".repeat(count as usize)).ok_or_else(|| "pad: a width is out of bounds".into())
}

fn html(text: &str) -> String {
    let escape = |c: char| match c {
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '&' => "&amp;".to_owned(),
        '"' => "&#34;".to_owned(),
        '\'' => "&#39;".to_owned(),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}

fn url_query(text: &str) -> String {
    let escape = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        _ if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
