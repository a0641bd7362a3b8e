//! Writes the script of the `tests/probe` filter and reads its log.

use std::collections::BTreeMap;

/// Returns a text in the script's syntax: in quotes, escaped.
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

/// Returns a header list, serialized as guests pass it to the host, in quotes.
pub(crate) fn pairs(list: &[(&str, &str)]) -> String {
    quoted(weir_host_abi::abi::pairs::encode(list.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()))))
}

/// Log lines of the probe by path, in order.
pub(crate) type GuestLog = BTreeMap<String, Vec<String>>;

/// Parses a proxy's log. Lines that are not of the probe are left out.
pub(crate) fn parse_log(log: &str) -> GuestLog {
    let mut lines_by_path = GuestLog::new();
    for line in log.lines() {
        let Some((_, rest)) = line.split_once("probe|") else { continue };
        // The fields of Weir's log follow the message.
        let rest = rest.split(" plugin=").next().unwrap_or(rest).trim_end();
        let Some((path, event)) = rest.split_once('|') else { continue };
        lines_by_path.entry(path.to_owned()).or_default().push(event.to_owned());
    }
    lines_by_path
}
