//! Runs a template's tree over its data.

use super::parser::{Node, Operand, Pipeline};
use super::{Scope, functions, print};
use serde_json::Value;
use std::borrow::Cow;

/// Nodes and commands of one run: nested loops multiply.
const MAX_STEPS: u32 = 1_000_000;

/// Bytes of what one run makes.
const MAX_OUTPUT: usize = 64 << 20;

type Result<T> = std::result::Result<T, String>;

pub(super) fn render(nodes: &[Node], data: &Value, scope: Scope<'_>) -> Result<String> {
    let mut run = Run { scope, root: data, variables: Vec::new(), output: String::new(), steps: 0 };
    run.nodes(nodes, data)?;
    Ok(run.output)
}

/// How a list of nodes ended.
#[derive(Clone, Copy, PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

/// A value, or the lack of one that a map gives for a key it does not have.
pub(super) type Datum<'a> = Option<Cow<'a, Value>>;

struct Run<'a> {
    scope: Scope<'a>,
    root: &'a Value,
    /// The innermost last.
    variables: Vec<(String, Datum<'a>)>,
    output: String,
    steps: u32,
}

impl<'a> Run<'a> {
    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.output.len() > MAX_OUTPUT {
            return Err(format!("more than {MAX_STEPS} steps or {MAX_OUTPUT} bytes"));
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow> {
        let outer = self.variables.len();
        for node in nodes {
            self.step()?;
            let flow = match node {
                Node::Text(text) => {
                    self.output.push_str(text);
                    Flow::On
                }
                Node::Action(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if pipeline.variables.is_empty() {
                        let text = print::display(value.as_deref());
                        self.output.push_str(&text);
                    } else {
                        self.assign(pipeline, value)?;
                    }
                    Flow::On
                }
                Node::If { condition, then, otherwise } => {
                    let value = self.head(condition, dot)?;
                    self.branch(
                        if print::truth(value.as_deref()) { then } else { otherwise },
                        dot,
                        condition,
                    )?
                }
                Node::With { value: head, then, otherwise } => {
                    let value = self.head(head, dot)?;
                    match value.filter(|value| print::truth(Some(value))) {
                        Some(value) => self.branch(then, &value, head)?,
                        None => self.branch(otherwise, dot, head)?,
                    }
                }
                Node::Range { over, body, otherwise } => self.range(over, body, otherwise, dot)?,
                Node::Break => Flow::Break,
                Node::Continue => Flow::Continue,
            };
            if flow != Flow::On {
                self.variables.truncate(outer);
                return Ok(flow);
            }
        }
        self.variables.truncate(outer);
        Ok(Flow::On)
    }

    /// The value of an `if` or `with`, whose variable lives until its `end`.
    fn head(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Datum<'a>> {
        let value = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            self.assign(pipeline, value.clone())?;
        }
        Ok(value)
    }

    fn branch(&mut self, nodes: &[Node], dot: &Value, head: &Pipeline) -> Result<Flow> {
        let flow = self.nodes(nodes, dot)?;
        let declared = if head.declares { head.variables.len() } else { 0 };
        self.variables.truncate(self.variables.len() - declared);
        Ok(flow)
    }

    fn assign(&mut self, pipeline: &Pipeline, value: Datum<'a>) -> Result<()> {
        let Some(name) = pipeline.variables.first() else { return Ok(()) };
        if pipeline.declares {
            self.variables.push((name.clone(), value));
            return Ok(());
        }
        let variable = self.variables.iter_mut().rev().find(|(other, _)| other == name);
        variable.ok_or_else(|| format!("undefined variable ${name}"))?.1 = value;
        Ok(())
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow> {
        let value = self.pipeline(over, dot)?;
        let items: Vec<(Value, Value)> = match value.as_deref() {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(items)) => {
                items.iter().enumerate().map(|(index, item)| (Value::from(index), item.clone())).collect()
            }
            Some(Value::Object(map)) => {
                let mut items: Vec<_> =
                    map.iter().map(|(key, item)| (Value::from(key.as_str()), item.clone())).collect();
                // Go goes through maps in the order of their keys.
                items.sort_by(|one, two| one.0.as_str().cmp(&two.0.as_str()));
                items
            }
            Some(other) => return Err(format!("range can't iterate over {}", print::display(Some(other)))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let outer = self.variables.len();
        for (key, item) in items {
            self.step()?;
            let values = match over.variables.len() {
                2 => vec![key, item.clone()],
                1 => vec![item.clone()],
                _ => Vec::new(),
            };
            for (name, value) in over.variables.iter().zip(values) {
                if over.declares {
                    self.variables.push((name.clone(), Some(Cow::Owned(value))));
                } else {
                    self.assign(over, Some(Cow::Owned(value)))?;
                }
            }
            let flow = self.nodes(body, &item)?;
            self.variables.truncate(outer);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Datum<'a>> {
        let mut piped: Option<Datum<'a>> = None;
        for command in &pipeline.commands {
            self.step()?;
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.flatten())
    }

    /// One command; what was piped into it is its last argument.
    fn command(&mut self, operands: &[Operand], dot: &Value, piped: Option<Datum<'a>>) -> Result<Datum<'a>> {
        let (first, rest) = operands.split_first().ok_or("missing value for command")?;
        let arguments = rest.len() + usize::from(piped.is_some());
        match first {
            Operand::Function(name) if name == "and" || name == "or" => {
                self.and_or(name == "and", rest, dot, piped)
            }
            Operand::Function(name) => {
                let arguments = self.arguments(rest, dot, piped)?;
                functions::call(name, &arguments, self.scope.headings).map(|value| Some(Cow::Owned(value)))
            }
            Operand::Field(fields) if arguments > 0 => {
                let arguments = self.arguments(rest, dot, piped)?;
                self.method(fields, &arguments)
            }
            operand => self.operand(operand, dot),
        }
    }

    fn arguments(
        &mut self,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>> {
        let mut values = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            let value = match operand {
                Operand::Function(name) => Some(Cow::Owned(functions::call(name, &[], self.scope.headings)?)),
                operand => self.operand(operand, dot)?,
            };
            values.push(value);
        }
        values.extend(piped);
        Ok(values)
    }

    /// The first argument that decides; those after it are not looked at.
    fn and_or(
        &mut self,
        and: bool,
        operands: &[Operand],
        dot: &Value,
        piped: Option<Datum<'a>>,
    ) -> Result<Datum<'a>> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if print::truth(value.as_deref()) != and {
                return Ok(value);
            }
            last = Some(value);
        }
        piped.or(last).ok_or_else(|| "wrong number of arguments for and/or".into())
    }

    /// `.Label "key"` is the one method of docker's documents.
    fn method(&self, fields: &[String], arguments: &[Datum<'a>]) -> Result<Datum<'a>> {
        match (fields, self.scope.labels, arguments) {
            ([name], Some(labels), [Some(key)]) if name == "Label" => {
                let key = key.as_str().unwrap_or_default();
                let text = if self.scope.headings {
                    key.to_owned()
                } else {
                    labels.get(key).cloned().unwrap_or_default()
                };
                Ok(Some(Cow::Owned(Value::String(text))))
            }
            _ => Err(format!("{} has arguments but is not a method", fields.join("."))),
        }
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Datum<'a>> {
        let owned = |value: Value| Ok(Some(Cow::Owned(value)));
        match operand {
            Operand::Dot => owned(dot.clone()),
            Operand::Field(fields) => Self::fields(Some(dot), fields),
            Operand::Variable(name, fields) if name.is_empty() => Self::fields(Some(self.root), fields),
            Operand::Variable(name, fields) => {
                let variable = self.variables.iter().rev().find(|(other, _)| other == name);
                let value = variable.ok_or_else(|| format!("undefined variable ${name}"))?.1.clone();
                Self::fields(value.as_deref(), fields)
            }
            Operand::Text(text) => owned(Value::from(text.as_str())),
            Operand::Integer(number) => owned(Value::from(*number)),
            Operand::Float(number) => owned(Value::from(*number)),
            Operand::Boolean(value) => owned(Value::from(*value)),
            Operand::Nil => owned(Value::Null),
            Operand::Function(name) => owned(functions::call(name, &[], self.scope.headings)?),
            Operand::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                Self::fields(value.as_deref(), fields)
            }
        }
    }

    fn fields(value: Option<&Value>, fields: &[String]) -> Result<Datum<'a>> {
        let mut value = value;
        for field in fields {
            value = match value {
                Some(Value::Object(map)) => match map.get(field) {
                    None if field.starts_with(char::is_uppercase) => {
                        return Err(format!("can't evaluate field {field}"));
                    }
                    found => found,
                },
                None | Some(Value::Null) => return Err(format!("nil value evaluating field {field}")),
                Some(_) => return Err(format!("can't evaluate field {field}")),
            };
        }
        Ok(value.cloned().map(Cow::Owned))
    }
}
