//! A template's text as pieces: plain text, and the tokens of each action.

use super::Fault;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// What stands between `{{` and `}}`, and where the action begins.
    Action(Vec<Lexed>, usize),
}

/// A token and the bytes of the template that it is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lexed {
    pub(super) token: Token,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// `.`
    Dot,
    /// `.A.B`; after a `)` the fields of what the parentheses gave.
    Field(Vec<String>),
    /// `$x.A.B`; `$` has an empty name.
    Variable(String, Vec<String>),
    Word(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Pipe,
    Open,
    Close,
    Comma,
    /// `:=`
    Declare,
    /// `=`
    Assign,
}

type Result<T> = std::result::Result<T, Fault>;

/// Splits a template; blanks beside `{{-` and `-}}` are gone, comments as well.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim_start = false;
    loop {
        let start = rest.find("{{");
        let mut plain = &rest[..start.unwrap_or(rest.len())];
        if trim_start {
            plain = plain.trim_start();
        }
        let Some(start) = start else {
            push_text(&mut pieces, plain);
            return Ok(pieces);
        };
        let begin = text.len() - rest.len() + start;
        let mut inside = &rest[start + 2..];
        if inside.starts_with('-') && inside[1..].starts_with(char::is_whitespace) {
            inside = &inside[1..];
            plain = plain.trim_end();
        }
        push_text(&mut pieces, plain);
        let mut lexer = Lexer { length: text.len(), rest: inside, tokens: Vec::new() };
        trim_start = lexer.action()?;
        rest = lexer.rest;
        if !lexer.tokens.is_empty() {
            pieces.push(Piece::Action(lexer.tokens, begin));
        }
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

struct Lexer<'a> {
    /// Bytes of the whole template.
    length: usize,
    rest: &'a str,
    tokens: Vec<Lexed>,
}

impl Lexer<'_> {
    fn position(&self) -> usize {
        self.length - self.rest.len()
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::parse(self.position(), message)
    }

    /// The tokens of one action; whether it ended with `-}}`.
    fn action(&mut self) -> Result<bool> {
        if let Some(comment) = self.rest.trim_start().strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| self.fault("unclosed comment"))?;
            let after = &comment[end + 2..];
            let trimmed = after.trim_start().strip_prefix("-}}");
            self.rest = trimmed
                .or_else(|| after.strip_prefix("}}"))
                .ok_or_else(|| self.fault("comment ends before closing delimiter"))?;
            return Ok(trimmed.is_some());
        }
        loop {
            let blanks = self.rest.len();
            self.rest = self.rest.trim_start();
            let after_blank = self.rest.len() < blanks;
            if let Some(rest) = self.rest.strip_prefix("}}") {
                if self.tokens.is_empty() {
                    return Err(self.fault("missing value for command"));
                }
                self.rest = rest;
                return Ok(false);
            }
            if let Some(rest) = self.rest.strip_prefix("-}}").filter(|_| after_blank) {
                self.rest = rest;
                return Ok(true);
            }
            let Some(first) = self.rest.chars().next() else { return Err(self.fault("unclosed action")) };
            let start = self.position();
            let token = self.token(first)?;
            self.tokens.push(Lexed { token, start, end: self.position() });
        }
    }

    fn token(&mut self, first: char) -> Result<Token> {
        let token = match first {
            '|' => Some(Token::Pipe),
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            ',' => Some(Token::Comma),
            '=' => Some(Token::Assign),
            _ => None,
        };
        if let Some(token) = token {
            self.rest = &self.rest[1..];
            return Ok(token);
        }
        match first {
            ':' if self.rest.starts_with(":=") => {
                self.rest = &self.rest[2..];
                Ok(Token::Declare)
            }
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '$' => {
                self.rest = &self.rest[1..];
                let name = self.identifier();
                Ok(Token::Variable(name, self.fields()?))
            }
            '.' if !self.rest[1..].starts_with(|c: char| c.is_ascii_digit()) => {
                let fields = self.fields()?;
                if !fields.is_empty() {
                    return Ok(Token::Field(fields));
                }
                self.rest = &self.rest[1..];
                Ok(Token::Dot)
            }
            '0'..='9' | '+' | '-' | '.' => self.number(),
            _ if first.is_alphabetic() || first == '_' => Ok(Token::Word(self.identifier())),
            '}' => Err(self.fault("unexpected \"}\" in operand")),
            _ => {
                Err(self
                    .fault(format!("unrecognized character in action: U+{:04X} {first:?}", u32::from(first))))
            }
        }
    }

    fn identifier(&mut self) -> String {
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        self.rest = rest;
        name.to_owned()
    }

    /// `.A.B` directly here, without blanks.
    fn fields(&mut self) -> Result<Vec<String>> {
        let mut fields = Vec::new();
        while let Some(after) = self.rest.strip_prefix('.') {
            if !after.starts_with(|c: char| c.is_alphabetic() || c == '_') {
                break;
            }
            self.rest = after;
            fields.push(self.identifier());
            if fields.len() > 100 {
                return Err(self.fault("fields are nested too deeply"));
            }
        }
        Ok(fields)
    }

    /// A string of Go with its escapes.
    fn quoted(&mut self) -> Result<Token> {
        let mut text = String::new();
        let mut chars = self.rest[1..].chars();
        loop {
            match chars.next() {
                None | Some('\n') => return Err(self.fault("unterminated quoted string")),
                Some('"') => break,
                Some('\\') => text.push(escape(&mut chars).map_err(|message| self.fault(message))?),
                Some(c) => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Ok(Token::Text(text))
    }

    fn raw(&mut self) -> Result<Token> {
        let (text, rest) =
            self.rest[1..].split_once('`').ok_or_else(|| self.fault("unterminated raw quoted string"))?;
        self.rest = rest;
        Ok(Token::Text(text.to_owned()))
    }

    /// A character of Go is its number.
    fn character(&mut self) -> Result<Token> {
        let unterminated = || self.fault("unterminated character constant");
        let mut chars = self.rest[1..].chars();
        let value = match chars.next().ok_or_else(unterminated)? {
            '\\' => escape(&mut chars).map_err(|message| self.fault(message))?,
            c => c,
        };
        if chars.next() != Some('\'') {
            return Err(unterminated());
        }
        self.rest = chars.as_str();
        Ok(Token::Integer(i64::from(u32::from(value))))
    }

    fn number(&mut self) -> Result<Token> {
        let part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '+' | '-');
        let end = self.rest.find(|c: char| !part(c)).unwrap_or(self.rest.len());
        // `-}}` after a number is a trim mark, not a part of it.
        let text = self.rest[..end].trim_end_matches('-');
        let rest = &self.rest[text.len()..];
        let plain = text.replace('_', "");
        let (negative, digits) = match plain.strip_prefix(['+', '-']) {
            Some(digits) => (plain.starts_with('-'), digits),
            None => (false, plain.as_str()),
        };
        let integer = match digits.get(..2) {
            Some("0x" | "0X") => i64::from_str_radix(&digits[2..], 16),
            Some("0b" | "0B") => i64::from_str_radix(&digits[2..], 2),
            Some("0o" | "0O") => i64::from_str_radix(&digits[2..], 8),
            _ => digits.parse(),
        };
        let decimal = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        let token = match integer {
            Ok(number) => Token::Integer(if negative { -number } else { number }),
            Err(_) => match plain.parse::<f64>() {
                Ok(number) if number.is_finite() && decimal => Token::Float(number),
                _ => return Err(self.fault(format!("bad number syntax: {text:?}"))),
            },
        };
        self.rest = rest;
        Ok(token)
    }
}

/// The character that an escape stands for, after its backslash.
fn escape(chars: &mut std::str::Chars<'_>) -> std::result::Result<char, String> {
    match chars.next() {
        Some('n') => Ok('\n'),
        Some('t') => Ok('\t'),
        Some('r') => Ok('\r'),
        Some('a') => Ok('\x07'),
        Some('b') => Ok('\x08'),
        Some('f') => Ok('\x0c'),
        Some('v') => Ok('\x0b'),
        Some('\\') => Ok('\\'),
        Some('"') => Ok('"'),
        Some('\'') => Ok('\''),
        Some('x') => hexadecimal(chars, 2),
        Some('u') => hexadecimal(chars, 4),
        Some('U') => hexadecimal(chars, 8),
        _ => Err("unknown escape in a string".into()),
    }
}

fn hexadecimal(chars: &mut std::str::Chars<'_>, digits: usize) -> std::result::Result<char, String> {
    let text: String = chars.by_ref().take(digits).collect();
    let plain = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = if plain { u32::from_str_radix(&text, 16).ok() } else { None };
    number.and_then(char::from_u32).ok_or_else(|| "bad escape in a string".into())
}
