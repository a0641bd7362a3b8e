//! Faults, and the list of those that are tolerated.

use std::collections::BTreeMap;

/// One place that breaks a rule.
pub(crate) struct Fault {
    pub(crate) path: String,
    pub(crate) line: usize,
    /// The rule and the name at fault, without a line number: a line of the baseline is `<key> <path>`.
    pub(crate) key: String,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(path: &str, line: usize, key: &str, message: String) -> Self {
        Self { path: path.to_owned(), line, key: key.to_owned(), message }
    }

    fn baseline_line(&self) -> String {
        format!("{} {}", self.key, self.path)
    }
}

/// Returns a line for each fault that `baseline` does not list, and for each line of it that names no fault any more.
/// Empty lines and lines that start with `#` are skipped.
pub(crate) fn compare(faults: &[Fault], baseline: &str) -> Vec<String> {
    let mut tolerated: BTreeMap<&str, usize> = BTreeMap::new();
    for line in baseline.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        *tolerated.entry(line).or_default() += 1;
    }
    let mut report = Vec::new();
    for fault in faults {
        match tolerated.get_mut(fault.baseline_line().as_str()) {
            Some(count) if *count > 0 => *count -= 1,
            _ => report.push(format!("{}:{}: {}", fault.path, fault.line, fault.message)),
        }
    }
    let fixed = tolerated.into_iter().filter(|(_, count)| *count > 0);
    report.extend(fixed.map(|(line, _)| format!("tests/tidy/baseline.txt: remove `{line}`: this fault is gone")));
    report
}

#[test]
fn baseline_tolerates_only_what_it_lists() {
    let faults =
        [Fault::new("a.rs", 1, "word told", "x".to_owned()), Fault::new("a.rs", 9, "word told", "y".to_owned())];
    assert_eq!(compare(&faults, "# comment\nword told a.rs\nword told a.rs\n"), [""; 0]);
    assert_eq!(compare(&faults, "word told a.rs\n"), ["a.rs:9: y"]);
    assert_eq!(
        compare(&[], "word told a.rs"),
        ["tests/tidy/baseline.txt: remove `word told a.rs`: this fault is gone"]
    );
}
