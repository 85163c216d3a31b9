//! How serde-saphyr's errors are worded for someone who writes YAML and not Rust.

use serde_saphyr::localizer::Localizer;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};
use std::borrow::Cow;

/// Words an error, less its place in the file.
pub(super) struct Wording;

impl Localizer for Wording {
    fn validation_base_message(&self, entry: &str, key: &str) -> String {
        format!("`{}`: {entry}", key.trim_end_matches('.'))
    }
}

impl MessageFormatter for Wording {
    fn localizer(&self) -> &dyn Localizer {
        self
    }

    fn format_message<'a>(&self, error: &'a Error) -> Cow<'a, str> {
        match error {
            Error::WithSnippet { error, .. } => self.format_message(error),
            Error::SerdeUnknownField { field, expected, .. } => unknown("key", field, expected).into(),
            Error::SerdeUnknownVariant { variant, expected, .. } => unknown("value", variant, expected).into(),
            Error::SerdeMissingField { field, .. } => format!("the key `{field}` is missing").into(),
            Error::SerdeInvalidType { unexpected, expected, .. }
            | Error::SerdeInvalidValue { unexpected, expected, .. } => {
                format!("found {unexpected}, expected {}", plain_type(expected)).into()
            }
            Error::Unexpected { expected, .. } => format!("expected {}", plain_type(expected)).into(),
            Error::InvalidScalar { ty, .. } => format!("expected {}", plain_type(ty)).into(),
            Error::InvalidBooleanStrict { .. } => "expected true or false".into(),
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is there twice").into(),
            Error::ValidationError { issues, .. } => {
                let lines = issues.iter().map(|issue| {
                    // A value that may be left out adds a segment without a name.
                    let names = issue.path.segments().map(|(_, name)| name);
                    let path: Vec<_> = names.filter(|name| !name.is_empty()).collect();
                    format!("`{}`: {}", path.join("."), issue.message.as_deref().unwrap_or(&issue.code))
                });
                lines.collect::<Vec<_>>().join("; ").into()
            }
            other => UserMessageFormatter.format_message(other),
        }
    }
}

/// A Rust type, as a reader of YAML would call it.
fn plain_type(name: &str) -> &str {
    match name {
        "u64" | "usize" | "u32" | "u128" => "a whole number, 0 or above",
        "i64" | "i32" | "isize" | "i128" => "a whole number",
        "f64" | "f32" | "floating point" => "a number",
        "bool" | "boolean" | "a boolean" => "true or false",
        "string scalar" => "a single value",
        "mapping start" | "mapping" => "a section of keys",
        "sequence start" | "sequence" => "a list",
        other => other,
    }
}

fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    let list = known.join(", ");
    match nearest(found, known) {
        Some(near) => format!("unknown {what} `{found}`, did you mean `{near}`? Known here: {list}"),
        None if known.is_empty() => format!("unknown {what} `{found}`; this section has none"),
        None => format!("unknown {what} `{found}`. Known here: {list}"),
    }
}

/// The known word with the fewest edits from `found`, if they are few enough for a slip of the hand.
fn nearest<'a>(found: &str, known: &[&'a str]) -> Option<&'a str> {
    let (distance, word) = known.iter().map(|word| (edits(found, word), *word)).min()?;
    (distance <= 1 + found.chars().count() / 4).then_some(word)
}

/// Edits from `a` to `b`: insertions, deletions, substitutions and swaps of neighbours (optimal string alignment).
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let substitute = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitute.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_are_counted() {
        assert_eq!(edits("", "abc"), 3);
        assert_eq!(edits("epoch", "epochs"), 1);
        assert_eq!(edits("adwam", "adamw"), 2);
        assert_eq!(edits("sdg", "sgd"), 1);
        assert_eq!(edits("learning_rate", "lr"), 11);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["epochs", "batch_size", "seed"];
        assert_eq!(nearest("epoch", &known), Some("epochs"));
        assert_eq!(nearest("batchsize", &known), Some("batch_size"));
        assert_eq!(nearest("steps", &known), None);
    }
}
