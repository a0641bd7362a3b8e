//! Messages for errors of the YAML parser. They omit the content of the file.

use serde_saphyr::granit_parser::{ErrorKind, ScanError};

use crate::limits::MAX_DEPTH;
use crate::yaml::errors::FieldError;
use crate::yaml::node::Position;
use crate::yaml::path::FieldPath;

const USE_SPACES: &str = "use spaces";

/// Returns an error for the first control character of a text.
pub(crate) fn control_character(text: &str) -> Option<FieldError> {
    let is_forbidden = |byte: u8| (byte < 0x20 && !matches!(byte, b'\t' | b'\n' | b'\r')) || byte == 0x7f;
    let offset = text.bytes().position(is_forbidden)?;
    let before = &text[..offset];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    let byte = text.as_bytes()[offset];
    Some(FieldError {
        path: FieldPath::default(),
        position: Some(Position {
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }),
        reason: format!("the file holds the control character U+{byte:04X}"),
        hint: "write it as text in UTF-8; inside double quotes `\\x00` stands for such a character".to_owned(),
    })
}

/// Converts an error of the parser.
pub(crate) fn from_scan_error(error: &ScanError, text: &str) -> FieldError {
    let marker = error.marker();
    let (reason, hint) = explain(error.kind());
    // The parser stops behind a tab; the message should point to the tab.
    let column = match hint {
        USE_SPACES => first_tab(text, marker.line()).unwrap_or(marker.col() + 1),
        _ => marker.col() + 1,
    };
    FieldError {
        path: FieldPath::default(),
        position: Some(Position {
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }),
        reason,
        hint: hint.to_owned(),
    }
}

/// Returns the column of the first tab of a line, both from 1.
fn first_tab(text: &str, line: usize) -> Option<usize> {
    text.lines().nth(line.checked_sub(1)?)?.chars().position(|character| character == '\t').map(|index| index + 1)
}

fn explain(kind: &ErrorKind) -> (String, &'static str) {
    let (reason, hint) = match kind {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabAtBlockScalarStart
        | ErrorKind::TabInPlainScalar => ("a tab is used for indentation", USE_SPACES),
        ErrorKind::UnclosedQuotedScalar => ("a quoted text is not closed", "add the missing quote"),
        ErrorKind::UnclosedFlowCollection { .. }
        | ErrorKind::UnexpectedEofFlowSequence
        | ErrorKind::UnexpectedEofFlowMapping
        | ErrorKind::UnexpectedEofImplicitFlowMapping => ("a bracket is not closed", "add the missing `]` or `}`"),
        ErrorKind::MisplacedFlowCollectionEnd | ErrorKind::MismatchedFlowCollectionEnd { .. } => {
            ("a bracket is closed that is not open here", "make the brackets match")
        }
        ErrorKind::ExpectedFlowSequenceSeparator | ErrorKind::ExpectedFlowMappingSeparator => {
            ("something is missing between brackets", "put a `,` between entries, and close the bracket")
        }
        ErrorKind::MappingValueNotAllowed | ErrorKind::InvalidMappingValueWhitespace => (
            "a `: ` where no field can begin",
            "quote a text that holds `: `, and give the fields of one map the same indentation",
        ),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => {
            ("a field without `:`", "write `name: value`, with a space after the colon")
        }
        ErrorKind::InvalidIndentation
        | ErrorKind::ExpectedBlockMappingKey
        | ErrorKind::ExpectedBlockSequenceEntry
        | ErrorKind::BlockSequenceEntryNotAllowed
        | ErrorKind::MappingKeyNotAllowed
        | ErrorKind::InvalidBlockScalarIndent
        | ErrorKind::InvalidQuotedScalarIndent => (
            "the indentation matches no line above",
            "give the fields of one map, and the `-` of one list, the same indentation",
        ),
        ErrorKind::DirectiveDisallowed => ("directives (`%`) are not supported", "remove the line"),
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidUnicodeEscape => {
            ("an unknown escape in a text in double quotes", "write `\\\\` for a backslash, or use single quotes")
        }
        ErrorKind::RecursionLimitExceeded => {
            return (format!("more than {MAX_DEPTH} lists and maps inside each other"), "flatten it");
        }
        ErrorKind::UnexpectedCharacter { .. } => {
            ("a text must not begin with this character", "put the text in quotes")
        }
        // The parser's messages contain no text of the file.
        other => return (format!("this is not YAML: {other}"), "see https://yaml.org or write it as JSON"),
    };
    (reason.to_owned(), hint)
}
