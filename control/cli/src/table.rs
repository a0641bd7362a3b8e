//! Text tables: each column is as wide as its widest cell, with two spaces between columns.

use weir_model::printable;

/// Returns a table of a head and rows. A cell has no line breaks and no control characters.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell).into_owned()).collect()).collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(&rows) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = vec![vec!["ServiceEntry".to_owned(), "a".to_owned()], vec!["HTTPRoute".to_owned(), "bc".to_owned()]];
        let forged = vec![vec!["a\nb  FAKE".to_owned(), "\u{1b}[2J".to_owned()]];
        assert_eq!(table(&["A", "B"], &forged), "A           B\na\\nb  FAKE  \\u{1b}[2J\n");
        assert_eq!(table(&["KIND", "NAME"], &rows), "KIND          NAME\nServiceEntry  a\nHTTPRoute     bc\n");
    }
}
