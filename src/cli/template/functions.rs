//! The functions of templates: text/template's own and docker's.

use super::print::{display, sprintf, truth, type_name};
use super::run::Datum;
use crate::types::url_query;
use serde_json::Value;
use std::cmp::Ordering;

type Result<T> = std::result::Result<T, String>;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not",
    "or", "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// Blanks that `pad` adds on one side, at most.
const MAX_PADDING: i64 = 1000;

pub(super) fn exists(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Whether a function prints its arguments.
pub(super) fn makes_text(name: &str) -> bool {
    matches!(name, "print" | "println" | "printf" | "html" | "js" | "urlquery")
}

/// How many arguments a function takes: at least, at most.
fn arity(name: &str) -> (usize, usize) {
    match name {
        "json" | "len" | "not" | "upper" | "lower" | "title" => (1, 1),
        "ne" | "lt" | "le" | "gt" | "ge" | "split" | "join" | "truncate" => (2, 2),
        "pad" => (3, 3),
        "eq" => (2, usize::MAX),
        "printf" | "index" => (1, usize::MAX),
        "slice" => (1, 4),
        _ => (0, usize::MAX),
    }
}

/// Calls a function (`and` and `or` are not among these: they look at no more
/// than they need). With `headings`, functions that change a text leave it.
pub(super) fn call(name: &str, arguments: &[Datum<'_>], headings: bool) -> Result<Value> {
    let values: Vec<Option<&Value>> = arguments.iter().map(Datum::as_deref).collect();
    // As docker: `pad` is done to headings too, so that they stay above their columns.
    if headings && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate") {
        return Ok(values.first().copied().flatten().cloned().unwrap_or(Value::Null));
    }
    let (least, most) = arity(name);
    if values.len() < least || values.len() > most {
        let want = if least == most { least.to_string() } else { format!("at least {least}") };
        return Err(format!("wrong number of args for {name}: want {want} got {}", values.len()));
    }
    match name {
        _ if makes_text(name) => text_of(name, &values),
        "upper" | "lower" | "title" | "split" | "join" | "pad" | "truncate" => dockers(name, &values),
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => comparison(name, &values).map(Value::from),
        "json" => Ok(values[0].unwrap_or(&Value::Null).to_string().into()),
        "len" => length(values[0]).map(Value::from),
        "index" => index(values[0], &values[1..]),
        "slice" => slice(values[0], &values[1..]),
        _ => Ok((!truth(values[0])).into()),
    }
    .map_err(|message| format!("error calling {name}: {message}"))
}

/// Go's functions that make a text of any values.
fn text_of(name: &str, values: &[Option<&Value>]) -> Result<Value> {
    Ok(match name {
        "print" => print(values),
        "println" => {
            let words: Vec<String> = values.iter().map(|value| display(*value)).collect();
            format!("{}\n", words.join(" "))
        }
        "printf" => sprintf(text(values[0])?, &values[1..])?,
        "html" => html(&print(values)),
        "js" => javascript(&print(values)),
        _ => url_query::escaped(&print(values)),
    }
    .into())
}

/// The functions that docker adds to Go's.
fn dockers(name: &str, values: &[Option<&Value>]) -> Result<Value> {
    if name == "join" {
        return join(values[0], text(values[1])?);
    }
    let value = text(values[0])?;
    Ok(match name {
        "upper" => value.to_uppercase().into(),
        "lower" => value.to_lowercase().into(),
        "title" => title(value).into(),
        "split" => split(value, text(values[1])?).into(),
        "pad" => {
            let (before, after) = (padding(values[1])?, padding(values[2])?);
            // As docker: nothing around nothing.
            if value.is_empty() { "".into() } else { format!("{before}{value}{after}").into() }
        }
        _ => {
            let length = values[1].and_then(Value::as_u64).ok_or("the length is not a number")?;
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            value.chars().take(length).collect::<String>().into()
        }
    })
}

fn comparison(name: &str, values: &[Option<&Value>]) -> Result<bool> {
    let (one, two) = (values[0], values[1]);
    match name {
        "eq" => values[1..].iter().try_fold(false, |found, other| Ok(found || equal(one, *other)?)),
        "ne" => Ok(!equal(one, two)?),
        "lt" => Ok(compare(one, two)? == Ordering::Less),
        "le" => Ok(compare(one, two)? != Ordering::Greater),
        "gt" => Ok(compare(one, two)? == Ordering::Greater),
        _ => Ok(compare(one, two)? != Ordering::Less),
    }
}

/// Go's `strings.Split`: nothing between the parts makes parts of a character each.
fn split(text: &str, separator: &str) -> Vec<String> {
    if separator.is_empty() {
        return text.chars().map(String::from).collect();
    }
    text.split(separator).map(str::to_owned).collect()
}

fn text(value: Option<&Value>) -> Result<&str> {
    let wrong = || format!("wrong type for value; expected string; got {}", type_name(value));
    value.and_then(Value::as_str).ok_or_else(wrong)
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
        other => Err(format!("len of type {}", type_name(other))),
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
                item.cloned().ok_or_else(|| format!("reflect: slice index out of range: {number}"))?
            }
            (Value::String(text), Some(Value::Number(number))) => {
                let position = number.as_u64().and_then(|number| usize::try_from(number).ok());
                let byte = position.and_then(|position| text.as_bytes().get(position));
                byte.map(|byte| Value::from(*byte))
                    .ok_or_else(|| format!("reflect: string index out of range: {number}"))?
            }
            (Value::Null, _) => return Err("index of untyped nil".into()),
            (Value::Object(_) | Value::Array(_), key) => {
                return Err(format!("cannot index slice/array with type {}", type_name(*key)));
            }
            (other, _) => return Err(format!("can't index item of type {}", type_name(Some(other)))),
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
                .ok_or_else(|| format!("index out of range: {}", display(*value)))
        }
    };
    let (start, end) = (bound(0, 0)?, bound(1, length)?);
    if start > end {
        return Err(format!("invalid slice index: {start} > {end}"));
    }
    match value {
        Some(Value::String(text)) => {
            text.get(start..end).map(Value::from).ok_or_else(|| "a bound is inside of a character".into())
        }
        Some(Value::Array(items)) => Ok(items[start..end].to_vec().into()),
        other => Err(format!("can't slice item of type {}", type_name(other))),
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
            // As Go, which compares no whole number with another.
            _ if one.is_f64() != two.is_f64() => None,
            _ => one.as_f64().unwrap_or_default().partial_cmp(&two.as_f64().unwrap_or_default()),
        },
        _ => None,
    };
    ordering.ok_or_else(|| {
        format!("incompatible types for comparison: {} and {}", type_name(one), type_name(two))
    })
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
        Some(Value::Object(map)) => {
            let mut items: Vec<String> = map.values().map(|item| display(Some(item))).collect();
            items.sort();
            Ok(items.join(separator).into())
        }
        other => Err(format!("expected slice, got {}", type_name(other))),
    }
}

fn padding(value: Option<&Value>) -> Result<String> {
    let count = value.and_then(Value::as_i64).filter(|count| (0..=MAX_PADDING).contains(count));
    count.map(|count| " ".repeat(count as usize)).ok_or_else(|| "a width is out of bounds".into())
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

/// A text that may stand in a string of JavaScript.
fn javascript(text: &str) -> String {
    let escape = |c: char| match c {
        '\\' => "\\\\".to_owned(),
        '\'' => "\\'".to_owned(),
        '"' => "\\\"".to_owned(),
        '<' | '>' | '&' | '=' => format!("\\u{:04X}", u32::from(c)),
        c if c.is_control() => format!("\\u{:04X}", u32::from(c)),
        other => other.to_string(),
    };
    text.chars().map(escape).collect()
}
