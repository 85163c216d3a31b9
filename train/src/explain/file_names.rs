//! File names from the names of images and classes.

use std::collections::HashSet;
use std::path::Path;

/// Maximum bytes of the parts of a file name. With a number and an ending they stay below 255, the limit of common file systems.
const STEM_BYTES: usize = 140;
const SLUG_BYTES: usize = 60;

/// Names in use, compared without regard to case, as some file systems do.
#[derive(Clone, Debug, Default)]
pub struct FileNames(HashSet<String>);

impl FileNames {
    /// `wanted` if it is free, otherwise with the first free number from 2: `dog-2`.
    pub fn claim(&mut self, wanted: String) -> String {
        let mut name = wanted.clone();
        let mut number = 2_usize;
        while !self.0.insert(name.to_lowercase()) {
            name = format!("{wanted}-{number}");
            number += 1;
        }
        name
    }
}

/// An image's file name without its ending; control characters become `_`, long names are cut.
#[must_use]
pub fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let stem: String = stem.chars().map(|c| if c.is_control() { '_' } else { c }).collect();
    if stem.is_empty() { "image".into() } else { cut(&stem, STEM_BYTES).into() }
}

/// A class name as part of a file name: letters, digits and hyphens stay, everything between becomes one `_`.
#[must_use]
pub fn slug(class: &str) -> String {
    let words = class.split(|c: char| !c.is_alphanumeric() && c != '-').filter(|word| !word.is_empty());
    let slug = words.collect::<Vec<_>>().join("_");
    if slug.is_empty() { "class".into() } else { cut(&slug, SLUG_BYTES).into() }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_names_become_safe() {
        for (name, expected) in [
            ("golden retriever", "golden_retriever"),
            ("black-and-gold garden spider", "black-and-gold_garden_spider"),
            ("../../etc/passwd", "etc_passwd"),
            ("potter's wheel, (old)", "potter_s_wheel_old"),
            ("\u{e9}cureuil\0", "\u{e9}cureuil"),
            ("...", "class"),
            ("", "class"),
        ] {
            assert_eq!(slug(name), expected, "{name:?}");
        }
        assert_eq!(slug(&"\u{20ac}a".repeat(100)).chars().count(), 60, "signs that are no letters part the letters");
        assert!(slug(&"\u{e9}".repeat(100)).len() <= SLUG_BYTES);
    }

    #[test]
    fn stems_keep_dots_and_are_never_empty() {
        assert_eq!(stem(Path::new("a/my dog.v2.jpg")), "my dog.v2");
        assert_eq!(stem(Path::new("a/line\nbreak.png")), "line_break");
        assert_eq!(stem(Path::new("/")), "image");
        assert!(stem(Path::new(&"\u{1f436}".repeat(60))).len() <= STEM_BYTES);
    }

    #[test]
    fn no_name_is_given_twice() {
        let mut names = FileNames::default();
        let claimed = ["dog", "dog", "Dog", "dog-2", "cat"].map(|name| names.claim(name.into()));
        assert_eq!(claimed, ["dog", "dog-2", "Dog-3", "dog-2-2", "cat"]);
    }
}
