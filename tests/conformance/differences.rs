//! `docs/envoy-differences.md`: where Weir answers otherwise than Envoy, case by case, and why. The page is read here:
//! what differs must be in one of its tables, and what is in them must differ.
//!
//! A row `| cases | Envoy | Weir | why |` says that in cases of these names (`*` stands for anything) these lines are
//! Envoy's alone and those are Weir's alone; `<br>` separates lines, `—` is none. Where Envoy's cell says `undefined`, it
//! is not asked: it crashes, or does something else each time.

use std::path::Path;

use crate::outcome::{Outcome, is_answer};

/// What the page lists, and what was found.
pub(crate) struct Differences {
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
        self.cases.iter().any(|pattern| matches(pattern, case))
    }
}

impl Differences {
    /// Reads the page.
    pub(crate) fn read() -> Self {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/envoy-differences.md");
        let page = std::fs::read_to_string(&page).unwrap_or_default();
        Self { rows: page.lines().filter_map(row).collect(), unlisted: Vec::new() }
    }

    /// Whether nobody can say what Envoy does in a case.
    pub(crate) fn is_undefined(&self, case: &str) -> bool {
        self.rows.iter().any(|row| row.envoy == ["undefined"] && row.covers(case))
    }

    /// Compares one case; where Envoy's outcome is undefined, ours must be as the page says.
    pub(crate) fn compare(&mut self, case: &str, envoy: Option<&Outcome>, weir: &Outcome) {
        let Some(envoy) = envoy else { return self.check_alone(case, weir) };
        let (mut theirs, mut ours) = (only(envoy, weir), only(weir, envoy));
        if theirs.is_empty() && ours.is_empty() {
            let in_order =
                |outcome: &Outcome| outcome.iter().filter(|line| !is_answer(line)).cloned().collect::<Vec<_>>();
            if in_order(envoy) != in_order(weir) {
                self.unlisted
                    .push(format!("{case}: the same lines in another order\n  Envoy {envoy:#?}\n  Weir {weir:#?}"));
            }
            return;
        }
        for row in self.rows.iter_mut().filter(|row| row.covers(case)) {
            let known = |list: &[String], line: &String| list.iter().any(|pattern| matches(pattern, line));
            let before = theirs.len() + ours.len();
            theirs.retain(|line| !known(&row.envoy, line));
            ours.retain(|line| !known(&row.weir, line));
            row.used |= theirs.len() + ours.len() < before;
        }
        if !theirs.is_empty() || !ours.is_empty() {
            self.unlisted.push(format!("{case}\n  Envoy {theirs:?}\n  Weir  {ours:?}"));
        }
    }

    fn check_alone(&mut self, case: &str, weir: &Outcome) {
        for row in self.rows.iter_mut().filter(|row| row.envoy == ["undefined"] && row.covers(case)) {
            row.used = true;
            let missing: Vec<_> =
                row.weir.iter().filter(|pattern| !weir.iter().any(|line| matches(pattern, line))).collect();
            if !missing.is_empty() {
                self.unlisted.push(format!("{case}: the page says of Weir {missing:?}\n  Weir {weir:#?}"));
            }
        }
    }

    /// Fails when something differs that is not listed, or is listed and does not differ.
    pub(crate) fn report(self) {
        let unused: Vec<_> = self.rows.iter().filter(|row| !row.used).map(|row| &row.cases).collect();
        assert!(
            self.unlisted.is_empty(),
            "{} cases differ from Envoy, and docs/envoy-differences.md does not say so:\n{}",
            self.unlisted.len(),
            self.unlisted.join("\n")
        );
        assert!(unused.is_empty(), "docs/envoy-differences.md lists what does not differ any more: {unused:?}");
    }
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim).collect();
    let [cases, envoy, weir, _] = cells[..] else { return None };
    if cases == "cases" || cases.starts_with('-') {
        return None;
    }
    let plain = |text: &str| text.trim().trim_matches('`').replace("¦", "|");
    let lines = |cell: &str| -> Vec<String> { cell.split("<br>").map(plain).filter(|line| line != "—").collect() };
    Some(Row { cases: lines(cases), envoy: lines(envoy), weir: lines(weir), used: false })
}

/// The lines that another outcome does not have as often.
fn only(of: &Outcome, not: &Outcome) -> Vec<String> {
    let mut others = not.clone();
    of.iter()
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

/// Whether a pattern with `*` matches a text.
fn matches(pattern: &str, text: &str) -> bool {
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
