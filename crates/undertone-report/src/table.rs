//! Tables that people read and publish: the same cells as GitHub Markdown and as terminal text.
//!
//! The cells of a [`Table`] are finished text.

use comfy_table::presets::UTF8_BORDERS_ONLY;
use comfy_table::{Cell, CellAlignment, ContentArrangement};

/// A title, a header, rows of cells and notes below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What the table shows, and in which unit.
    pub title: String,
    /// The columns.
    pub header: Vec<Column>,
    /// The cells, each row as long as the header.
    pub rows: Vec<Vec<String>>,
    /// What a reader must know, one paragraph each.
    pub notes: Vec<String>,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// The text of its header.
    pub name: String,
    /// Whether it holds numbers, which are aligned on the right.
    pub numeric: bool,
}

/// Columns of words, then columns of numbers.
pub fn columns(words: &[&str], numbers: &[&str]) -> Vec<Column> {
    let column = |name: &&str, numeric| Column { name: (*name).to_owned(), numeric };
    let words = words.iter().map(|name| column(name, false));
    words.chain(numbers.iter().map(|name| column(name, true))).collect()
}

impl Table {
    /// The table in GitHub's Markdown, its columns padded so that the source is readable too.
    pub fn markdown(&self) -> String {
        let cell = |text: &str| one_line(text).replace('|', "\\|");
        let header: Vec<String> = self.header.iter().map(|c| cell(&c.name)).collect();
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].chars().count(), 3]).max()
        };
        let widths: Vec<usize> = (0..header.len()).filter_map(width).collect();
        let line = |cells: &[String]| {
            let mut line = String::from("|");
            for ((text, column), &width) in cells.iter().zip(&self.header).zip(&widths) {
                line += &match column.numeric {
                    true => format!(" {text:>width$} |"),
                    false => format!(" {text:<width$} |"),
                };
            }
            line + "\n"
        };
        let rule = |(column, &width): (&Column, &usize)| match column.numeric {
            true => "-".repeat(width - 1) + ":",
            false => ":".to_owned() + &"-".repeat(width - 1),
        };
        let rule: Vec<String> = self.header.iter().zip(&widths).map(rule).collect();

        let mut text = format!("### {}\n\n", one_line(&self.title));
        text += &line(&header);
        text += &line(&rule);
        for row in &rows {
            text += &line(row);
        }
        for note in &self.notes {
            text += &format!("\n{}\n", one_line(note));
        }
        text
    }

    /// The table for a terminal, as wide as it needs to be, without colours.
    pub fn terminal(&self) -> String {
        let cell = |(text, column): (&String, &Column)| {
            Cell::new(one_line(text)).set_alignment(match column.numeric {
                true => CellAlignment::Right,
                false => CellAlignment::Left,
            })
        };
        let mut table = comfy_table::Table::new();
        table
            .load_style(UTF8_BORDERS_ONLY)
            .set_content_arrangement(ContentArrangement::Disabled)
            .set_header(self.header.iter().map(|column| cell((&column.name, column))));
        for row in &self.rows {
            table.add_row(row.iter().zip(&self.header).map(cell));
        }
        let mut text = format!("{}\n{}\n", one_line(&self.title), table);
        for note in &self.notes {
            text += &format!("  {}\n", one_line(note));
        }
        text
    }
}

/// Replaces line breaks and other control characters by spaces; names from outside may contain them.
pub fn one_line(text: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(visible).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markdown_and_terminal_show_the_same_cells() {
        let table = Table {
            title: "Loss".into(),
            header: columns(&["arm"], &["nats/token"]),
            rows: vec![vec!["past".into(), "2.312".into()], vec!["a|b\n\u{1b}[31m".into(), "−0.012".into()]],
            notes: vec!["A note.".into()],
        };
        assert_eq!(
            table.markdown(),
            "### Loss\n\n\
             | arm        | nats/token |\n\
             | :--------- | ---------: |\n\
             | past       |      2.312 |\n\
             | a\\|b  [31m |     −0.012 |\n\
             \nA note.\n"
        );
        assert_eq!(
            table.terminal(),
            "Loss\n\
             ┌────────────────────────┐\n\
             │ arm         nats/token │\n\
             ╞════════════════════════╡\n\
             │ past             2.312 │\n\
             │ a|b  [31m       −0.012 │\n\
             └────────────────────────┘\n  A note.\n"
        );
    }
}
