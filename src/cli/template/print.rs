//! Values as Go's `%v` prints them, and what counts as true.

use serde_json::Value;

/// `{{.}}`
pub(super) fn display(value: Option<&Value>) -> String {
    match value {
        None => "<no value>".into(),
        Some(Value::Null) => "<nil>".into(),
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| display(Some(item))).collect();
            format!("[{}]", items.join(" "))
        }
        Some(Value::Object(map)) => {
            let mut items: Vec<String> =
                map.iter().map(|(key, item)| format!("{key}:{}", display(Some(item)))).collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// Go's truth: not false, 0, empty or nothing.
pub(super) fn truth(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
    }
}

/// Blanks and zeros before a number or text, at most.
const MAX_WIDTH: usize = 1000;

/// Go's `fmt.Sprintf` for the verbs that values of JSON have.
///
/// # Errors
/// Where a width is out of bounds.
pub(super) fn sprintf(format: &str, arguments: &[Option<&Value>]) -> Result<String, String> {
    let mut output = String::new();
    let mut arguments = arguments.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        output.push_str(&rest[..at]);
        let (directive, after) = Directive::read(&rest[at + 1..])?;
        rest = after;
        match directive.verb {
            None => output.push_str("%!(NOVERB)"),
            Some('%') => output.push('%'),
            Some(verb) => match arguments.next() {
                None => output.push_str(&format!("%!{verb}(MISSING)")),
                Some(value) => output.push_str(&directive.padded(&directive.text(verb, *value))),
            },
        }
    }
    output.push_str(rest);
    if arguments.len() > 0 {
        let extra: Vec<String> = arguments.map(|value| display(*value)).collect();
        output.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(output)
}

struct Directive {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
    verb: Option<char>,
}

impl Directive {
    fn read(text: &str) -> Result<(Self, &str), String> {
        let flags = text.find(|c| !matches!(c, '-' | '0' | '+' | ' ' | '#')).unwrap_or(text.len());
        let (flags, rest) = text.split_at(flags);
        let (width, rest) = number(rest)?;
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => number(rest).map(|(precision, rest)| (Some(precision), rest))?,
            None => (None, rest),
        };
        let verb = rest.chars().next();
        let rest = &rest[verb.map_or(0, char::len_utf8)..];
        let has = |flag| flags.contains(flag);
        Ok((
            Self { left: has('-'), zero: has('0') && !has('-'), plus: has('+'), width, precision, verb },
            rest,
        ))
    }

    fn text(&self, verb: char, value: Option<&Value>) -> String {
        let wrong = || format!("%!{verb}({})", display(value));
        match (verb, value) {
            ('v' | 's', _) => match self.precision {
                Some(length) => display(value).chars().take(length).collect(),
                None => display(value),
            },
            ('q', _) => Value::from(display(value)).to_string(),
            ('t', Some(Value::Bool(value))) => value.to_string(),
            ('d', Some(Value::Number(number))) if number.is_i64() || number.is_u64() => {
                if self.plus && !number.to_string().starts_with('-') {
                    format!("+{number}")
                } else {
                    number.to_string()
                }
            }
            ('x' | 'X' | 'o' | 'b', Some(Value::Number(number))) => match (number.as_i64(), verb) {
                (Some(number), 'x') => format!("{number:x}"),
                (Some(number), 'X') => format!("{number:X}"),
                (Some(number), 'o') => format!("{number:o}"),
                (Some(number), _) => format!("{number:b}"),
                (None, _) => wrong(),
            },
            ('f', Some(Value::Number(number))) => {
                format!("{:.*}", self.precision.unwrap_or(6), number.as_f64().unwrap_or_default())
            }
            ('g', Some(Value::Number(number))) => number.to_string(),
            _ => wrong(),
        }
    }

    fn padded(&self, text: &str) -> String {
        let missing = self.width.saturating_sub(text.chars().count());
        match (self.left, self.zero, text.strip_prefix('-')) {
            (true, ..) => format!("{text}{}", " ".repeat(missing)),
            (false, true, Some(digits)) => format!("-{}{digits}", "0".repeat(missing)),
            (false, true, None) => format!("{}{text}", "0".repeat(missing)),
            (false, false, _) => format!("{}{text}", " ".repeat(missing)),
        }
    }
}

fn number(text: &str) -> Result<(usize, &str), String> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((0, rest));
    }
    let number = digits.parse().ok().filter(|number| *number <= MAX_WIDTH);
    number.map(|number| (number, rest)).ok_or_else(|| format!("printf: the width {digits} is out of bounds"))
}
