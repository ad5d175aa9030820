//! The part of Go's text/template that `--format` uses, over JSON values.
//!
//! Source: the documentation of Go's package text/template, and of docker's
//! "Format command and log output" for the functions that docker adds.
//!
//! JSON does not tell a struct from a map, but docker's documents do it by
//! spelling: fields of structs begin with an upper-case letter, and one that
//! does not exist is an error; other missing keys print `<no value>`. What
//! spelling does not tell is in `shape`.

mod functions;
mod lexer;
mod parser;
mod print;
mod run;
mod shape;

use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of a template's text.
const MAX_TEMPLATE: usize = 1 << 20;

/// Docker's exit codes for a template that is wrong: in `inspect`, `info` and
/// `version`, and everywhere else.
const BAD_DOCUMENT_TEMPLATE: u8 = 64;
const BAD_TEMPLATE: u8 = 1;

/// What is wrong with a template, and where.
#[derive(Debug)]
struct Fault {
    at: usize,
    /// The piece that was being evaluated.
    piece: Option<(usize, usize)>,
    message: String,
    hint: Option<String>,
}

impl Fault {
    fn parse(at: usize, message: impl Into<String>) -> Self {
        Self { at, piece: None, message: message.into(), hint: None }
    }

    fn run(place: parser::Place, message: impl Into<String>) -> Self {
        Self { at: place.at, piece: Some((place.start, place.end)), message: message.into(), hint: None }
    }

    fn hint(mut self, hint: String) -> Self {
        self.hint = Some(hint);
        self
    }

    /// The error in Go's words; `text` is the template.
    fn into_error(self, text: &str) -> Error {
        let before = text.get(..self.at).unwrap_or(text);
        let line = 1 + before.matches('\n').count();
        let message = match self.piece.and_then(|(start, end)| text.get(start..end)) {
            None => format!("template: :{line}: {}", self.message),
            Some(piece) => {
                let column = before.len() - before.rfind('\n').map_or(0, |newline| newline + 1);
                let cut: String = piece.chars().take(20).collect();
                let more = if cut.len() < piece.len() { "..." } else { "" };
                format!("template: :{line}:{column}: executing \"\" at <{cut}{more}>: {}", self.message)
            }
        };
        let error = Error::invalid(format!("template parsing error: {message}")).with_exit_code(BAD_TEMPLATE);
        match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    tree: parser::Tree,
    text: String,
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
        let tree = lexer::lex(text).and_then(|pieces| parser::parse(pieces, text.len()));
        Ok(Self { tree: tree.map_err(|fault| fault.into_error(text))?, text: text.to_owned() })
    }

    /// The text that the template makes of `data`.
    ///
    /// # Errors
    /// `Invalid` where a field does not exist, a function does not fit its
    /// arguments, or the work is without measure.
    pub(crate) fn render(&self, data: &Value, scope: Scope<'_>) -> Result<String> {
        run::render(&self.tree, data, scope).map_err(|fault| fault.into_error(&self.text))
    }
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
    /// The value of a listing's `--format`; in it `\t` and `\n` stand for what
    /// they say, as shells make it hard to type them.
    ///
    /// # Errors
    /// As [`Template::parse`]; exit code 1, as docker's.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text == "json" {
            return Ok(Self::Json);
        }
        match text.strip_prefix("table") {
            Some(rest) if rest.starts_with(char::is_whitespace) || rest.starts_with("\\t") => {
                Template::parse(&unescaped(rest.trim_matches(' '))).map(Self::Table)
            }
            _ => Template::parse(&unescaped(text)).map(Self::Template),
        }
    }

    /// The value of a listing's flag, which may be missing; an empty one and
    /// `table` alone ask for the table that is shown without.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub(crate) fn of_list(value: Option<&str>) -> Result<Option<Self>> {
        value.filter(|text| !matches!(*text, "" | "table")).map(Self::parse).transpose()
    }

    /// The value of the flag of a command that shows documents (`inspect`,
    /// `info`, `version`): backslashes are left alone, and there are no tables.
    ///
    /// # Errors
    /// As [`Template::parse`]; exit code 64, as docker's.
    pub(crate) fn of_document(value: Option<&str>) -> Result<Option<Self>> {
        match value {
            None | Some("") => Ok(None),
            Some("json") => Ok(Some(Self::Json)),
            Some(text) => Template::parse(text)
                .map(|template| Some(Self::Template(template)))
                .map_err(|error| error.with_exit_code(BAD_DOCUMENT_TEMPLATE)),
        }
    }
}

/// `\t` and `\n` outside of actions, which know escapes of their own.
fn unescaped(text: &str) -> String {
    let plain = |text: &str| text.replace("\\t", "\t").replace("\\n", "\n");
    let mut result = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let length = rest[start..].find("}}").map_or(rest.len() - start, |end| end + 2);
        result.push_str(&plain(&rest[..start]));
        result.push_str(&rest[start..start + length]);
        rest = &rest[start + length..];
    }
    result + &plain(rest)
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
            ("{{printf \"%[2]s %[1]s\" \"a\" \"b\"}} {{printf \"%[3]d\" 1}}", "b a %!d(BADINDEX)"),
            ("{{printf \"%#x %#o %U %x\" 255 8 65 -1}}", "0xff 010 U+0041 -1"),
            ("{{printf \"%e %.1e\" 1234.5 0.00012}}", "1.234500e+03 1.2e-04"),
            ("{{printf \"%*d|%-*d|%.*f\" 4 7 3 7 1 1.25}}", "   7|7  |1.2"),
            ("{{index \"abc\" 1}}", "98"),
            ("{{slice .Name 1 3}} {{slice .Args 1}}", "eb [two three]"),
            (
                "{{eq .Name \"db\" \"web\"}} {{ne 1 2}} {{lt 1 2}} {{le \"a\" \"a\"}} {{ge 1.5 1.0}}",
                "true true true true true",
            ),
            ("a {{- .Name -}} b", "aweb b".replace(' ', "").as_str()),
            ("a {{- /* a comment */ -}} b", "ab"),
            ("{{/* a comment */}}x", "x"),
            ("{{`raw \\n`}} {{\"tab\\t\"}}|{{'a'}}", "raw \\n tab\t|97"),
            ("{{true}} {{-1}} {{0x10}}", "true -1 16"),
            ("{{.Args | json | printf \"<%s>\"}}", "<[\"one\",\"two\",\"three\"]>"),
            ("{{range $i := 3}}{{$i}}{{end}}", "012"),
            ("{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Name}}{{template \"x\"}}", "<web><<no value>>"),
            ("{{block \"x\" .State}}{{.Status}}{{end}} {{template \"x\" .State}}", "running running"),
            ("{{range $x := .Args}}{{with $y := $x}}{{$y}}{{end}}{{end}}", "onetwothree"),
            (
                "{{.Labels.Upper}} {{printf \"%d\" .Name}} {{printf \"%s\" .Pid}}",
                "<no value> %!d(string=web) %!s(int=42)",
            ),
            (
                "{{printf \"%d\"}} {{printf \"a\" 1}} {{printf \"%T %c %x\" .Name 65 .Name}}",
                "%!d(MISSING) a%!(EXTRA int=1) string A 776562",
            ),
            (
                "{{1.0}} {{1e30}} {{0.00001}} {{js \"it's\"}} {{split \"abc\" \"\"}}",
                "1 1e+30 1e-05 it\\'s [a b c]",
            ),
            ("{{json .Labels}} {{json \"<a&b>\"}}", r#"{"b":"2","a":"1","x.y":"dotted"} "<a&b>""#),
            ("{{join .Labels \"+\"}} {{.Label \"a\" | upper}}", "1+2+dotted 1"),
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
    fn documents_print_as_docker_s_types_do() {
        let data = json!({
            "State": {"Status": "running"},
            "Config": {"Entrypoint": null, "Volumes": null, "ExposedPorts": {"80/tcp": {}}, "Labels": {"A": "1"}},
            "HostConfig": {
                "LogConfig": {"Type": "json-file", "Config": {}},
                "RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3},
                "Binds": null, "PidsLimit": null,
            },
            "Mounts": [{"Type": "bind", "RW": true}],
            "NetworkSettings": {
                "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "443/tcp": null},
            },
        });
        let rendered = |text: &str| Template::parse(text).and_then(|t| t.render(&data, Scope::default()));
        for (template, text) in [
            ("{{.Config.Entrypoint}} {{.HostConfig.Binds}} {{.Config.Volumes}}", "[] [] map[]"),
            ("{{json .Config.Entrypoint}} {{printf \"%s\" .Config.Entrypoint}}", "null []"),
            ("{{.HostConfig.RestartPolicy}} {{.Config.Labels}}", "{on-failure 3} map[A:1]"),
            ("{{.NetworkSettings.Ports}}", "map[443/tcp:[] 80/tcp:[{0.0.0.0 8080}]]"),
            ("{{.Mounts}} {{.Config.ExposedPorts}}", "[{bind true}] map[80/tcp:{}]"),
            ("{{.HostConfig.LogConfig}} {{.HostConfig.PidsLimit}}", "{json-file map[]} <nil>"),
            (
                "{{.State.Health}}{{if .State.Health}}x{{end}}{{with .State}}{{if .Health}}x{{end}}{{end}}",
                "<nil>",
            ),
            ("{{.Config.Healthcheck}} {{.Config.StopTimeout}} {{.Config.Cmd}}", "<nil> <nil> []"),
            ("{{.HostConfig.LogConfig.Config.Nope}} {{.Config.Labels.Nope}}", "<no value> <no value>"),
        ] {
            let result = rendered(template).unwrap_or_else(|error| panic!("{template}: {error}"));
            assert_eq!(result, text, "{template}");
        }
        for template in ["{{.Config.Nope}}", "{{.HostConfig.Nope}}", "{{.Cmd}}"] {
            assert!(rendered(template).is_err(), "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_errors() {
        for (template, words) in [
            (
                "{{.Nope}}",
                "template parsing error: template: :1:2: executing \"\" at <.Nope>: can't evaluate field Nope in type row",
            ),
            (
                "a\n {{.State.Nope}}",
                "template: :2:9: executing \"\" at <.State.Nope>: can't evaluate field Nope",
            ),
            ("{{.Name.Nope}}", "can't evaluate field Nope in type string"),
            ("{{.Nothing.Nope}}", "nil"),
            ("{{", "template parsing error: template: :1: unclosed action"),
            ("{{.Name", "unclosed action"),
            ("{{/* x }}", "unclosed comment"),
            ("\n{{if .Ok}}x", "template: :2: unexpected EOF"),
            ("{{end}}", "unexpected {{end}}"),
            ("{{else}}", "unexpected {{else}}"),
            ("{{if}}x{{end}}", "missing value for if"),
            ("{{nope .}}", "function \"nope\" not defined"),
            ("{{$x}}", "undefined variable \"$x\""),
            ("{{if .Ok}}{{$x := 1}}{{end}}{{$x}}", "undefined variable"),
            ("{{\"x}}", "unterminated"),
            ("{{.Name | 3}}", "non executable command in pipeline stage 2"),
            ("{{1 2}}", "can't give argument to non-function"),
            ("{{.Name \"x\"}}", "Name has arguments but cannot be invoked as function"),
            (
                "{{index .Args 9}}",
                "at <index .Args 9>: error calling index: reflect: slice index out of range",
            ),
            ("{{index .Pid 1}}", "can't index"),
            ("{{index .Name 9}}", "index out of range"),
            ("{{eq 1 1.0}}", "incompatible"),
            ("{{slice .Name 2 1}}", "error calling slice: invalid slice index: 2 > 1"),
            ("{{lt .Name 1}}", "incompatible"),
            ("{{range .Name}}{{end}}", "can't iterate"),
            ("{{len .Pid}}", "len of"),
            ("{{join .Name \",\"}}", "error calling join: expected slice, got string"),
            ("{{upper}}", "wrong number of args for upper: want 1 got 0"),
            ("{{upper .Pid}}", "expected string; got int"),
            ("{{template \"x\"}}", "template \"x\" not defined"),
            ("{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}", "nested too deeply"),
            ("{{define \"x\"}}", "unexpected EOF"),
            ("{{define x}}{{end}}", "define clause"),
            ("{{nil}}", "nil is not a command"),
            ("{{break}}", "outside"),
            ("{{.Name }", "unexpected \"}\" in operand"),
            ("{{(.Name}}", "unclosed left paren"),
            ("{{.Name)}}", "unexpected right paren"),
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
        assert!(matches!(Format::parse("table\\t{{.ID}}"), Ok(Format::Table(_))));
        assert!(matches!(Format::parse("tables"), Ok(Format::Template(_))));
        for none in [None, Some(""), Some("table")] {
            assert!(matches!(Format::of_list(none), Ok(None)), "{none:?}");
        }
        assert_eq!(Format::parse("{{").expect_err("bad").exit_code(), Some(1));
        assert_eq!(Format::of_document(Some("{{")).expect_err("bad").exit_code(), Some(64));
        assert!(matches!(Format::of_document(Some("json")), Ok(Some(Format::Json))));
    }

    #[test]
    fn backslashes_are_blanks_in_listings_and_themselves_in_documents() {
        let text = |format: Option<Format>| match format {
            Some(Format::Template(template)) => template.render(&json!({"A": "a"}), Scope::default()),
            other => panic!("{other:?}"),
        };
        let written = "x\\t{{.A}}\\n{{\"\\t\"}}";
        assert_eq!(text(Format::of_list(Some(written)).expect("valid")).expect("text"), "x\ta\n\t");
        assert_eq!(text(Format::of_document(Some(written)).expect("valid")).expect("text"), "x\\ta\\n\t");
    }

    #[test]
    fn what_a_document_lacks_is_named_as_docker_names_it() {
        let error = Template::parse("{{.Foo}}").and_then(|t| t.render(&json!({"Id": "x"}), Scope::default()));
        let error = error.expect_err("no such field");
        let expected = "template parsing error: template: :1:2: executing \"\" at <.Foo>: map has no entry for key \"Foo\"";
        assert_eq!(error.to_string(), expected);
        assert_eq!((error.exit_code(), error.hints()), (Some(1), &["what there is: Id".to_owned()][..]));
    }
}
