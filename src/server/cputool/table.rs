//! Texts that fit a terminal.

/// The narrowest terminal that is believed in.
const NARROWEST: usize = 40;
/// Columns where nobody says.
const USUAL: usize = 80;

/// Columns of the terminal, by the environment's word (`COLUMNS`).
pub(super) fn width() -> usize {
    let told = std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok());
    told.filter(|columns| *columns >= NARROWEST).unwrap_or(USUAL)
}

/// Names after `start`, as many as fit into `width` columns; what is left out is counted.
pub(super) fn some_of(start: &str, names: &[&str], width: usize) -> String {
    let mut text = start.to_owned();
    for (place, name) in names.iter().enumerate() {
        let rest = names.len() - place - 1;
        let more = if rest == 0 {
            String::new()
        } else {
            format!(" (+{rest})")
        };
        if text.len() + 1 + name.len() + more.len() > width && place > 0 {
            return format!("{text} (+{})", rest + 1);
        }
        text = format!("{text} {name}");
    }
    text
}

/// Words in lines of `width` columns, each with `indent` before it.
pub(super) fn wrapped<'n>(words: impl IntoIterator<Item = &'n str>, indent: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}

/// A table with a named row for each thing and a numbered column for each other one, in as many parts as it takes to fit.
pub(super) struct Matrix<'m> {
    /// What the columns stand for.
    pub(super) columns: &'m [String],
    /// The names of the rows, and a cell for each column.
    pub(super) rows: &'m [(String, Vec<String>)],
}

impl Matrix<'_> {
    /// The lines: which number stands for what, then the table.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let legend = self
            .columns
            .iter()
            .zip(1..)
            .map(|(name, number)| format!("{number:>3}  {name}"));
        let mut lines: Vec<String> = legend.collect();
        let name_width = self.rows.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        let cells = self.rows.iter().flat_map(|(_, cells)| cells);
        let cell_width = cells.map(String::len).max().unwrap_or_default().max(3) + 2;
        let per_part = (width.saturating_sub(name_width) / cell_width).max(1);
        for first in (0..self.columns.len()).step_by(per_part) {
            let places = first..self.columns.len().min(first + per_part);
            let head = places.clone().map(|place| format!("{:>cell_width$}", place + 1));
            lines.push(String::new());
            lines.push(format!("{:name_width$}{}", "", head.collect::<String>()));
            for (name, cells) in self.rows {
                let cells = cells[places.clone()].iter().map(|cell| format!("{cell:>cell_width$}"));
                lines.push(format!("{name:name_width$}{}", cells.collect::<String>()));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let names = ["hle", "rtm", "taa-no", "amx-tile"];
        assert_eq!(some_of("4:", &names, 80), "4: hle rtm taa-no amx-tile");
        assert_eq!(some_of("4:", &names, 18), "4: hle rtm (+2)");
        assert_eq!(some_of("4:", &names, 1), "4: hle (+3)");
    }

    #[test]
    fn words_are_wrapped() {
        assert_eq!(wrapped(["one", "two", "three"], "  ", 9), ["  one two", "  three"]);
    }

    #[test]
    fn a_wide_matrix_comes_in_parts() {
        let columns: Vec<String> = (0..12).map(|place| format!("host{place}")).collect();
        let rows = [("EPYC-v1".to_owned(), vec!["yes".to_owned(); 12])];
        let lines = Matrix {
            columns: &columns,
            rows: &rows,
        }
        .lines(40);
        assert!(lines.iter().all(|line| line.len() <= 40), "{lines:?}");
        assert_eq!(lines[11], " 12  host11");
        assert_eq!(lines.iter().filter(|line| line.starts_with("EPYC-v1")).count(), 2);
    }
}
