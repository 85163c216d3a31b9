//! Files that stand in the place of another one: Git LFS pointers, HTML pages, empty files.

/// The most bytes at the beginning of a file that [`stand_in`] needs.
pub(crate) const BEGINNING: usize = 1024;

/// What a file is instead of weights or an image, and the remedy, by its first bytes; `None` if it may be either.
pub(crate) fn stand_in(beginning: &[u8]) -> Option<String> {
    let again = "download the file again";
    if beginning.is_empty() {
        return Some(format!("an empty file (0 bytes); {again}"));
    }
    let text = String::from_utf8_lossy(beginning.get(..BEGINNING).unwrap_or(beginning));
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with("version https://git-lfs.github.com/spec/") {
        let size = text.lines().find_map(|line| line.strip_prefix("size ")?.trim().parse::<u64>().ok());
        let size = size.map(|size| format!(" to a file of {size} bytes")).unwrap_or_default();
        return Some(format!(
            "a Git LFS pointer{size}; run `git lfs pull` in its repository, or download the file itself"
        ));
    }
    let lower = text.get(..64).unwrap_or(text).to_ascii_lowercase();
    if lower.starts_with("<!doctype html") || lower.starts_with("<html") {
        return Some(format!("an HTML page, such as an error or login page of a server; {again}"));
    }
    if lower.starts_with("{\"error\"") || lower.starts_with("<?xml") && text.contains("<Error>") {
        return Some(format!("an error message of a server; {again}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stand_ins_are_known_by_their_beginning() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 101280\n";
        for (bytes, part) in [
            (&pointer[..], "Git LFS pointer to a file of 101280 bytes; run `git lfs pull`"),
            (b"", "empty"),
            (b"\n<!DOCTYPE HTML><head>", "HTML page"),
            (b"<html>", "HTML page"),
            (b"{\"error\":\"Repository not found\"}", "error message of a server"),
            (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "error message of a server"),
        ] {
            let found = stand_in(bytes).unwrap_or_default();
            assert!(found.contains(part), "{found}");
        }
        for bytes in [&b"\x89PNG"[..], b"PK\x03\x04", b"{\"a\":1}", &[0xFF; 2000]] {
            assert_eq!(stand_in(bytes), None);
        }
    }
}
