//! Suggestions for hints: the nearest known text, or the list of allowed texts.

use crate::limits::{MAX_HINT_CHOICES, MAX_QUOTED_CHARACTERS, MAX_SUGGESTION_EDITS};

/// Returns the candidate nearest to a text; `None` if none is within the edit limit.
pub(crate) fn nearest<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    // A third of the text may differ: one character in `api`, two in `reviews`, at most [`MAX_SUGGESTION_EDITS`].
    let allowed = (lower.chars().count() / 3).clamp(1, MAX_SUGGESTION_EDITS);
    candidates
        .into_iter()
        .filter(|ranked| ranked.len().abs_diff(lower.len()) <= MAX_SUGGESTION_EDITS)
        .map(|ranked| (distance(&lower, &ranked.to_lowercase()), ranked))
        .filter(|(edits, ranked)| *edits <= allowed && *edits < ranked.chars().count())
        .min()
        .map(|(_, ranked)| ranked)
}

/// Returns ``did you mean `x`?`` if a candidate is near, else the list of candidates after `lead`.
pub(crate) fn hint<'a>(text: &str, candidates: impl IntoIterator<Item = &'a str> + Clone, lead: &str) -> String {
    match nearest(text, candidates.clone()) {
        Some(ranked) => format!("did you mean `{ranked}`?"),
        None => format!("{lead}: {}", listing(candidates)),
    }
}

/// Returns ``a, b, c``, cut after [`MAX_HINT_CHOICES`] texts.
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

/// Returns user text for a message: in backticks, cut, and without control characters.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(MAX_QUOTED_CHARACTERS)
        .map(|character| if character.is_control() { '\u{fffd}' } else { character })
        .collect();
    if text.chars().nth(MAX_QUOTED_CHARACTERS).is_some() {
        shown.push('…');
    }
    format!("`{shown}`")
}

/// Returns the edit distance: insertions, deletions, replacements and swaps of neighbors.
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
    fn nearest_returns_candidate_within_limit() {
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
    fn distance_counts_edits() {
        for (left, right, expected) in
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("abc", "abc", 0), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(left, right), expected, "{left} {right}");
        }
    }

    #[test]
    fn quoted_cuts_and_replaces_control_characters() {
        assert_eq!(quoted("a\nb"), "`a\u{fffd}b`");
        assert_eq!(quoted(&"x".repeat(200)).chars().count(), MAX_QUOTED_CHARACTERS + 3);
    }
}
