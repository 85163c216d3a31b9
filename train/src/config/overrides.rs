//! `key.path=value` of the command line, applied to the parsed YAML before it gets its types.

use super::yaml;
use serde_json::{Map, Value};

/// One `key.path=value`; the value is YAML, so that `backbone.taps=[layer4]` and `optimizer={name: adamw}` work.
#[derive(Debug)]
pub(super) struct Override {
    path: Vec<String>,
    value: Value,
    /// Stands for the text of a scalar or a list in the tree, and that text: `1e3` is a number or a name, as its key wants.
    raw: Option<(String, String)>,
}

impl Override {
    /// Parses `key.path=value`, the override number `index`.
    ///
    /// # Errors
    /// The problem, as text.
    pub(super) fn parse(text: &str, index: usize) -> Result<Self, String> {
        let Some((path, value)) = text.split_once('=') else {
            return Err("expected key.path=value, for example optimizer.lr=1e-3".into());
        };
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("a part of the key before `=` is empty; expected for example optimizer.lr=1e-3".into());
        }
        if value.trim().is_empty() {
            return Err("the value after `=` is empty; write null for the default".into());
        }
        let raw = value.trim().to_owned();
        let value = serde_saphyr::from_str_with_options(value, yaml::options())
            .map_err(|e| format!("the value is not valid YAML: {}", yaml::message(&e)))?;
        let keeps_text = matches!(value, Value::Number(_) | Value::Bool(_) | Value::Array(_)) && !raw.contains('\n');
        let raw = keeps_text.then(|| (format!("override-placeholder-{index}-"), raw));
        Ok(Self { path, value, raw })
    }

    /// The last part of the key.
    pub(super) fn key(&self) -> &str {
        self.path.last().map_or("", String::as_str)
    }

    /// Puts the text of the value in its place in the YAML of a tree to which this override was applied.
    pub(super) fn restore(&self, yaml: String) -> String {
        match &self.raw {
            Some((placeholder, text)) => yaml.replace(placeholder, text),
            None => yaml,
        }
    }

    /// Sets the key, or removes it where the value is null. Missing sections are added.
    pub(super) fn apply(&self, tree: &mut Value) -> Result<(), String> {
        let mut node = tree;
        for (depth, key) in self.path.iter().enumerate() {
            if node.is_null() {
                *node = Value::Object(Map::new());
            }
            let Value::Object(section) = node else {
                return Err(format!(
                    "`{}` is a value, not a section: it has no key `{key}`",
                    self.path[..depth].join(".")
                ));
            };
            if depth + 1 == self.path.len() && self.value.is_null() {
                section.remove(key);
                return Ok(());
            }
            node = section.entry(key.as_str()).or_insert(Value::Null);
        }
        *node = match &self.raw {
            Some((placeholder, _)) => Value::String(placeholder.clone()),
            None => self.value.clone(),
        };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(tree: Value, text: &str) -> Result<Value, String> {
        let mut tree = tree;
        let one = Override::parse(text, 0)?;
        one.apply(&mut tree)?;
        let yaml = one.restore(serde_saphyr::to_string(&tree).unwrap());
        Ok(serde_saphyr::from_str_with_options(&yaml, yaml::options()).unwrap())
    }

    #[test]
    fn values_are_yaml() {
        assert_eq!(with(json!({"a": {"b": 1}}), "a.b=2.5e-3").unwrap(), json!({"a": {"b": 2.5e-3}}));
        assert_eq!(with(json!({}), "a.b={c: [x, y]}").unwrap(), json!({"a": {"b": {"c": ["x", "y"]}}}));
        assert_eq!(with(json!({"a": 1}), "a=null").unwrap(), json!({}));
        assert_eq!(with(json!({}), "a=b=c").unwrap(), json!({"a": "b=c"}));
    }

    #[test]
    fn invalid_overrides_are_refused() {
        assert!(with(json!({"a": 1}), "a.b=2").unwrap_err().contains("`a` is a value, not a section"));
        for text in ["a", "=1", "a.=1", ".a=1", "a=", "a=[1"] {
            assert!(Override::parse(text, 0).is_err(), "{text}");
        }
    }
}
