//! Tables for the terminal and for Markdown.

use std::fmt::{Display, Write};

/// A table whose first column is aligned left and whose other columns are aligned right.
#[derive(Debug, Clone, Default)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table with these column titles.
    pub fn new<T: Display>(header: impl IntoIterator<Item = T>) -> Self {
        Self { header: cells(header), rows: Vec::new() }
    }

    /// Adds a row. Missing cells are empty, extra cells are left out.
    pub fn row<T: Display>(&mut self, row: impl IntoIterator<Item = T>) -> &mut Self {
        let mut row = cells(row);
        row.resize(self.header.len(), String::new());
        self.rows.push(row);
        self
    }

    /// The table as plain text: aligned columns, a rule below the header, a line break after every line.
    pub fn text(&self) -> String {
        let widths = self.widths(&self.header, &self.rows);
        let rule: Vec<String> = widths.iter().map(|&width| "-".repeat(width)).collect();
        let mut text = String::new();
        for row in [&self.header, &rule].into_iter().chain(&self.rows) {
            text.push_str(aligned(row, &widths).join("  ").trim_end());
            text.push('\n');
        }
        text
    }

    /// The table as Markdown, with aligned source text.
    pub fn markdown(&self) -> String {
        let escape = |row: &Vec<String>| row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let header: Vec<String> = escape(&self.header);
        let rows: Vec<Vec<String>> = self.rows.iter().map(escape).collect();
        let widths: Vec<usize> = self.widths(&header, &rows).into_iter().map(|width| width.max(3)).collect();
        let rule = widths.iter().enumerate().map(|(i, &width)| {
            let dashes = "-".repeat(width - 1);
            if i == 0 { format!(":{dashes}") } else { format!("{dashes}:") }
        });
        let mut text = String::new();
        for row in [header, rule.collect()].iter().chain(&rows) {
            let _ = writeln!(text, "| {} |", aligned(row, &widths).join(" | ")); // writing to a string cannot fail
        }
        text
    }

    fn widths(&self, header: &[String], rows: &[Vec<String>]) -> Vec<usize> {
        let widest = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
        header.iter().enumerate().map(|(i, title)| title.chars().count().max(widest(i))).collect()
    }
}

/// Texts without control characters: some are of an artifact that a stranger wrote, and a terminal obeys them.
fn cells<T: Display>(row: impl IntoIterator<Item = T>) -> Vec<String> {
    row.into_iter().map(|cell| cell.to_string().replace(char::is_control, " ")).collect()
}

fn aligned(row: &[String], widths: &[usize]) -> Vec<String> {
    let pad = |(i, (cell, &width))| if i == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") };
    row.iter().zip(widths).enumerate().map(pad).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["map", "AD(50)", "IC"]);
        table.row(["T-TAME", "7.25", "41.0"]).row(["a|b", "100.00"]);
        table
    }

    #[test]
    fn a_terminal_is_not_given_orders() {
        let mut table = Table::new(["class"]);
        table.row(["\u{1b}[2Jcat\n"]);
        assert_eq!(table.text(), "class\n--------\n [2Jcat\n");
    }

    #[test]
    fn text_aligns_names_left_and_figures_right() {
        let expected = "\
map     AD(50)    IC
------  ------  ----
T-TAME    7.25  41.0
a|b     100.00
";
        assert_eq!(sample().text(), expected);
    }

    #[test]
    fn markdown_escapes_bars_and_states_the_alignment() {
        let expected = "\
| map    | AD(50) |   IC |
| :----- | -----: | ---: |
| T-TAME |   7.25 | 41.0 |
| a\\|b   | 100.00 |      |
";
        assert_eq!(sample().markdown(), expected);
    }

    #[test]
    fn width_counts_characters_not_bytes() {
        let mut table = Table::new(["é", "µ"]);
        table.row(["a", "b"]);
        assert_eq!(table.text(), "é  µ\n-  -\na  b\n");
    }
}
