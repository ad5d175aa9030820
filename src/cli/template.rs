//! The part of Go's text/template that `--format` uses, over JSON values.
//!
//! Source: the documentation of Go's package text/template, and of docker's
//! "Format command and log output" for the functions that docker adds.
//!
//! JSON does not tell a struct from a map, but docker's documents do it by
//! spelling: fields of structs begin with an upper-case letter, and one that
//! does not exist is an error; other missing keys print `<no value>`.

mod functions;
mod lexer;
mod parser;
mod print;
mod run;

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a template's text.
const MAX_TEMPLATE: usize = 1 << 20;

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parser::Node>,
}

/// What a template can reach beside its data.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scope<'a> {
    /// The headings of a table are made by the template itself: functions that
    /// change a text leave headings alone.
    pub(crate) headings: bool,
    /// What `.Label "key"` looks in.
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
}

impl Template {
    /// # Errors
    /// `Invalid`, with the place in the template, where it is malformed, uses a
    /// function that is not known, or is nested too deeply.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.len() > MAX_TEMPLATE {
            return Err(Error::invalid(format!("the template has more than {MAX_TEMPLATE} bytes")));
        }
        let nodes = parser::parse(lexer::lex(text).map_err(refused)?).map_err(refused)?;
        Ok(Self { nodes })
    }

    /// The text that the template makes of `data`.
    ///
    /// # Errors
    /// `Invalid` where a field does not exist, a function does not fit its
    /// arguments, or the work is without measure.
    pub(crate) fn render(&self, data: &Value, scope: Scope<'_>) -> Result<String> {
        run::render(&self.nodes, data, scope).map_err(refused)
    }
}

fn refused(message: String) -> Error {
    Error::invalid(format!("template: {message}"))
}

/// What `--format` asks for.
#[derive(Debug)]
pub(crate) enum Format {
    /// `json`: one object a line.
    Json,
    /// `table TEMPLATE`: columns under headings.
    Table(Template),
    Template(Template),
}

impl Format {
    /// The value of `--format`; in it `\t` and `\n` stand for what they say, as
    /// shells make it hard to type them.
    ///
    /// # Errors
    /// As [`Template::parse`].
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "json" {
            return Ok(Self::Json);
        }
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        match text.strip_prefix("table") {
            Some(rest) if rest.starts_with(char::is_whitespace) => {
                Template::parse(rest.trim_start()).map(Self::Table)
            }
            _ => Template::parse(&text).map(Self::Template),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rendered(template: &str) -> std::result::Result<String, String> {
        let data = json!({
            "Name": "web", "Pid": 42, "Ok": true, "Off": false, "Nothing": null, "Ratio": 1.5,
            "State": {"Status": "running", "Health": null},
            "Labels": {"b": "2", "a": "1", "x.y": "dotted"},
            "Mounts": [{"Source": "/a", "RW": true}, {"Source": "/b", "RW": false}],
            "Args": ["one", "two", "three"], "Empty": [],
        });
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let scope = Scope { labels: Some(&labels), ..Scope::default() };
        Template::parse(template).and_then(|t| t.render(&data, scope)).map_err(|error| error.to_string())
    }

    #[test]
    fn templates_render_as_go_renders_them() {
        for (template, text) in [
            ("plain", "plain"),
            ("{{.Name}}", "web"),
            ("{{ .State.Status }}", "running"),
            ("{{.Pid}} {{.Ok}} {{.Ratio}} {{.Nothing}}", "42 true 1.5 <nil>"),
            ("{{.Args}} {{.Labels}}", "[one two three] map[a:1 b:2 x.y:dotted]"),
            ("{{json .Args}}", "[\"one\",\"two\",\"three\"]"),
            ("{{json .}}", "{"),
            ("{{.Labels.a}} {{.Labels.nope}}", "1 <no value>"),
            ("{{index .Labels \"x.y\"}} {{index .Args 1}} {{index .Mounts 0 \"Source\"}}", "dotted two /a"),
            ("{{(index .Mounts 1).Source}}", "/b"),
            ("{{.Label \"a\"}}|{{.Label \"b\"}}", "1|"),
            ("{{join .Args \", \"}}", "one, two, three"),
            ("{{.Args | len}} {{len .Name}}", "3 3"),
            ("{{range .Args}}{{.}};{{end}}", "one;two;three;"),
            ("{{range $i, $a := .Args}}{{$i}}={{$a}} {{end}}", "0=one 1=two 2=three "),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}} {{end}}", "a=1 b=2 x.y=dotted "),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{range .Mounts}}{{.Source}}:{{$.Name}} {{end}}", "/a:web /b:web "),
            ("{{range .Args}}{{if eq . \"two\"}}{{continue}}{{end}}{{.}} {{end}}", "one three "),
            ("{{range .Args}}{{if eq . \"two\"}}{{break}}{{end}}{{.}} {{end}}", "one "),
            ("{{if .Ok}}yes{{else}}no{{end}}", "yes"),
            ("{{if .Off}}a{{else if .Nothing}}b{{else}}c{{end}}", "c"),
            ("{{if .State.Health}}x{{end}}", ""),
            ("{{if and .Ok (not .Off) (gt .Pid 40)}}yes{{end}}", "yes"),
            ("{{or .Off .Name}} {{and .Name .Pid}}", "web 42"),
            ("{{with .State}}{{.Status}}{{end}}{{with .Nothing}}x{{else}}y{{end}}", "runningy"),
            ("{{$n := .Name}}{{$n}}{{$n = \"db\"}}{{$n}}", "webdb"),
            ("{{$x := 1}}{{if .Ok}}{{$x = 2}}{{end}}{{$x}}", "2"),
            ("{{upper .Name}} {{lower \"ABC\"}} {{title .Name}}", "WEB abc Web"),
            ("{{split \"a:b\" \":\"}} {{pad .Name 1 2}}| {{truncate .Name 2}}", "[a b]  web  | we"),
            ("{{println .Name .Pid}}{{print \"a\" 1 2 \"b\"}}", "web 42\na1 2b"),
            (
                "{{printf \"%s:%d %-5s|%5.1f %q %v %t %x%%\" .Name .Pid \"a\" .Ratio \"q\" .Args .Ok 255}}",
                "web:42 a    |  1.5 \"q\" [one two three] true ff%",
            ),
            ("{{.Pid | printf \"%05d\"}}", "00042"),
            ("{{slice .Name 1 3}} {{slice .Args 1}}", "eb [two three]"),
            (
                "{{eq .Name \"db\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{le \"a\" \"a\"}} {{ge 1.5 1}}",
                "true true true true true",
            ),
            ("a {{- .Name -}} b", "aweb b".replace(' ', "").as_str()),
            ("a {{- /* a comment */ -}} b", "ab"),
            ("{{/* a comment */}}x", "x"),
            ("{{`raw \\n`}} {{\"tab\\t\"}}|{{'a'}}", "raw \\n tab\t|97"),
            ("{{true}} {{-1}} {{0x10}}", "true -1 16"),
            ("{{.Args | json | printf \"<%s>\"}}", "<[\"one\",\"two\",\"three\"]>"),
            ("{{\"{{\"}} {{html \"<a>\"}} {{urlquery \"a b\"}}", "{{ &lt;a&gt; a+b"),
        ] {
            let result = rendered(template).unwrap_or_else(|error| panic!("{template}: {error}"));
            if template == "{{json .}}" {
                assert!(result.starts_with(text) && result.contains("\"Name\":\"web\""), "{result}");
            } else {
                assert_eq!(result, text, "{template}");
            }
        }
    }

    #[test]
    fn wrong_templates_are_errors() {
        for (template, words) in [
            ("{{.Nope}}", "can't evaluate field Nope"),
            ("{{.Name.Nope}}", "can't evaluate field Nope"),
            ("{{.Nothing.Nope}}", "nil"),
            ("{{", "unclosed action"),
            ("{{.Name", "unclosed action"),
            ("{{/* x }}", "unclosed comment"),
            ("{{if .Ok}}x", "unexpected end"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{else}}", "unexpected {{else}}"),
            ("{{if}}x{{end}}", "missing value"),
            ("{{nope .}}", "function \"nope\" not defined"),
            ("{{$x}}", "undefined variable"),
            ("{{\"x}}", "unterminated"),
            ("{{.Name | 3}}", "not a function"),
            ("{{1 2}}", "not a function"),
            ("{{.Name \"x\"}}", "not a method"),
            ("{{index .Args 9}}", "out of range"),
            ("{{index .Name 1}}", "can't index"),
            ("{{slice .Name 2 1}}", "slice"),
            ("{{lt .Name 1}}", "incompatible"),
            ("{{range .Name}}{{end}}", "can't iterate"),
            ("{{len .Pid}}", "len of"),
            ("{{join .Name \",\"}}", "join"),
            ("{{upper}}", "wrong number of arguments"),
            ("{{template \"x\"}}", "template"),
            ("{{break}}", "outside"),
            ("{{.Name }", "unexpected"),
            ("{{(.Name}}", "parenthesis"),
            ("{{1.2.3}}", "bad number"),
        ] {
            let error = rendered(template).expect_err(template);
            assert!(error.contains(words), "{template}: {error}");
        }
    }

    #[test]
    fn work_and_depth_have_bounds() {
        let deep = format!("{}x{}", "{{if .Ok}}".repeat(500), "{{end}}".repeat(500));
        assert!(rendered(&deep).expect_err("too deep").contains("nested"));
        let parens = format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000));
        assert!(rendered(&parens).expect_err("too deep").contains("nested"));
        let loops = format!("{}x{}", "{{range $.Args}}".repeat(30), "{{end}}".repeat(30));
        assert!(rendered(&loops).expect_err("too long").contains("steps"));
        assert!(rendered("{{printf \"%999999999d\" 1}}").is_err());
        assert!(rendered("{{pad .Name 999999999 1}}").is_err());
    }

    #[test]
    fn formats_are_json_tables_or_templates() {
        assert!(matches!(Format::parse("json"), Ok(Format::Json)));
        assert!(matches!(Format::parse("table {{.ID}}\\t{{.Name}}"), Ok(Format::Table(_))));
        assert!(matches!(Format::parse("tables"), Ok(Format::Template(_))));
        assert!(Format::parse("{{").is_err());
    }
}
