//! Messages for serde-saphyr's errors in terms of YAML.

use explainer_zoo::spelling::nearest;
use serde_saphyr::localizer::Localizer;
use serde_saphyr::{Error, MessageFormatter, UserMessageFormatter};
use std::borrow::Cow;

/// The message of an error, without line and column.
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
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key `{key}` is given twice").into(),
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
    match nearest(found, known.iter().copied()) {
        Some(near) => format!("unknown {what} `{found}`, did you mean `{near}`? Known here: {list}"),
        None if known.is_empty() => format!("unknown {what} `{found}`; this section has none"),
        None => format!("unknown {what} `{found}`. Known here: {list}"),
    }
}
