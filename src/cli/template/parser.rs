//! Pieces to a tree.

use super::functions;
use super::lexer::{Piece, Token};

/// How deep blocks and parentheses may be nested.
const MAX_DEPTH: usize = 100;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If { condition: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    With { value: Pipeline, then: Vec<Node>, otherwise: Vec<Node> },
    Range { over: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
    Break,
    Continue,
}

/// `$x := a | b`
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Names of the variables that take the value; two only with `range`.
    pub(super) variables: Vec<String>,
    /// `:=` makes a variable, `=` changes one.
    pub(super) declares: bool,
    /// At least one.
    pub(super) commands: Vec<Vec<Operand>>,
}

#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Field(Vec<String>),
    Variable(String, Vec<String>),
    Function(String),
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Nil,
    /// `(pipeline).A.B`
    Group(Pipeline, Vec<String>),
}

type Result<T> = std::result::Result<T, String>;

pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>> {
    let mut parser = Parser { pieces: pieces.into_iter(), depth: 0, loops: 0 };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Text => Ok(nodes),
        End::Closed => Err("unexpected {{end}}".into()),
        End::Else(_) => Err("unexpected {{else}}".into()),
    }
}

/// What closed a list of nodes.
enum End {
    Text,
    /// `{{end}}`
    Closed,
    /// With the tokens after `else`.
    Else(Vec<Token>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
    /// How many `range`s are open.
    loops: usize,
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            match keyword(&tokens) {
                Some("end") => {
                    nothing_after(&tokens, "end")?;
                    return Ok((nodes, End::Closed));
                }
                Some("else") => return Ok((nodes, End::Else(tokens[1..].to_vec()))),
                Some("break" | "continue") if self.loops == 0 => {
                    return Err("{{break}} or {{continue}} outside of {{range}}".into());
                }
                Some("break") => nodes.push(Node::Break),
                Some("continue") => nodes.push(Node::Continue),
                Some(block @ ("if" | "with" | "range")) => nodes.push(self.block(block, &tokens[1..])?),
                Some(word @ ("template" | "define" | "block")) => {
                    return Err(format!("{{{{{word}}}}} is not part of --format"));
                }
                _ => nodes.push(Node::Action(pipeline(&tokens)?)),
            }
        }
        Ok((nodes, End::Text))
    }

    fn block(&mut self, keyword: &str, tokens: &[Token]) -> Result<Node> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("blocks are nested too deeply".into());
        }
        let head = pipeline(tokens)?;
        if head.variables.len() > 1 && keyword != "range" {
            return Err(format!("too many variables in {{{{{keyword}}}}}"));
        }
        self.loops += usize::from(keyword == "range");
        let (then, end) = self.nodes()?;
        self.loops -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Text => return Err(format!("unexpected end of the template in {{{{{keyword}}}}}")),
            End::Closed => Vec::new(),
            End::Else(tokens) if tokens.is_empty() => self.last_branch()?,
            End::Else(tokens) => match self::keyword(&tokens) {
                // `else if` is an `if` of its own that shares our `end`.
                Some(word @ ("if" | "with")) if word == keyword => vec![self.block(keyword, &tokens[1..])?],
                _ => return Err("unexpected words after {{else".into()),
            },
        };
        self.depth -= 1;
        Ok(match keyword {
            "if" => Node::If { condition: head, then, otherwise },
            "with" => Node::With { value: head, then, otherwise },
            _ => Node::Range { over: head, body: then, otherwise },
        })
    }

    fn last_branch(&mut self) -> Result<Vec<Node>> {
        match self.nodes()? {
            (nodes, End::Closed) => Ok(nodes),
            (_, End::Else(_)) => Err("unexpected {{else}}".into()),
            (_, End::Text) => Err("unexpected end of the template after {{else}}".into()),
        }
    }
}

fn keyword(tokens: &[Token]) -> Option<&str> {
    match tokens.first() {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

fn nothing_after(tokens: &[Token], word: &str) -> Result<()> {
    if tokens.len() > 1 { Err(format!("unexpected words after {{{{{word}")) } else { Ok(()) }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline> {
    let (variables, declares, used) = declaration(tokens)?;
    let mut reader = Reader { tokens: &tokens[used..], depth: 0 };
    let commands = reader.commands()?;
    if !reader.tokens.is_empty() {
        return Err("unexpected right parenthesis".into());
    }
    Ok(Pipeline { variables, declares, commands })
}

/// `$x :=`, `$x =`, `$i, $x :=` at the start; with how many tokens that are.
fn declaration(tokens: &[Token]) -> Result<(Vec<String>, bool, usize)> {
    let name = |name: &String, fields: &Vec<String>| {
        if fields.is_empty() && !name.is_empty() {
            Ok(name.clone())
        } else {
            Err("only a variable can be assigned to".to_owned())
        }
    };
    Ok(match tokens {
        [Token::Variable(one, fields), Token::Declare, ..] => (vec![name(one, fields)?], true, 2),
        [Token::Variable(one, fields), Token::Assign, ..] => (vec![name(one, fields)?], false, 2),
        [Token::Variable(one, a), Token::Comma, Token::Variable(two, b), Token::Declare, ..] => {
            (vec![name(one, a)?, name(two, b)?], true, 4)
        }
        _ => (Vec::new(), false, 0),
    })
}

struct Reader<'a> {
    tokens: &'a [Token],
    depth: usize,
}

impl Reader<'_> {
    /// Commands with `|` between them, up to the end or a `)`.
    fn commands(&mut self) -> Result<Vec<Vec<Operand>>> {
        let mut commands = Vec::new();
        loop {
            let operands = self.operands()?;
            if operands.is_empty() {
                return Err("missing value for command".into());
            }
            let callable = matches!(operands[0], Operand::Function(_) | Operand::Field(_));
            if !callable && (operands.len() > 1 || !commands.is_empty()) {
                return Err("a command's first word is not a function".into());
            }
            commands.push(operands);
            match self.tokens.first() {
                Some(Token::Pipe) => self.tokens = &self.tokens[1..],
                _ => return Ok(commands),
            }
        }
    }

    fn operands(&mut self) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        while let Some(token) = self.tokens.first() {
            let operand = match token {
                Token::Pipe | Token::Close => break,
                Token::Dot => Operand::Dot,
                Token::Field(fields) => Operand::Field(fields.clone()),
                Token::Variable(name, fields) => Operand::Variable(name.clone(), fields.clone()),
                Token::Text(text) => Operand::Text(text.clone()),
                Token::Integer(number) => Operand::Integer(*number),
                Token::Float(number) => Operand::Float(*number),
                Token::Word(word) => self::word(word)?,
                Token::Open => {
                    operands.push(self.group()?);
                    continue;
                }
                Token::Comma | Token::Declare | Token::Assign => {
                    return Err("unexpected , or = in an action".into());
                }
            };
            operands.push(operand);
            self.tokens = &self.tokens[1..];
        }
        Ok(operands)
    }

    fn group(&mut self) -> Result<Operand> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("parentheses are nested too deeply".into());
        }
        self.tokens = &self.tokens[1..];
        let commands = self.commands()?;
        if self.tokens.first() != Some(&Token::Close) {
            return Err("unclosed left parenthesis".into());
        }
        self.tokens = &self.tokens[1..];
        self.depth -= 1;
        let fields = match self.tokens.first() {
            Some(Token::Field(fields)) => {
                self.tokens = &self.tokens[1..];
                fields.clone()
            }
            _ => Vec::new(),
        };
        Ok(Operand::Group(Pipeline { variables: Vec::new(), declares: false, commands }, fields))
    }
}

fn word(word: &str) -> Result<Operand> {
    match word {
        "true" => Ok(Operand::Boolean(true)),
        "false" => Ok(Operand::Boolean(false)),
        "nil" => Ok(Operand::Nil),
        _ if functions::exists(word) => Ok(Operand::Function(word.to_owned())),
        _ => Err(format!("function {word:?} not defined")),
    }
}
