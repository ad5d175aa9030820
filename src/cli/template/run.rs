//! Runs a template's tree over its data.

use super::parser::{Command, Node, Operand, Pipeline, Place, Tree, What};
use super::{Fault, Scope, functions, print, shape};
use serde_json::Value;
use std::borrow::Cow;

/// Nodes and commands of one run: nested loops multiply.
const MAX_STEPS: u32 = 1_000_000;

/// Bytes of what one run makes.
const MAX_OUTPUT: usize = 64 << 20;

/// `{{template}}`s within each other.
const MAX_CALLS: u32 = 100;

type Result<T> = std::result::Result<T, Fault>;

pub(super) fn render(tree: &Tree, data: &Value, scope: Scope<'_>) -> Result<String> {
    let root = Some(Cow::Borrowed(data));
    let mut run = Run { tree, scope, root, variables: Vec::new(), output: String::new(), steps: 0, calls: 0 };
    run.nodes(&tree.nodes, Some(data))?;
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
    tree: &'a Tree,
    scope: Scope<'a>,
    /// `$`
    root: Datum<'a>,
    /// The innermost last.
    variables: Vec<(String, Datum<'a>)>,
    output: String,
    steps: u32,
    calls: u32,
}

impl<'a> Run<'a> {
    fn step(&mut self) -> Result<()> {
        self.steps += 1;
        if self.steps > MAX_STEPS || self.output.len() > MAX_OUTPUT {
            return Err(Fault::run(
                Place::default(),
                format!("more than {MAX_STEPS} steps or {MAX_OUTPUT} bytes"),
            ));
        }
        Ok(())
    }

    fn nodes(&mut self, nodes: &'a [Node], dot: Option<&Value>) -> Result<Flow> {
        let outer = self.variables.len();
        for node in nodes {
            self.step()?;
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                self.variables.truncate(outer);
                return Ok(flow);
            }
        }
        self.variables.truncate(outer);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &'a Node, dot: Option<&Value>) -> Result<Flow> {
        match node {
            Node::Text(text) => self.output.push_str(text),
            Node::Action(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    let text = print::shown(name_of(pipeline), value.as_deref());
                    self.output.push_str(&text);
                } else {
                    self.assign(pipeline, value);
                }
            }
            Node::If { condition, then, otherwise } => {
                let value = self.head(condition, dot)?;
                let chosen = if print::truth(value.as_deref()) { then } else { otherwise };
                return self.branch(chosen, dot, condition);
            }
            Node::With { value: head, then, otherwise } => {
                let value = self.head(head, dot)?;
                return match value.filter(|value| print::truth(Some(value))) {
                    Some(value) => self.branch(then, Some(&value), head),
                    None => self.branch(otherwise, dot, head),
                };
            }
            Node::Range { over, body, otherwise } => return self.range(over, body, otherwise, dot),
            Node::Template { name, value, place } => self.template(name, value.as_ref(), *place, dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// The value of an `if` or `with`, whose variable lives until its `end`.
    fn head(&mut self, pipeline: &'a Pipeline, dot: Option<&Value>) -> Result<Datum<'a>> {
        let value = self.pipeline(pipeline, dot)?;
        if !pipeline.variables.is_empty() {
            self.assign(pipeline, value.clone());
        }
        Ok(value)
    }

    fn branch(&mut self, nodes: &'a [Node], dot: Option<&Value>, head: &Pipeline) -> Result<Flow> {
        let flow = self.nodes(nodes, dot)?;
        let declared = if head.declares { head.variables.len() } else { 0 };
        self.variables.truncate(self.variables.len() - declared);
        Ok(flow)
    }

    /// The parser has seen to it that a variable which is changed is there.
    fn assign(&mut self, pipeline: &Pipeline, value: Datum<'a>) {
        let Some(name) = pipeline.variables.first() else { return };
        if pipeline.declares {
            self.variables.push((name.clone(), value));
        } else if let Some(variable) = self.variables.iter_mut().rev().find(|(other, _)| other == name) {
            variable.1 = value;
        }
    }

    /// Another template: it sees its argument and none of our variables.
    fn template(
        &mut self,
        name: &str,
        value: Option<&'a Pipeline>,
        place: Place,
        dot: Option<&Value>,
    ) -> Result<()> {
        let tree = self.tree;
        let missing = || Fault::run(place, format!("template {name:?} not defined"));
        let nodes = tree.defined.get(name).ok_or_else(missing)?;
        let argument = match value {
            Some(pipeline) => self.pipeline(pipeline, dot)?,
            None => None,
        };
        self.calls += 1;
        if self.calls > MAX_CALLS {
            return Err(Fault::run(place, "templates are nested too deeply"));
        }
        let variables = std::mem::take(&mut self.variables);
        let root = std::mem::replace(&mut self.root, argument.clone());
        self.nodes(nodes, argument.as_deref())?;
        self.variables = variables;
        self.root = root;
        self.calls -= 1;
        Ok(())
    }

    fn range(
        &mut self,
        over: &'a Pipeline,
        body: &'a [Node],
        otherwise: &'a [Node],
        dot: Option<&Value>,
    ) -> Result<Flow> {
        let value = self.pipeline(over, dot)?;
        let items = items(value.as_deref()).map_err(|message| Fault::run(over.commands[0].place, message))?;
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
                    self.assign(over, Some(Cow::Owned(value)));
                }
            }
            let flow = self.nodes(body, Some(&item))?;
            self.variables.truncate(outer);
            if flow == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn pipeline(&mut self, pipeline: &'a Pipeline, dot: Option<&Value>) -> Result<Datum<'a>> {
        let mut piped: Option<Datum<'a>> = None;
        for command in &pipeline.commands {
            self.step()?;
            piped = Some(self.command(command, dot, piped)?);
        }
        Ok(piped.flatten())
    }

    /// One command; what was piped into it is its last argument.
    fn command(
        &mut self,
        command: &'a Command,
        dot: Option<&Value>,
        piped: Option<Datum<'a>>,
    ) -> Result<Datum<'a>> {
        let Some((first, rest)) = command.operands.split_first() else { return Ok(None) };
        let arguments = rest.len() + usize::from(piped.is_some());
        match &first.what {
            What::Function(name) if name == "and" || name == "or" => {
                let value = self.and_or(name == "and", rest, dot, piped)?;
                value.ok_or_else(|| wrong_number(name, 0, command.place))
            }
            What::Function(name) => {
                let mut arguments = self.arguments(rest, dot, piped)?;
                if functions::makes_text(name) {
                    rest.iter().zip(&mut arguments).for_each(|(operand, value)| fill(operand, value));
                }
                self.call(name, &arguments, command.place)
            }
            What::Field(fields) if arguments > 0 => {
                let arguments = self.arguments(rest, dot, piped)?;
                self.method(fields, &arguments, first.place)
            }
            What::Nil => Err(Fault::run(first.place, "nil is not a command")),
            _ => self.operand(first, dot),
        }
    }

    fn call(&self, name: &str, arguments: &[Datum<'a>], place: Place) -> Result<Datum<'a>> {
        let value = functions::call(name, arguments, self.scope.headings);
        value.map(|value| Some(Cow::Owned(value))).map_err(|message| Fault::run(place, message))
    }

    fn arguments(
        &mut self,
        operands: &'a [Operand],
        dot: Option<&Value>,
        piped: Option<Datum<'a>>,
    ) -> Result<Vec<Datum<'a>>> {
        let mut values = Vec::with_capacity(operands.len() + 1);
        for operand in operands {
            values.push(self.operand(operand, dot)?);
        }
        values.extend(piped);
        Ok(values)
    }

    /// The first argument that decides; those after it are not looked at.
    /// `None` where there is none at all.
    fn and_or(
        &mut self,
        and: bool,
        operands: &'a [Operand],
        dot: Option<&Value>,
        piped: Option<Datum<'a>>,
    ) -> Result<Option<Datum<'a>>> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if print::truth(value.as_deref()) != and {
                return Ok(Some(value));
            }
            last = Some(value);
        }
        Ok(piped.or(last))
    }

    /// `.Label "key"` is the one method of docker's documents.
    fn method(&self, fields: &[String], arguments: &[Datum<'a>], place: Place) -> Result<Datum<'a>> {
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
            _ => {
                let name = fields.last().map_or("", String::as_str);
                Err(Fault::run(place, format!("{name} has arguments but cannot be invoked as function")))
            }
        }
    }

    fn operand(&mut self, operand: &'a Operand, dot: Option<&Value>) -> Result<Datum<'a>> {
        let owned = |value: Value| Ok(Some(Cow::Owned(value)));
        match &operand.what {
            What::Dot => Ok(dot.cloned().map(Cow::Owned)),
            What::Field(fields) => self.fields(dot, fields, operand.place),
            What::Variable(name, fields) if name.is_empty() => {
                self.fields(self.root.as_deref(), fields, operand.place)
            }
            What::Variable(name, fields) => {
                let variable = self.variables.iter().rev().find(|(other, _)| other == name);
                let value = variable.and_then(|(_, value)| value.as_deref());
                self.fields(value, fields, operand.place)
            }
            What::Text(text) => owned(Value::from(text.as_str())),
            What::Integer(number) => owned(Value::from(*number)),
            What::Float(number) => owned(Value::from(*number)),
            What::Boolean(value) => owned(Value::from(*value)),
            What::Nil => owned(Value::Null),
            What::Function(name) => self.call(name, &[], operand.place),
            What::Group(pipeline, fields) => {
                let value = self.pipeline(pipeline, dot)?;
                self.fields(value.as_deref(), fields, operand.place)
            }
        }
    }

    fn fields(&self, value: Option<&Value>, fields: &[String], place: Place) -> Result<Datum<'a>> {
        let mut value = value;
        for (position, field) in fields.iter().enumerate() {
            let path = &fields[..position];
            value = match value {
                Some(Value::Object(map)) => match map
                    .get(field)
                    .or_else(|| spelt_otherwise(map, field))
                    .or_else(|| shape::left_out(path, map, field))
                {
                    None if field.starts_with(char::is_uppercase) && !shape::is_map(path) => {
                        return Err(self.no_field(field, map, place));
                    }
                    found => found,
                },
                None | Some(Value::Null) => {
                    let message = format!("nil pointer evaluating interface {{}}.{field}");
                    return Err(Fault::run(place, message));
                }
                Some(other) => {
                    let message =
                        format!("can't evaluate field {field} in type {}", print::type_name(Some(other)));
                    return Err(Fault::run(place, message));
                }
            };
        }
        Ok(value.cloned().map(Cow::Owned))
    }

    /// Docker speaks of a row of a listing as of a struct, of a document as of a map.
    fn no_field(&self, field: &str, map: &serde_json::Map<String, Value>, place: Place) -> Fault {
        let names: Vec<&str> = map.keys().map(String::as_str).collect();
        let message = if self.scope.labels.is_some() || self.scope.headings {
            format!("can't evaluate field {field} in type row")
        } else {
            format!("map has no entry for key {field:?}")
        };
        Fault::run(place, message).hint(format!("what there is: {}", names.join(", ")))
    }
}

/// The last of the names that lead to a value.
fn name_of(pipeline: &Pipeline) -> &str {
    match pipeline.commands.as_slice() {
        [Command { operands, .. }] => match operands.as_slice() {
            [operand] => operand_name(operand),
            _ => "",
        },
        _ => "",
    }
}

fn operand_name(operand: &Operand) -> &str {
    match &operand.what {
        What::Field(fields) | What::Variable(_, fields) | What::Group(_, fields) => {
            fields.last().map_or("", String::as_str)
        }
        _ => "",
    }
}

/// What is to be printed is no `null` where Go has an empty list or map.
fn fill(operand: &Operand, value: &mut Datum<'_>) {
    if value.as_deref().is_some_and(Value::is_null)
        && let Some(empty) = shape::empty(operand_name(operand))
    {
        *value = Some(Cow::Owned(empty));
    }
}

fn wrong_number(name: &str, count: usize, place: Place) -> Fault {
    Fault::run(place, format!("wrong number of args for {name}: want at least 1 got {count}"))
}

/// What `range` goes through, with keys.
fn items(value: Option<&Value>) -> std::result::Result<Vec<(Value, Value)>, String> {
    Ok(match value {
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
        Some(Value::Number(number))
            if number.as_i64().is_some_and(|number| number <= i64::from(MAX_STEPS)) =>
        {
            (0..number.as_i64().unwrap_or_default()).map(|n| (Value::from(n), Value::from(n))).collect()
        }
        Some(other) => return Err(format!("range can't iterate over {}", print::display(Some(other)))),
    })
}
/// Docker and podman evaluate Go structs, whose fields are not always spelt as
/// in JSON: `.ID` is `Id`, `.HostConfig.DNS` is `Dns`.
fn spelt_otherwise<'a>(map: &'a serde_json::Map<String, Value>, field: &str) -> Option<&'a Value> {
    if !field.starts_with(char::is_uppercase) {
        return None;
    }
    map.iter().find(|(key, _)| key.eq_ignore_ascii_case(field)).map(|(_, value)| value)
}
