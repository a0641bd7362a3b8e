//! The names of resource files.

use std::ffi::OsStr;

/// Returns true for `*.yaml`, `*.yml` and `*.json`. Hidden files are skipped: they belong to editors and to Kubernetes.
pub fn is_resource_file_name(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    !name.starts_with(b".") && [b".yaml".as_slice(), b".yml", b".json"].iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_files_are_recognized_by_name() {
        for (name, expected) in [
            ("a.yaml", true),
            ("a.yml", true),
            ("a.json", true),
            (".a.yaml.swp", false),
            (".a.yaml", false),
            ("a.yaml~", false),
            ("4913", false),
            ("#a.yaml#", false),
            ("a.wasm", false),
        ] {
            assert_eq!(is_resource_file_name(OsStr::new(name)), expected, "{name}");
        }
    }
}
