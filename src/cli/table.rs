//! Columns under headings.

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
}
