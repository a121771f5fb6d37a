//! A table that decides which columns a width has room for.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

/// Spaces between two columns.
const GAP: usize = 2;

/// One column: a title and, for each form from plain to rich, one text a row.
pub(crate) struct Column {
    title: String,
    forms: Vec<Vec<String>>,
    left: bool,
}

impl Column {
    /// A column of numbers, right-aligned.
    pub(crate) fn numbers(title: &str, cells: Vec<String>) -> Self {
        Self { title: title.to_owned(), forms: vec![cells], left: false }
    }

    /// A column of words, left-aligned.
    pub(crate) fn words(title: &str, cells: Vec<String>) -> Self {
        Self { left: true, ..Self::numbers(title, cells) }
    }

    /// Adds a richer form of the same cells.
    pub(crate) fn or_richer(mut self, cells: Vec<String>) -> Self {
        self.forms.push(cells);
        self
    }

    /// Nothing in any row.
    fn is_blank(&self) -> bool {
        self.forms.iter().flatten().all(String::is_empty)
    }

    fn width(&self, form: usize) -> usize {
        self.forms[form].iter().chain([&self.title]).map(|cell| width(cell)).max().unwrap_or(0)
    }
}

/// The columns in their order on the page.
pub(crate) struct Grid {
    columns: Vec<Column>,
}

/// A grid drawn.
pub(crate) struct Drawn {
    /// The lines, each ended.
    pub(crate) text: String,
    /// The titles of the columns there was room for.
    pub(crate) titles: Vec<String>,
}

impl Grid {
    pub(crate) fn new(columns: Vec<Column>) -> Self {
        Self { columns }
    }

    /// With one more column at a place from the left.
    pub(crate) fn with(mut self, place: usize, column: Column) -> Self {
        self.columns.insert(place, column);
        self
    }

    /// Draws what fits in `width`. `wishes` name columns by title, most wanted first, each with the form wanted; the
    /// first wish is granted whatever the width. A wish that does not fit is skipped, and later ones may still fit.
    pub(crate) fn draw(&self, wishes: &[(&str, usize)], width: usize) -> Drawn {
        let mut chosen: Vec<Option<usize>> = vec![None; self.columns.len()];
        for (rank, (title, form)) in wishes.iter().enumerate() {
            let Some(index) = self.columns.iter().position(|column| column.title == *title) else {
                continue;
            };
            let column = &self.columns[index];
            if column.is_blank() && rank > 0 {
                continue;
            }
            let before = chosen[index].replace((*form).min(column.forms.len() - 1));
            if rank > 0 && self.total(&chosen) > width {
                chosen[index] = before;
            }
        }
        self.render(&chosen)
    }

    fn picked<'a>(
        &'a self,
        chosen: &'a [Option<usize>],
    ) -> impl Iterator<Item = (&'a Column, usize)> {
        self.columns.iter().zip(chosen).filter_map(|(column, form)| Some((column, (*form)?)))
    }

    fn total(&self, chosen: &[Option<usize>]) -> usize {
        let widths: Vec<usize> =
            self.picked(chosen).map(|(column, form)| column.width(form)).collect();
        widths.iter().sum::<usize>() + GAP * widths.len().saturating_sub(1)
    }

    fn render(&self, chosen: &[Option<usize>]) -> Drawn {
        let picked: Vec<(&Column, usize)> = self.picked(chosen).collect();
        let mut table = Table::new();
        table.load_style(TableStyle::new().header_separator(LineStyle::none().fill('─')));
        table.set_content_arrangement(ContentArrangement::Disabled);
        let titles: Vec<String> = picked.iter().map(|(column, _)| column.title.clone()).collect();
        table.set_header(titles.clone());
        let rows = picked.first().map_or(0, |(column, form)| column.forms[*form].len());
        for row in 0..rows {
            table.add_row(picked.iter().map(|(column, form)| column.forms[*form][row].clone()));
        }
        let last = picked.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            let left = picked[index].0.left;
            let alignment = if left { CellAlignment::Left } else { CellAlignment::Right };
            column.set_cell_alignment(alignment);
            column.set_padding((0, if index == last { 0 } else { GAP as u16 }));
        }
        let text = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        Drawn { text, titles }
    }
}

/// The columns a text takes. Names and figures here are narrow characters.
pub(crate) fn width(text: &str) -> usize {
    text.chars().count()
}

/// The text with its middle left out, so that both ends (vendor and variant) stay readable.
pub(crate) fn elide(text: &str, most: usize) -> String {
    let letters: Vec<char> = text.chars().collect();
    if letters.len() <= most || most < 3 {
        return text.to_owned();
    }
    let tail = (most - 1) / 2;
    let head = most - 1 - tail;
    let mut out: String = letters[..head].iter().collect();
    out.push('…');
    out.extend(&letters[letters.len() - tail..]);
    out
}

/// Breaks a text into lines of at most `width`, at spaces; the first starts with `lead`, the others with as many spaces.
pub(crate) fn wrap(lead: &str, text: &str, width_limit: usize) -> String {
    let indent = " ".repeat(width(lead));
    let mut out = String::new();
    let mut line = lead.to_owned();
    let mut empty = true;
    for word in text.split_whitespace() {
        if !empty && width(&line) + 1 + width(word) > width_limit {
            out.push_str(line.trim_end());
            out.push('\n');
            line.clone_from(&indent);
            empty = true;
        }
        if !empty {
            line.push(' ');
        }
        line.push_str(word);
        empty = false;
    }
    out.push_str(line.trim_end());
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn wishes_are_granted_in_order_while_they_fit() {
        let grid = Grid::new(vec![
            Column::words("name", cells(&["alpha", "b"])),
            Column::numbers("time", cells(&["1 s", "2 s"])).or_richer(cells(&["1 [0–2] s", "2 s"])),
            Column::numbers("none", cells(&["", ""])),
            Column::numbers("x", cells(&["9", "8"])),
        ]);
        let wishes = [("name", 0), ("time", 0), ("time", 1), ("none", 0), ("x", 0)];
        let at = |width| grid.draw(&wishes, width).titles.join(" ");
        assert_eq!(at(1), "name", "the first wish is granted whatever the width");
        assert_eq!(at(11), "name time");
        assert_eq!(at(14), "name time x", "a richer form that does not fit makes room for others");
        assert_eq!(grid.draw(&wishes, 40).text.lines().nth(2), Some("alpha  1 [0–2] s  9"));
        assert!(!at(80).contains("none"), "a column with nothing in it is not shown");
        for width in 5..40 {
            for line in grid.draw(&wishes, width).text.lines() {
                assert!(super::width(line) <= width, "{line:?} at {width}");
            }
        }
    }

    #[test]
    fn long_texts_keep_both_ends_or_wrap() {
        assert_eq!(elide("nvidia-a100-sxm4-80gb", 11), "nvidi…-80gb");
        assert_eq!(elide("short", 11), "short");
        assert_eq!(wrap("- ", "one two three", 9), "- one two\n  three\n");
        assert_eq!(wrap("", "unbreakable", 4), "unbreakable\n");
    }
}
