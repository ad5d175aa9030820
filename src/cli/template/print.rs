//! Values as Go's `%v` prints them, and what counts as true.

use super::shape;
use serde_json::{Number, Value};

/// `{{.}}`
pub(super) fn display(value: Option<&Value>) -> String {
    shown("", value)
}

/// `{{.Config.Cmd}}`: `name` is the last of the names that lead to the value.
pub(super) fn shown(name: &str, value: Option<&Value>) -> String {
    match value {
        None => "<no value>".into(),
        Some(Value::Null) => match shape::empty(name) {
            Some(empty) => shown(name, Some(&empty)),
            None => "<nil>".into(),
        },
        Some(Value::Bool(value)) => value.to_string(),
        Some(Value::Number(number)) => number_text(number),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(items)) => {
            let items: Vec<String> = items.iter().map(|item| display(Some(item))).collect();
            format!("[{}]", items.join(" "))
        }
        Some(Value::Object(map)) if shape::is_struct(name, map) => {
            let items: Vec<String> = map.iter().map(|(key, item)| shown(key, Some(item))).collect();
            format!("{{{}}}", items.join(" "))
        }
        Some(Value::Object(map)) => {
            let member = shape::of_members(name);
            let mut items: Vec<String> =
                map.iter().map(|(key, item)| format!("{key}:{}", shown(member, Some(item)))).collect();
            items.sort();
            format!("map[{}]", items.join(" "))
        }
    }
}

/// Go writes no `.0`, and an exponent for what is very large or small.
fn number_text(number: &Number) -> String {
    let float = match number.as_f64() {
        Some(float) if number.is_f64() => float,
        _ => return number.to_string(),
    };
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        return with_exponent(&format!("{float:e}"));
    }
    float.to_string()
}

/// `1e-5` as Go writes it: `1e-05`.
fn with_exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(exponent) => ('-', exponent),
        None => ('+', exponent),
    };
    format!("{digits}e{sign}{exponent:0>2}")
}

/// What Go calls the type of a value, for messages.
pub(super) fn type_name(value: Option<&Value>) -> &'static str {
    match value {
        None | Some(Value::Null) => "<nil>",
        Some(Value::Bool(_)) => "bool",
        Some(Value::Number(number)) if number.is_f64() => "float64",
        Some(Value::Number(_)) => "int",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "[]interface {}",
        Some(Value::Object(_)) => "map[string]interface {}",
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
    let mut operands = Operands { all: arguments, next: 0, reordered: false };
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        output.push_str(&rest[..at]);
        let (directive, after) = Directive::read(&rest[at + 1..], &mut operands)?;
        rest = after;
        match directive.verb {
            None => output.push_str("%!(NOVERB)"),
            Some('%') => output.push('%'),
            Some(verb) if directive.bad_index => output.push_str(&format!("%!{verb}(BADINDEX)")),
            Some(verb) => match operands.take() {
                Err(Missing) => output.push_str(&format!("%!{verb}(MISSING)")),
                Ok(value) => output.push_str(&directive.padded(&directive.text(verb, value))),
            },
        }
    }
    output.push_str(rest);
    if let Some(extra) =
        arguments.get(operands.next..).filter(|extra| !extra.is_empty() && !operands.reordered)
    {
        let extra: Vec<String> =
            extra.iter().map(|value| format!("{}={}", type_name(*value), display(*value))).collect();
        output.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(output)
}

/// There are fewer arguments than verbs.
struct Missing;

/// The arguments of `printf`, of which each verb takes the next.
struct Operands<'a> {
    all: &'a [Option<&'a Value>],
    next: usize,
    /// One was chosen by its number: those that are left over are meant to be.
    reordered: bool,
}

impl<'a> Operands<'a> {
    fn take(&mut self) -> Result<Option<&'a Value>, Missing> {
        let value = self.all.get(self.next).copied().ok_or(Missing)?;
        self.next += 1;
        Ok(value)
    }

    /// `[2]`: the second is the next. `None` where there is none of that number.
    fn choose<'t>(&mut self, text: &'t str) -> (Option<()>, &'t str) {
        let Some((number, rest)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) else {
            return (Some(()), text);
        };
        self.reordered = true;
        let position = number.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match position.filter(|position| *position < self.all.len()) {
            Some(position) => {
                self.next = position;
                (Some(()), rest)
            }
            None => (None, rest),
        }
    }
}

struct Directive {
    left: bool,
    zero: bool,
    plus: bool,
    /// `%#v`: as Go would write it in a program.
    sharp: bool,
    width: usize,
    precision: Option<usize>,
    /// It names an argument that there is not.
    bad_index: bool,
    verb: Option<char>,
}

impl Directive {
    fn read<'t>(text: &'t str, operands: &mut Operands<'_>) -> Result<(Self, &'t str), String> {
        let flags = text.find(|c| !matches!(c, '-' | '0' | '+' | ' ' | '#')).unwrap_or(text.len());
        let (flags, rest) = text.split_at(flags);
        let (mut chosen, rest) = operands.choose(rest);
        let (width, rest) = width(rest, operands)?;
        let (precision, rest) = match rest.strip_prefix('.') {
            Some(rest) => {
                let (found, rest) = operands.choose(rest);
                chosen = chosen.and(found);
                self::width(rest, operands).map(|(precision, rest)| (Some(precision.unsigned_abs()), rest))?
            }
            None => (None, rest),
        };
        let (found, rest) = operands.choose(rest);
        chosen = chosen.and(found);
        let verb = rest.chars().next();
        let rest = &rest[verb.map_or(0, char::len_utf8)..];
        let has = |flag| flags.contains(flag);
        // A negative width of an argument's is one with `-`.
        let left = has('-') || width < 0;
        Ok((
            Self {
                left,
                zero: has('0') && !left,
                plus: has('+'),
                sharp: has('#'),
                width: width.unsigned_abs(),
                precision,
                bad_index: chosen.is_none(),
                verb,
            },
            rest,
        ))
    }

    fn text(&self, verb: char, value: Option<&Value>) -> String {
        let wrong = || match value {
            None | Some(Value::Null) => format!("%!{verb}(<nil>)"),
            value => format!("%!{verb}({}={})", type_name(value), display(value)),
        };
        match (verb, value) {
            ('v', Some(Value::String(text))) if self.sharp => Value::from(text.as_str()).to_string(),
            ('s', Some(Value::Number(_) | Value::Bool(_) | Value::Null) | None) => wrong(),
            ('T', _) => type_name(value).to_owned(),
            ('v' | 's', _) => match self.precision {
                Some(length) => display(value).chars().take(length).collect(),
                None => display(value),
            },
            ('q', Some(Value::String(text))) => Value::from(text.as_str()).to_string(),
            ('q', Some(Value::Array(items))) => {
                let items: Vec<String> = items.iter().map(|item| self.text('q', Some(item))).collect();
                format!("[{}]", items.join(" "))
            }
            ('c', Some(Value::Number(number))) => {
                let code = number.as_u64().and_then(|number| u32::try_from(number).ok());
                code.and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
            }
            ('x' | 'X', Some(Value::String(text))) => {
                let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
                if verb == 'X' { hexadecimal.to_uppercase() } else { hexadecimal }
            }
            ('t', Some(Value::Bool(value))) => value.to_string(),
            ('d', Some(Value::Number(number))) if number.is_i64() || number.is_u64() => {
                if self.plus && !number.to_string().starts_with('-') {
                    format!("+{number}")
                } else {
                    number.to_string()
                }
            }
            ('x' | 'X' | 'o' | 'b', Some(Value::Number(number))) => match number.as_i64() {
                Some(number) => self.in_base(verb, number),
                None => wrong(),
            },
            ('U', Some(Value::Number(number))) if number.is_u64() => {
                format!("U+{:04X}", number.as_u64().unwrap_or_default())
            }
            ('e' | 'E', Some(Value::Number(number))) if number.is_f64() => {
                let text =
                    format!("{:.*e}", self.precision.unwrap_or(6), number.as_f64().unwrap_or_default());
                let text = with_exponent(&text);
                if verb == 'E' { text.to_uppercase() } else { text }
            }
            ('f' | 'F', Some(Value::Number(number))) => {
                format!("{:.*}", self.precision.unwrap_or(6), number.as_f64().unwrap_or_default())
            }
            ('g' | 'G', Some(Value::Number(number))) => number_text(number),
            _ => wrong(),
        }
    }

    /// `%x`, and with `#` its prefix.
    fn in_base(&self, verb: char, number: i64) -> String {
        let size = number.unsigned_abs();
        let (digits, prefix) = match verb {
            'x' => (format!("{size:x}"), "0x"),
            'X' => (format!("{size:X}"), "0X"),
            'o' => (format!("{size:o}"), "0"),
            _ => (format!("{size:b}"), "0b"),
        };
        let sign = if number < 0 { "-" } else { "" };
        format!("{sign}{}{digits}", if self.sharp { prefix } else { "" })
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

/// A width or precision: digits, or `*` for the next argument.
fn width<'t>(text: &'t str, operands: &mut Operands<'_>) -> Result<(isize, &'t str), String> {
    if let Some(rest) = text.strip_prefix('*') {
        let value = operands.take().ok().flatten().and_then(Value::as_i64);
        let number = value.and_then(|number| isize::try_from(number).ok());
        let number = number.filter(|number| number.unsigned_abs() <= MAX_WIDTH);
        return number.map(|number| (number, rest)).ok_or_else(|| "printf: a width is out of bounds".into());
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.is_empty() {
        return Ok((0, rest));
    }
    let number = digits.parse::<isize>().ok().filter(|number| number.unsigned_abs() <= MAX_WIDTH);
    number.map(|number| (number, rest)).ok_or_else(|| format!("printf: the width {digits} is out of bounds"))
}
