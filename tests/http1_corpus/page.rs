//! The section of `docs/http1.md` about the differences between the proxies: one row for each reason. `UPDATE_DOCS=1`
//! writes it.

use std::fs;
use std::path::PathBuf;

use crate::case::{Case, Judgment, without_brackets};
use crate::corpus::Corpus;

const HEADING: &str = "## Differences";
const BEGIN: &str = "<!-- Begin of what `tests/http1_corpus` has generated. -->";
const END: &str = "<!-- End of what `tests/http1_corpus` has generated. -->";

/// The command that writes the section.
const COMMAND: &str = "UPDATE_DOCS=1 cargo test -p weir-tests --features tools --test http1_corpus";

/// Compares the section with the corpus, or writes it. Panics if it is out of date.
pub(crate) fn check(corpora: &[Corpus]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/http1.md");
    let page = fs::read_to_string(&path).expect("a page");
    let expected = with_section(&page, &section(corpora));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("the page can be written");
        return;
    }
    assert!(page == expected, "docs/http1.md is out of date: {COMMAND}");
}

/// Returns a page with the section in place of the one between the markers, or at its end.
fn with_section(page: &str, section: &str) -> String {
    let generated = format!("{BEGIN}\n{section}{END}");
    match page.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1))) {
        Some((before, after)) => format!("{before}{generated}{after}"),
        None => format!("{}\n\n{HEADING}\n\n{generated}\n", page.trim_end()),
    }
}

/// Returns the text and the tables.
fn section(corpora: &[Corpus]) -> String {
    let counts: Vec<String> =
        corpora.iter().map(|corpus| format!("{} {}", corpus.cases.len(), corpus.kind.name())).collect();
    let mut text = format!(
        "\n`tests/http1_corpus` sends {} to Weir, Envoy 1.40 and nginx 1.22,\nand records what each makes of them. \
         Where they differ, one of these reasons applies. The columns of an example are\nthe statuses that its client \
         received. `cut` is a response without its end.\n",
        counts.join(" and ")
    );
    for corpus in corpora {
        text.push_str(&table(corpus));
    }
    text.push('\n');
    text
}

fn table(corpus: &Corpus) -> String {
    let name = corpus.kind.name();
    let mut text =
        format!("\n| {name}: reason | cases | example | Weir | Envoy | nginx |\n|---|--:|---|---|---|---|\n");
    for reason in &corpus.reasons {
        let has_reason = |case: &&Case| case.judgment == Judgment::Why(reason.key.clone());
        let cases: Vec<&Case> = corpus.cases.iter().map(AsRef::as_ref).filter(has_reason).collect();
        let shows_difference = |case: &&&Case| {
            let [weir, envoy, nginx] = statuses(case);
            weir != envoy || weir != nginx
        };
        let Some(example) = cases.iter().find(shows_difference).or(cases.first()) else { continue };
        let statuses = statuses(example).join(" | ");
        text.push_str(&format!("| {} | {} | `{}` | {statuses} |\n", reason.text, cases.len(), example.name));
    }
    text
}

/// Returns the statuses of a case's outcomes.
fn statuses(case: &Case) -> [String; 3] {
    case.outcomes.each_ref().map(|outcome| shorten(&without_brackets(&outcome.text)))
}

/// Returns the statuses of an outcome: `200 5 cut then closed` becomes `200 cut`.
fn shorten(outcome: &str) -> String {
    let is_response = outcome.contains(" then ");
    let responses = outcome.split(" then ").next().unwrap_or_default();
    let responses = responses.split(" | ").next().unwrap_or_default();
    if !is_response {
        // The statuses of requests stand beside each other, before the end of the connection.
        let words = responses.split(' ').filter(|word| !matches!(*word, "open" | "closed"));
        return words.collect::<Vec<_>>().join(" ");
    }
    let short = |response: &str| {
        let words: Vec<&str> = response.split(' ').collect();
        let status = if words[0].ends_with('x') { words[..2].join(" ") } else { words[0].to_owned() };
        if words.last() == Some(&"cut") { format!("{status} cut") } else { status }
    };
    responses.split(", ").map(short).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_shortened_to_its_statuses() {
        let rows = [
            ("400 closed", "400"),
            ("200 400 | GET /a 0 | POST /x cut closed", "200 400"),
            ("- open", "-"),
            ("400(body) closed", "400(body)"),
            ("200 5 then 200 ok reused", "200"),
            ("200 3 cut then closed", "200 cut"),
            ("16x 103, 502 then closed", "16x 103, 502"),
            ("103, 200 5 +1 then 200 ok", "103, 200"),
            ("- then open", "-"),
            ("200 5 reason=a,\\x20b then closed", "200"),
        ];
        for (outcome, expected) in rows {
            assert_eq!(shorten(outcome), expected, "{outcome}");
        }
    }

    #[test]
    fn section_replaces_the_one_between_the_markers() {
        let first = with_section("# Page\n", "one\n");
        assert_eq!(first, format!("# Page\n\n{HEADING}\n\n{BEGIN}\none\n{END}\n"));
        let second = with_section(&format!("{first}\n## More\n"), "two\n");
        assert_eq!(second, format!("# Page\n\n{HEADING}\n\n{BEGIN}\ntwo\n{END}\n\n## More\n"));
    }
}
