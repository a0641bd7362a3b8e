//! Proposals for hints: the nearest known text, a list of what is allowed. Called by whoever refuses a misspelt text.

use crate::limits::{MAX_HINT_CHOICES, MAX_QUOTED_CHARACTERS, MAX_SUGGESTION_EDITS};

/// The candidate nearest to a text, when it is near enough to be meant.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    // A third of the text may differ: in `api` one letter, in `reviews` two, never more than the bound.
    let allowed = (lower.chars().count() / 3).clamp(1, MAX_SUGGESTION_EDITS);
    candidates
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(lower.len()) <= MAX_SUGGESTION_EDITS)
        .map(|candidate| (distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(edits, candidate)| *edits <= allowed && *edits < candidate.chars().count())
        .min()
        .map(|(_, candidate)| candidate)
}

/// ``did you mean `x`?`` or, when nothing is near, what there is, after `lead`.
pub(crate) fn hint<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str> + Clone, lead: &str) -> String {
    match nearest(text, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("{lead}: {}", listing(candidates)),
    }
}

/// ``a, b, c``, cut after a few.
pub(crate) fn listing<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut listed = String::new();
    let mut more = 0_usize;
    for (index, text) in texts.into_iter().enumerate() {
        if index >= MAX_HINT_CHOICES {
            more += 1;
            continue;
        }
        if index > 0 {
            listed.push_str(", ");
        }
        listed.push_str(text);
    }
    if more > 0 {
        listed.push_str(&format!(" and {more} more"));
    }
    if listed.is_empty() {
        listed.push_str("none");
    }
    listed
}

/// Somebody's text as it may be repeated in a message: cut, and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String =
        text.chars().take(MAX_QUOTED_CHARACTERS).map(|it| if it.is_control() { '\u{fffd}' } else { it }).collect();
    if text.chars().nth(MAX_QUOTED_CHARACTERS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Insertions, deletions, replacements and swaps of neighbours that make one text of the other.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=right.len()).collect();
    let mut last = '\0';
    for (row, character) in left.chars().enumerate() {
        let mut current = Vec::with_capacity(right.len() + 1);
        current.push(row + 1);
        for (column, other) in right.iter().enumerate() {
            let replaced = previous[column] + usize::from(character != *other);
            let mut best = replaced.min(previous[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && *other == last && right[column - 1] == character {
                best = best.min(before[column - 1] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
        last = character;
    }
    previous[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_text_is_proposed() {
        for (text, candidates, expected) in [
            ("reviewz", &["ratings", "reviews"][..], Some("reviews")),
            ("hostname", &["hostnames", "rules"], Some("hostnames")),
            ("httproute", &["HTTPRoute", "Gateway"], Some("HTTPRoute")),
            ("prot", &["port", "protocol"], Some("port")),
            ("api", &["web"], None),
            ("a", &["b"], None),
            ("", &["name"], None),
            ("x", &[], None),
        ] {
            assert_eq!(nearest(text, candidates.iter().copied()), expected, "{text}");
        }
    }

    #[test]
    fn distances() {
        for (left, right, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn a_quoted_text_is_cut() {
        assert_eq!(quoted("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quoted(&"x".repeat(200)).chars().count(), MAX_QUOTED_CHARACTERS + 3);
    }
}
