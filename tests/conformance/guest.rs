//! The script of `tests/probe`, and what it says in a log.

use std::collections::BTreeMap;

/// A text as the script takes it: in quotes, escaped.
pub(crate) fn quoted(bytes: impl AsRef<[u8]>) -> String {
    let escaped: String = bytes
        .as_ref()
        .iter()
        .map(|byte| match byte {
            b'"' => "\\x22".to_owned(),
            b'\\' => "\\\\".to_owned(),
            32..=126 => char::from(*byte).to_string(),
            other => format!("\\x{other:02x}"),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// A header list as guests give it to the host, in quotes.
pub(crate) fn pairs(list: &[(&str, &str)]) -> String {
    quoted(weir_host_abi::abi::pairs::encode(list.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))))
}

/// What a filter said of each path, in order.
pub(crate) type Said = BTreeMap<String, Vec<String>>;

/// Reads a log; lines of other filters and of the proxy itself are left out.
pub(crate) fn said(log: &str) -> Said {
    let mut said = Said::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once("probe|") else { continue };
        // What our log says after the message are fields.
        let rest = rest.split(" plugin=").next().unwrap_or(rest).trim_end();
        let Some((path, what)) = rest.split_once('|') else { continue };
        said.entry(path.to_owned()).or_default().push(what.to_owned());
    }
    said
}
