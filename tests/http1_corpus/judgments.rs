//! Rules for the judgments of a file: each difference has a defined reason or finding, and each definition is used.

use std::collections::BTreeSet;

use crate::case::{Definition, Judgment};
use crate::corpus::Corpus;

/// Returns the violations of the rules, as readable lines.
pub(crate) fn violations(corpus: &Corpus) -> Vec<String> {
    let mut found = Vec::new();
    let (mut reasons, mut findings) = (BTreeSet::new(), BTreeSet::new());
    for case in &corpus.cases {
        let name = format!("{}.corpus: {}:", corpus.kind.name(), case.name);
        match (&case.judgment, case.differs()) {
            (Judgment::Agree, true) => found.push(format!("{name} the outcomes differ without `why` or `todo`")),
            (Judgment::Why(_), false) => found.push(format!("{name} `why`, and the outcomes agree")),
            (Judgment::Agree | Judgment::Why(_) | Judgment::Finding(_), _) => {}
        }
        let (key, definitions, used) = match &case.judgment {
            Judgment::Agree => continue,
            Judgment::Why(key) => (key, &corpus.reasons, &mut reasons),
            Judgment::Finding(key) => (key, &corpus.findings, &mut findings),
        };
        if !definitions.iter().any(|definition| definition.key == *key) {
            found.push(format!("{name} {key} is not defined"));
        }
        used.insert(key.as_str());
    }
    let mut check_used = |definitions: &[Definition], used: &BTreeSet<&str>| {
        let unused = definitions.iter().filter(|definition| !used.contains(definition.key.as_str()));
        found.extend(unused.map(|definition| format!("{}.corpus: no case has {}", corpus.kind.name(), definition.key)));
    };
    check_used(&corpus.reasons, &reasons);
    check_used(&corpus.findings, &findings);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::Kind;

    #[test]
    fn each_rule_reports_its_violation() {
        let case = |name: &str, weir: &str, judgment: &str| {
            format!(
                "case {name}\nref r\nsend x\nweir {weir} [a] closed\nenvoy 400 closed\nnginx 400 closed\n{judgment}\n\n"
            )
        };
        let definitions = "reason used A.\nreason unused B.\nfinding open C.\nfinding gone D.\n\n";
        let cases = [
            case("agrees", "400", ""),
            case("differs", "200", "why used"),
            case("is-wrong", "400", "todo open"),
            case("no-reason", "200", ""),
            case("needless", "400", "why used"),
            case("undefined", "200", "why absent"),
        ];
        let corpus = Corpus::parse(Kind::Requests, &format!("{definitions}{}", cases.concat())).unwrap();
        let expected = [
            "requests.corpus: no-reason: the outcomes differ without `why` or `todo`",
            "requests.corpus: needless: `why`, and the outcomes agree",
            "requests.corpus: undefined: absent is not defined",
            "requests.corpus: no case has unused",
            "requests.corpus: no case has gone",
        ];
        assert_eq!(violations(&corpus), expected);
    }
}
