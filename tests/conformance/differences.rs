//! Comparison with `docs/envoy-differences.md`, which lists each difference between Envoy and Weir with its reason.
//! Every difference must be in one of its tables, and every row must match a difference.
//!
//! A row is `| cases | Envoy | Weir | why |`. In cases whose name matches, the lines of the second cell are of Envoy
//! only and the lines of the third of Weir only. `*` matches any text, `<br>` separates lines, `—` is an empty list. If
//! Envoy's cell is `undefined`, the case does not run in Envoy: it crashes there, or its result varies.

use std::path::Path;

use crate::case_result::{CaseResult, is_callout_response};

/// Rows of the page, and the differences that no row lists.
pub(crate) struct DocumentedDifferences {
    rows: Vec<Row>,
    unlisted: Vec<String>,
}

struct Row {
    cases: Vec<String>,
    envoy: Vec<String>,
    weir: Vec<String>,
    used: bool,
}

impl Row {
    fn covers(&self, case: &str) -> bool {
        self.cases.iter().any(|pattern| pattern_matches(pattern, case))
    }
}

impl DocumentedDifferences {
    /// Reads the page.
    pub(crate) fn read() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/envoy-differences.md");
        let page = std::fs::read_to_string(&page).unwrap_or_default();
        Self { rows: page.lines().filter_map(parse_row).collect(), unlisted: Vec::new() }
    }

    /// Returns true if the page lists Envoy's behavior in a case as undefined.
    pub(crate) fn is_undefined(&self, case: &str) -> bool {
        self.rows.iter().any(|row| row.envoy == ["undefined"] && row.covers(case))
    }

    /// Compares the results of one case. If `envoy` is `None`, Weir's result must be the one on the page.
    pub(crate) fn compare(&mut self, case: &str, envoy: Option<&CaseResult>, weir: &CaseResult) {
        let Some(envoy) = envoy else { return self.compare_weir(case, weir) };
        let (mut envoy_only, mut weir_only) = (lines_only_in(envoy, weir), lines_only_in(weir, envoy));
        if envoy_only.is_empty() && weir_only.is_empty() {
            // Responses to callouts arrive at any time.
            let in_order = |result: &CaseResult| -> Vec<String> {
                result.iter().filter(|line| !is_callout_response(line)).cloned().collect()
            };
            if in_order(envoy) != in_order(weir) {
                self.unlisted
                    .push(format!("{case}: the same lines in another order\n  Envoy {envoy:#?}\n  Weir {weir:#?}"));
            }
            return;
        }
        for row in self.rows.iter_mut().filter(|row| row.covers(case)) {
            let is_listed = |list: &[String], line: &String| list.iter().any(|pattern| pattern_matches(pattern, line));
            let before = envoy_only.len() + weir_only.len();
            envoy_only.retain(|line| !is_listed(&row.envoy, line));
            weir_only.retain(|line| !is_listed(&row.weir, line));
            row.used |= envoy_only.len() + weir_only.len() < before;
        }
        if !envoy_only.is_empty() || !weir_only.is_empty() {
            self.unlisted.push(format!("{case}\n  Envoy {envoy_only:?}\n  Weir  {weir_only:?}"));
        }
    }

    fn compare_weir(&mut self, case: &str, weir: &CaseResult) {
        for row in self.rows.iter_mut().filter(|row| row.envoy == ["undefined"] && row.covers(case)) {
            row.used = true;
            let missing: Vec<_> =
                row.weir.iter().filter(|pattern| !weir.iter().any(|line| pattern_matches(pattern, line))).collect();
            if !missing.is_empty() {
                self.unlisted.push(format!("{case}: the page lists for Weir {missing:?}\n  Weir {weir:#?}"));
            }
        }
    }

    /// Panics if a difference is not listed, or if a row matched no difference.
    pub(crate) fn report(self) {
        let unused: Vec<_> = self.rows.iter().filter(|row| !row.used).map(|row| &row.cases).collect();
        assert!(
            self.unlisted.is_empty(),
            "{} cases differ from Envoy, and docs/envoy-differences.md does not list it:\n{}",
            self.unlisted.len(),
            self.unlisted.join("\n")
        );
        assert!(unused.is_empty(), "docs/envoy-differences.md lists cases that do not differ: {unused:?}");
    }
}

fn parse_row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [cases, envoy, weir, _] = cells[..] else { return None };
    if cases == "cases" || cases.starts_with('-') {
        return None;
    }
    let plain = |text: &str| text.trim().trim_matches('`').replace("¦", "|");
    let lines = |cell: &str| -> Vec<String> { cell.split("<br>").map(plain).filter(|line| line != "—").collect() };
    Some(Row { cases: lines(cases), envoy: lines(envoy), weir: lines(weir), used: false })
}

/// Returns the lines of `result` that `other` does not have as often.
fn lines_only_in(result: &CaseResult, other: &CaseResult) -> Vec<String> {
    let mut others = other.clone();
    result
        .iter()
        .filter(|line| match others.iter().position(|other| other == *line) {
            Some(at) => {
                others.remove(at);
                false
            }
            None => true,
        })
        .cloned()
        .collect()
}

/// Returns true if a pattern with `*` matches a text.
fn pattern_matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
