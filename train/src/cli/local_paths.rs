//! Local paths in an artifact's files, which everybody can read once it is published.

use explainer_zoo::artifact::{CARD, CONFIG, RUN};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A warning for each local path in the artifact's texts and in `card`, the model card, and for each file that cannot be
/// searched.
pub(super) fn warnings(artifact: &Path, card: &str) -> Vec<String> {
    let home = std::env::home_dir().and_then(|home| home.to_str().map(str::to_owned));
    found(artifact, card, home.as_deref().unwrap_or_default())
}

fn found(artifact: &Path, card: &str, home: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    for (file, tree) in [(RUN, yaml(&artifact.join(RUN))), (CONFIG, json(&artifact.join(CONFIG)))] {
        let Some(tree) = tree else {
            warnings.push(format!("{file} cannot be searched for local paths: check it first"));
            continue;
        };
        let mut paths = Vec::new();
        walk(String::new(), &tree, home, &mut paths);
        warnings.extend(paths.into_iter().map(|(key, path)| warning(file, path, &format!(" ({key})"))));
    }
    let words = card.split(|letter: char| letter.is_whitespace() || "`\"'|()[]<>,;".contains(letter));
    let paths: BTreeSet<&str> = words.filter(|word| word.len() > 2 && is_local(word, home)).collect();
    warnings.extend(paths.into_iter().map(|path| warning(CARD, path, "")));
    warnings
}

fn warning(file: &str, path: &str, key: &str) -> String {
    format!(
        "{file} holds a local path: `{path}`{key}. If it is not to be public, change {file} in the artifact's folder; no \
         hash covers it"
    )
}

fn yaml(path: &Path) -> Option<Value> {
    serde_saphyr::from_str(&fs::read_to_string(path).ok()?).ok()
}

fn json(path: &Path) -> Option<Value> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The texts below `tree` that are local paths, with their keys.
fn walk<'a>(key: String, tree: &'a Value, home: &str, paths: &mut Vec<(String, &'a str)>) {
    match tree {
        Value::String(text) if is_local(text, home) => paths.push((key, text)),
        Value::Object(section) => section.iter().for_each(|(name, below)| {
            walk(if key.is_empty() { name.clone() } else { format!("{key}.{name}") }, below, home, paths);
        }),
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(place, below)| walk(format!("{key}[{place}]"), below, home, paths));
        }
        _ => {}
    }
}

/// Whether a text begins as an absolute path of any system, or holds the home folder. Relative paths are left out.
fn is_local(text: &str, home: &str) -> bool {
    let named = |rest: &str| rest.starts_with(|letter: char| letter.is_alphanumeric() || "._{$".contains(letter));
    let rooted = |rest: &str| rest.strip_prefix('/').is_some_and(named);
    let drive = text.split_once(':').is_some_and(|(letter, rest)| {
        letter.len() == 1
            && letter.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && rest.starts_with(['/', '\\'])
    });
    drive
        || rooted(text)
        || text.strip_prefix('~').is_some_and(rooted)
        || text.strip_prefix("file:").is_some_and(|rest| rooted(rest.trim_start_matches("//")))
        || text.strip_prefix("\\\\").is_some_and(named)
        || (home.len() > 1 && text.contains(home))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_and_those_below_home_are_listed_with_their_keys() {
        let folder = tempfile::tempdir().unwrap();
        let yaml = "data: {train: '/srv/train-{0..9}.tar', val: shapes}\nbackbone: {weights: 'C:\\w.pth', sha256: null}\n\
                    auxiliary: {weights: 'hf://timm/x'}\noutput: ../../home/ada/run\nlist: [a, ~/b, https://c/d, //, ~5,\n\
                    'file:', file:///e]\n";
        fs::write(folder.path().join(RUN), yaml).unwrap();
        fs::write(folder.path().join(CONFIG), r#"{"backbone": {"weights": "/srv/w.pth"}, "masking": "a/b"}"#).unwrap();
        let warnings = found(folder.path(), "| its weights | `/srv/w.pth` |", "/home/ada");
        let expected = [
            (RUN, "/srv/train-{0..9}.tar", "(data.train)"),
            (RUN, "C:\\w.pth", "(backbone.weights)"),
            (RUN, "../../home/ada/run", "(output)"),
            (RUN, "~/b", "(list[1])"),
            (RUN, "file:///e", "(list[6])"),
            (CONFIG, "/srv/w.pth", "(backbone.weights)"),
            (CARD, "/srv/w.pth", ""),
        ];
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (file, path, key) in expected {
            let says =
                |text: &&String| text.starts_with(file) && text.contains(&format!("`{path}`")) && text.contains(key);
            assert_eq!(warnings.iter().filter(says).count(), 1, "{file} {key}: {warnings:#?}");
        }
    }

    #[test]
    fn texts_without_local_paths_cause_no_warning() {
        let shipped = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../model-zoo/assets/quickstart"));
        let card = fs::read_to_string(shipped.join("README.md")).unwrap();
        assert_eq!(found(shipped, &card, "/home/ada"), [""; 0]);
        assert_eq!(found(shipped, "in /home/ada/notes", "/home/ada").len(), 1);
    }

    #[test]
    fn an_unreadable_file_causes_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(RUN), "a: [").unwrap();
        fs::write(folder.path().join(CONFIG), "{}").unwrap();
        let warnings = found(folder.path(), "", "");
        assert!(warnings.len() == 1 && warnings[0].contains(RUN), "{warnings:?}");
    }
}
