//! Text tables: each column is as wide as its widest cell, with two spaces between columns.

/// Returns a table of a head and rows.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let head: Vec<String> = head.iter().map(|cell| (*cell).to_owned()).collect();
    let mut text = String::new();
    for row in std::iter::once(&head).chain(rows) {
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
        assert_eq!(table(&["KIND", "NAME"], &rows), "KIND          NAME\nServiceEntry  a\nHTTPRoute     bc\n");
    }
}
