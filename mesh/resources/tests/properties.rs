//! Property tests: no input panics, and every diagnostic has a position.

use std::path::PathBuf;

use proptest::prelude::*;
use weir_resources::{Compiler, SourceFile};

const GOOD: &str = include_str!("good.yaml");

fn compile(text: &str) {
    let file = SourceFile { path: PathBuf::from("x.yaml"), text: text.into() };
    if let Err(diagnostics) = Compiler::new().compile(&[file]) {
        assert!(!diagnostics.is_empty());
        for pair in diagnostics.windows(2) {
            assert!((pair[0].line, pair[0].column) <= (pair[1].line, pair[1].column), "{} then {}", pair[0], pair[1]);
        }
        for diagnostic in diagnostics {
            let lines = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
            assert!(
                diagnostic.line >= 1 && diagnostic.line <= lines.saturating_add(1),
                "{diagnostic} of {lines} lines"
            );
            assert!(
                diagnostic.column >= 1 && !diagnostic.reason.is_empty() && !diagnostic.hint.is_empty(),
                "{diagnostic}"
            );
        }
    }
}

/// Returns the text with changes: position (in thousandths), kind of change, and inserted piece.
fn mutate(text: &str, changes: &[(usize, u8, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (position, kind, piece) in changes {
        let at = (characters.len() * position / 1_000).min(characters.len());
        let end = (at + piece.chars().count() + 1).min(characters.len());
        match kind % 3 {
            0 => drop(characters.splice(at..at, piece.chars())),
            1 => drop(characters.splice(at..end, std::iter::empty())),
            _ => drop(characters.splice(at..end, piece.chars())),
        }
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn random_text_does_not_panic(text in "\\PC*") {
        compile(&text);
    }

    #[test]
    fn random_punctuation_does_not_panic(text in "[-a: \n\t\\[\\]{},\"'|>&*!%#?\\\\0-9.]{0,200}") {
        compile(&text);
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        compile(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn mutated_file_does_not_panic(
        changes in prop::collection::vec((0..1_000_usize, any::<u8>(), "[-a-z:\\[\\]{},\"' \n0-9*&]{0,6}"), 1..6)
    ) {
        compile(&mutate(GOOD, &changes));
    }
}
