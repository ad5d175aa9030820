//! Pieces to a tree.

use super::lexer::{Lexed, Piece, Token};
use super::{Fault, functions};
use std::collections::BTreeMap;

/// How deep blocks and parentheses may be nested.
const MAX_DEPTH: usize = 100;

#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Action(Pipeline),
    If {
        condition: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    With {
        value: Pipeline,
        then: Vec<Node>,
        otherwise: Vec<Node>,
    },
    Range {
        over: Pipeline,
        body: Vec<Node>,
        otherwise: Vec<Node>,
    },
    /// `{{template "name" pipeline}}`
    Template {
        name: String,
        value: Option<Pipeline>,
        place: Place,
    },
    Break,
    Continue,
}

/// A whole template: what it prints, and what it defines for `{{template}}`.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) nodes: Vec<Node>,
    pub(super) defined: BTreeMap<String, Vec<Node>>,
}

/// Where something stands in the template's text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The byte that Go names in messages.
    pub(super) at: usize,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// `$x := a | b`
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Names of the variables that take the value; two only with `range`.
    pub(super) variables: Vec<String>,
    /// `:=` makes a variable, `=` changes one.
    pub(super) declares: bool,
    /// At least one.
    pub(super) commands: Vec<Command>,
}

/// `index .Args 1`: at least one operand.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) operands: Vec<Operand>,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Operand {
    pub(super) what: What,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) enum What {
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

type Result<T> = std::result::Result<T, Fault>;

/// `end` is the length of the template, for what is missing there.
pub(super) fn parse(pieces: Vec<Piece>, end: usize) -> Result<Tree> {
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        defined: BTreeMap::new(),
        variables: Vec::new(),
        depth: 0,
        loops: 0,
        at: 0,
        end,
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        End::Text => Ok(Tree { nodes, defined: parser.defined }),
        End::Closed => Err(parser.fault("unexpected {{end}}")),
        End::Else(_) => Err(parser.fault("unexpected {{else}}")),
    }
}

/// What closed a list of nodes.
enum End {
    Text,
    /// `{{end}}`
    Closed,
    /// With the tokens after `else`.
    Else(Vec<Lexed>),
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    defined: BTreeMap<String, Vec<Node>>,
    /// Names in sight, the innermost last.
    variables: Vec<String>,
    depth: usize,
    /// How many `range`s are open.
    loops: usize,
    /// Where the action begins that is being read.
    at: usize,
    end: usize,
}

impl Parser {
    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::parse(self.at, message)
    }

    fn nodes(&mut self) -> Result<(Vec<Node>, End)> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens, at) => {
                    self.at = at;
                    tokens
                }
            };
            match keyword(&tokens) {
                Some("end") => {
                    self.nothing_after(&tokens, "end")?;
                    return Ok((nodes, End::Closed));
                }
                Some("else") => return Ok((nodes, End::Else(tokens[1..].to_vec()))),
                Some(word @ ("break" | "continue")) if self.loops == 0 => {
                    return Err(self.fault(format!("{{{{{word}}}}} outside {{{{range}}}}")));
                }
                Some("break") => nodes.push(Node::Break),
                Some("continue") => nodes.push(Node::Continue),
                Some(block @ ("if" | "with" | "range")) => nodes.push(self.block(block, &tokens[1..])?),
                Some("define") => self.define(&tokens)?,
                Some("template") => nodes.push(self.call(&tokens, "template clause")?),
                Some("block") => {
                    let call = self.call(&tokens, "block clause")?;
                    self.define(&tokens[..2])?;
                    nodes.push(call);
                }
                _ => nodes.push(Node::Action(self.pipeline(&tokens, "command")?)),
            }
        }
        self.at = self.end;
        Ok((nodes, End::Text))
    }

    fn nothing_after(&self, tokens: &[Lexed], word: &str) -> Result<()> {
        if tokens.len() > 1 { Err(self.fault(format!("unexpected words in {word}"))) } else { Ok(()) }
    }

    fn deeper(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.fault("blocks are nested too deeply")) } else { Ok(()) }
    }

    fn block(&mut self, keyword: &str, tokens: &[Lexed]) -> Result<Node> {
        self.deeper()?;
        let outer = self.variables.len();
        let head = self.pipeline(tokens, keyword)?;
        if head.variables.len() > 1 && keyword != "range" {
            return Err(self.fault(format!("too many declarations in {keyword}")));
        }
        self.loops += usize::from(keyword == "range");
        let inner = self.variables.len();
        let (then, end) = self.nodes()?;
        self.variables.truncate(inner);
        self.loops -= usize::from(keyword == "range");
        let otherwise = match end {
            End::Text => return Err(self.fault("unexpected EOF")),
            End::Closed => Vec::new(),
            End::Else(tokens) if tokens.is_empty() => self.last_branch()?,
            End::Else(tokens) => match self::keyword(&tokens) {
                // `else if` is an `if` of its own that shares our `end`.
                Some(word @ ("if" | "with")) if word == keyword => vec![self.block(keyword, &tokens[1..])?],
                _ => return Err(self.fault("unexpected words in else")),
            },
        };
        self.variables.truncate(outer);
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
            (_, End::Else(_)) => Err(self.fault("unexpected {{else}}")),
            (_, End::Text) => Err(self.fault("unexpected EOF")),
        }
    }

    /// `{{define "name"}}...{{end}}`: has no view of the variables around it.
    fn define(&mut self, tokens: &[Lexed]) -> Result<()> {
        let [_, Lexed { token: Token::Text(name), .. }] = tokens else {
            return Err(self.fault("unexpected words in define clause"));
        };
        self.deeper()?;
        let variables = std::mem::take(&mut self.variables);
        let loops = std::mem::take(&mut self.loops);
        let (nodes, end) = self.nodes()?;
        match end {
            End::Closed => {}
            End::Else(_) => return Err(self.fault("unexpected {{else}} in define clause")),
            End::Text => return Err(self.fault("unexpected EOF")),
        }
        self.variables = variables;
        self.loops = loops;
        self.depth -= 1;
        self.defined.insert(name.clone(), nodes);
        Ok(())
    }

    /// `{{template "name" pipeline}}`
    fn call(&mut self, tokens: &[Lexed], context: &str) -> Result<Node> {
        let [_, Lexed { token: Token::Text(name), start, end }, rest @ ..] = tokens else {
            return Err(self.fault(format!("unexpected words in {context}")));
        };
        let value = if rest.is_empty() { None } else { Some(self.pipeline(rest, context)?) };
        Ok(Node::Template {
            name: name.clone(),
            value,
            place: Place { at: self.at + 2, start: *start, end: *end },
        })
    }

    fn pipeline(&mut self, tokens: &[Lexed], context: &str) -> Result<Pipeline> {
        let (variables, declares, used) = self.declaration(tokens)?;
        let mut reader = Reader {
            tokens: &tokens[used..],
            variables: &self.variables,
            at: tokens.last().map_or(self.at, |token| token.end),
            depth: 0,
        };
        let commands = reader.commands(context)?;
        if let Some(token) = reader.tokens.first() {
            return Err(Fault::parse(token.start, "unexpected right paren"));
        }
        if declares {
            self.variables.extend(variables.iter().cloned());
        }
        Ok(Pipeline { variables, declares, commands })
    }

    /// `$x :=`, `$x =`, `$i, $x :=` at the start; with how many tokens that are.
    fn declaration(&self, tokens: &[Lexed]) -> Result<(Vec<String>, bool, usize)> {
        let name = |name: &String, fields: &Vec<String>| {
            if fields.is_empty() && !name.is_empty() {
                Ok(name.clone())
            } else {
                Err(self.fault("only a variable can be assigned to"))
            }
        };
        let kinds: Vec<&Token> = tokens.iter().take(4).map(|lexed| &lexed.token).collect();
        Ok(match kinds.as_slice() {
            [Token::Variable(one, fields), Token::Declare, ..] => (vec![name(one, fields)?], true, 2),
            [Token::Variable(one, fields), Token::Assign, ..] => {
                known(&self.variables, one, tokens[0].start)?;
                (vec![name(one, fields)?], false, 2)
            }
            [Token::Variable(one, a), Token::Comma, Token::Variable(two, b), Token::Declare] => {
                (vec![name(one, a)?, name(two, b)?], true, 4)
            }
            _ => (Vec::new(), false, 0),
        })
    }
}

fn keyword(tokens: &[Lexed]) -> Option<&str> {
    match tokens.first() {
        Some(Lexed { token: Token::Word(word), .. }) => Some(word),
        _ => None,
    }
}

fn known(variables: &[String], name: &str, at: usize) -> Result<()> {
    if name.is_empty() || variables.iter().any(|variable| variable == name) {
        return Ok(());
    }
    Err(Fault::parse(at, format!("undefined variable \"${name}\"")))
}

struct Reader<'a> {
    tokens: &'a [Lexed],
    variables: &'a [String],
    /// Where the action ends.
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    fn position(&self) -> usize {
        self.tokens.first().map_or(self.at, |token| token.start)
    }

    fn fault(&self, message: impl Into<String>) -> Fault {
        Fault::parse(self.position(), message)
    }

    /// Commands with `|` between them, up to the end or a `)`.
    fn commands(&mut self, context: &str) -> Result<Vec<Command>> {
        let mut commands: Vec<Command> = Vec::new();
        loop {
            let operands = self.operands()?;
            let (Some(first), Some(last)) = (operands.first(), operands.last()) else {
                return Err(self.fault(format!("missing value for {context}")));
            };
            let place = Place { at: first.place.start, start: first.place.start, end: last.place.end };
            let callable = matches!(first.what, What::Function(_) | What::Field(_));
            let constant =
                !callable && !matches!(first.what, What::Dot | What::Variable(..) | What::Group(..));
            if constant && !commands.is_empty() {
                return Err(self.fault("non executable command in pipeline stage 2"));
            }
            if !callable && (operands.len() > 1 || !commands.is_empty()) {
                return Err(self.fault("can't give argument to non-function"));
            }
            commands.push(Command { operands, place });
            match self.tokens.first() {
                Some(Lexed { token: Token::Pipe, .. }) => self.tokens = &self.tokens[1..],
                _ => return Ok(commands),
            }
        }
    }

    fn operands(&mut self) -> Result<Vec<Operand>> {
        let mut operands = Vec::new();
        while let Some(lexed) = self.tokens.first() {
            let what = match &lexed.token {
                Token::Pipe | Token::Close => break,
                Token::Dot => What::Dot,
                Token::Field(fields) => What::Field(fields.clone()),
                Token::Variable(name, fields) => {
                    known(self.variables, name, lexed.start)?;
                    What::Variable(name.clone(), fields.clone())
                }
                Token::Text(text) => What::Text(text.clone()),
                Token::Integer(number) => What::Integer(*number),
                Token::Float(number) => What::Float(*number),
                Token::Word(word) => self.word(word)?,
                Token::Open => {
                    operands.push(self.group()?);
                    continue;
                }
                Token::Comma => return Err(self.fault("unexpected \",\" in operand")),
                Token::Declare => return Err(self.fault("unexpected \":=\" in operand")),
                Token::Assign => return Err(self.fault("unexpected \"=\" in operand")),
            };
            operands.push(Operand { place: place(lexed), what });
            self.tokens = &self.tokens[1..];
        }
        Ok(operands)
    }

    fn group(&mut self) -> Result<Operand> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.fault("parentheses are nested too deeply"));
        }
        let start = self.position();
        self.tokens = &self.tokens[1..];
        let commands = self.commands("parenthesized pipeline")?;
        let Some(Lexed { token: Token::Close, end, .. }) = self.tokens.first() else {
            return Err(self.fault("unclosed left paren"));
        };
        let mut place = Place { at: start, start, end: *end };
        self.tokens = &self.tokens[1..];
        self.depth -= 1;
        let fields = match self.tokens.first() {
            Some(Lexed { token: Token::Field(fields), start, end }) if *start == place.end => {
                place = Place { at: *start, start: place.start, end: *end };
                self.tokens = &self.tokens[1..];
                fields.clone()
            }
            _ => Vec::new(),
        };
        let pipeline = Pipeline { variables: Vec::new(), declares: false, commands };
        Ok(Operand { what: What::Group(pipeline, fields), place })
    }

    fn word(&self, word: &str) -> Result<What> {
        match word {
            "true" => Ok(What::Boolean(true)),
            "false" => Ok(What::Boolean(false)),
            "nil" => Ok(What::Nil),
            _ if functions::exists(word) => Ok(What::Function(word.to_owned())),
            _ => Err(self.fault(format!("function {word:?} not defined"))),
        }
    }
}

/// Go names the second field of a chain: `.A` of `.A.B` was there.
fn place(lexed: &Lexed) -> Place {
    let at = match &lexed.token {
        Token::Field(fields) if fields.len() > 1 => lexed.start + 1 + fields[0].len(),
        Token::Variable(name, fields) if !fields.is_empty() => lexed.start + 1 + name.len(),
        _ => lexed.start,
    };
    Place { at, start: lexed.start, end: lexed.end }
}
