//! A YAML document with the overrides of the command line.

use super::error::ConfigError;
use super::overrides::Override;
use super::yaml::{Document, located, message, options, typed};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Parses a document and applies the overrides in their order.
pub(super) fn document<T: Document>(text: &str, path: &Path, overrides: &[String]) -> Result<T, ConfigError> {
    if overrides.is_empty() { typed(text).map_err(|e| located(&e, path)) } else { overridden(text, path, overrides) }
}

/// Applies the overrides to the parsed file before it gets its types.
///
/// An error present without overrides is attributed to the file, any other to the first override that causes it.
fn overridden<T: Document>(text: &str, path: &Path, overrides: &[String]) -> Result<T, ConfigError> {
    let refused = |text: &str, message| ConfigError::Override { text: text.to_owned(), message };
    let mut tree: Value = serde_saphyr::from_str_with_options(text, options()).map_err(|e| located(&e, path))?;
    let (mut parsed, mut trees) = (Vec::new(), Vec::new());
    for (index, text) in overrides.iter().enumerate() {
        let one = Override::parse(text, index).map_err(|message| refused(text, message))?;
        one.apply(&mut tree).map_err(|message| refused(text, message))?;
        parsed.push(one);
        trees.push(tree.clone());
    }
    let error = match retyped(&tree, &parsed) {
        Ok(config) => return Ok(config),
        Err(error) => error,
    };
    if let Err(own) = typed::<T>(text)
        && message(&own) == error
    {
        return Err(located(&own, path));
    }
    let culprit = trees.iter().position(|tree| retyped::<T>(tree, &parsed).is_err_and(|e| e == error));
    Err(match culprit.map(|index| (&overrides[index], &parsed[index])) {
        Some((text, one)) => {
            let schema = schemars::schema_for!(T).to_value();
            refused(text, with_section(&error, one.key(), &schema).unwrap_or(error))
        }
        None => refused(&overrides.join(" "), error),
    })
}

/// The document in a parsed tree, or the problem. It is written as YAML and parsed again, so that a value means the same as
/// in a file: `output=1` is a path.
fn retyped<T: Document>(tree: &Value, overrides: &[Override]) -> Result<T, String> {
    let mut text = serde_saphyr::to_string(tree).map_err(|e| e.to_string())?;
    // The last one first: the placeholder of 1 is the beginning of that of 10.
    for one in overrides.iter().rev() {
        text = one.restore(text);
    }
    typed(&text).map_err(|e| message(&e))
}

/// The error about an unknown key, with its whole path if a section has such a key: `epochs` is `train.epochs`.
fn with_section(error: &str, key: &str, schema: &Value) -> Option<String> {
    let rest = error.strip_prefix(&format!("unknown key `{key}`"))?;
    let mut paths = BTreeSet::new();
    collect_paths(schema, schema, &mut Vec::new(), key, &mut paths);
    let known = rest.find("Known here:").map_or("", |at| &rest[at..]);
    // The keys nearest to the root: `epochs` is train.epochs and not that of a phase.
    let depth = |path: &String| path.matches('.').count();
    let least = paths.iter().map(depth).min()?;
    let paths: Vec<String> = paths.iter().filter(|path| depth(path) == least).map(|path| format!("`{path}`")).collect();
    (!paths.is_empty()).then(|| format!("unknown key `{key}`, did you mean {}? {known}", paths.join(" or ")))
}

/// Adds the paths of all keys with the name `key` in the sections of a JSON Schema.
fn collect_paths(root: &Value, node: &Value, at: &mut Vec<String>, key: &str, found: &mut BTreeSet<String>) {
    const DEEPEST: usize = 4;
    if let Some(target) =
        node.get("$ref").and_then(Value::as_str).and_then(|name| root.pointer(name.strip_prefix('#')?))
    {
        collect_paths(root, target, at, key, found);
    }
    for list in ["oneOf", "anyOf", "allOf"] {
        let branches = node.get(list).and_then(Value::as_array);
        branches.into_iter().flatten().for_each(|branch| collect_paths(root, branch, at, key, found));
    }
    for (name, value) in node.get("properties").and_then(Value::as_object).into_iter().flatten() {
        at.push(name.clone());
        if name == key {
            found.insert(at.join("."));
        }
        if at.len() < DEEPEST {
            collect_paths(root, value, at, key, found);
        }
        at.pop();
    }
}
