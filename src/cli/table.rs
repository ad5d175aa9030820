//! Columns under headings.

use super::template::{Format, Scope, Template};
use crate::error::Result;
use serde_json::Value;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Blanks between columns, and the width of a column at least: docker's.
const GAP: usize = 3;
const MIN_WIDTH: usize = 10;

/// Aligns lines whose cells are separated by tabs. The last cell of a line is
/// not padded.
pub(crate) fn align(lines: &[String]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .flat_map(|line| line.lines())
        .map(|line| line.split('\t').map(printable).collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate().take(row.len() - 1) {
            let width = cell.chars().count() + GAP;
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width.max(MIN_WIDTH)),
            }
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if column + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', widths[column].saturating_sub(cell.chars().count())));
            }
        }
        text.push('\n');
    }
    text
}

/// The line above a table.
pub(crate) struct Headings<'a> {
    /// What it has for each field.
    pub(crate) texts: &'a Value,
    pub(crate) left_out: bool,
}

impl<'a> Headings<'a> {
    pub(crate) fn of(texts: &'a Value) -> Self {
        Self { texts, left_out: false }
    }
}

/// Rows, each with its labels, as JSON lines, through a template, or as a table
/// of `columns`.
///
/// # Errors
/// `Invalid` for a template that does not fit them.
pub(crate) fn render<L: Borrow<BTreeMap<String, String>>>(
    rows: &[(Value, L)],
    format: Option<&Format>,
    columns: &str,
    headings: &Headings<'_>,
) -> Result<String> {
    let lines = |template: &Template| -> Result<Vec<String>> {
        let scope = |labels| Scope { labels: Some(labels), headings: false };
        rows.iter().map(|(row, labels)| template.render(row, scope(labels.borrow()))).collect()
    };
    let as_table = |template: &Template| -> Result<String> {
        let none = BTreeMap::new();
        let mut all = vec![template.render(headings.texts, Scope { labels: Some(&none), headings: true })?];
        all.extend(lines(template)?);
        Ok(body(&align(&all), headings.left_out).to_owned())
    };
    match format {
        Some(Format::Json) => Ok(rows.iter().map(|(row, _)| format!("{row}\n")).collect()),
        Some(Format::Template(template)) => {
            Ok(lines(template)?.iter().map(|line| format!("{line}\n")).collect())
        }
        Some(Format::Table(template)) => as_table(template),
        None => as_table(&Template::parse(columns)?),
    }
}

/// A table, or what is below its line of headings.
pub(crate) fn body(table: &str, without_headings: bool) -> &str {
    if without_headings { table.split_once('\n').map_or("", |(_, body)| body) } else { table }
}

/// Texts of images and containers may hold escape sequences for terminals.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let lines = ["ID\tNAMES\tEND", "0123456789ab\té\tx"].map(String::from);
        assert_eq!(align(&lines), "ID             NAMES     END\n0123456789ab   é         x\n");
    }

    #[test]
    fn lines_need_not_have_as_many_cells() {
        assert_eq!(align(&["a".into(), "b\tc".into(), String::new()]), "a\nb         c\n");
        assert_eq!(align(&["\x1b[31mred".into()]), "\u{fffd}[31mred\n");
    }

    #[test]
    fn only_a_table_has_headings_to_leave_out() {
        let rows = [(json!({"Name": "a"}), BTreeMap::from([("k".to_owned(), "v".to_owned())]))];
        let texts = json!({"Name": "NAME"});
        let shown = |format: Option<&str>, left_out| {
            let format = format.map(|text| Format::parse(text).expect("a format"));
            render(&rows, format.as_ref(), "{{.Name}}", &Headings { texts: &texts, left_out })
                .expect("rendered")
        };
        assert_eq!([shown(None, false), shown(None, true)], ["NAME\na\n", "a\n"]);
        assert_eq!(shown(Some("{{.Name}}"), true), "a\n");
        assert_eq!(shown(Some("json"), true), "{\"Name\":\"a\"}\n");
        assert_eq!(shown(Some("table {{.Label \"k\"}}"), false), "k\nv\n");
    }
}
