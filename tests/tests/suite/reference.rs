//! The book: generated pages are current, and no link leads nowhere.

use std::fs;
use std::path::{Path, PathBuf};

use explainer_tests::reference::pages;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_reference_pages_are_current() {
    let mut old = Vec::new();
    for (name, text) in pages() {
        let path = root().join("docs/src/reference").join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &text).unwrap();
        }
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            old.push(name);
        }
    }
    assert_eq!(old, [] as [&str; 0], "write them: UPDATE=1 cargo test --release -p explainer-tests reference");
}

/// Markdown files of the book, of the repository's root and of its crates.
fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    for folder in ["", "checkpoints", "metrics", "attribution"] {
        found.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    found.sort();
    found
}

/// Targets of links and images in a text, Markdown's and `src="..."`; code blocks and spans are left out.
fn links(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code {
            prose.extend(line.split('`').step_by(2));
            prose.push('\n');
        }
    }
    let targets = prose.split("](").skip(1).chain(prose.split("src=\"").skip(1));
    targets.filter_map(|rest| rest.split([')', ' ', '"']).next()).map(str::to_owned).collect()
}

#[test]
fn links_in_documents_lead_somewhere() {
    let mut lost = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text) {
            let target = link.split('#').next().unwrap_or_default();
            let outside = ["https://", "http://", "mailto:"].iter().any(|scheme| target.starts_with(scheme));
            if !outside && !target.is_empty() && !document.parent().unwrap().join(target).exists() {
                lost.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert_eq!(lost, [] as [String; 0]);
}

#[test]
fn the_summary_lists_every_page() {
    let book = root().join("docs/src");
    let listed = links(&fs::read_to_string(book.join("SUMMARY.md")).unwrap());
    let missing: Vec<_> = documents()
        .into_iter()
        .filter_map(|page| page.strip_prefix(&book).map(|page| page.display().to_string()).ok())
        .filter(|page| page != "SUMMARY.md" && !listed.contains(page))
        .collect();
    assert_eq!(missing, [] as [String; 0], "pages that docs/src/SUMMARY.md does not list");
}
