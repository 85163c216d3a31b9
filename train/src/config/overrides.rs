//! `key.path=value` from the command line, applied to the parsed YAML before it is given types.

use serde_json::{Map, Value};

/// One `key.path=value`; the value is YAML, so that `backbone.taps=[layer4]` and `optimizer={name: adamw}` work.
#[derive(Debug)]
pub(super) struct Override {
    path: Vec<String>,
    value: Value,
}

impl Override {
    /// Reads `key.path=value`, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some((path, value)) = text.split_once('=') else {
            return Err("expected key.path=value, for example optimizer.lr=1e-3".into());
        };
        let path: Vec<String> = path.trim().split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) {
            return Err("a part of the key before `=` is empty; expected for example optimizer.lr=1e-3".into());
        }
        if value.trim().is_empty() {
            return Err("the value after `=` is empty; write null to take a key back to its default".into());
        }
        let value = serde_saphyr::from_str_with_options(value, super::options())
            .map_err(|e| format!("the value is no YAML: {}", super::message(&e)))?;
        Ok(Self { path, value })
    }

    /// Sets the key, or removes it where the value is null. Sections on the way that the file leaves out are made.
    pub(super) fn apply(&self, tree: &mut Value) -> Result<(), String> {
        let mut node = tree;
        for (depth, key) in self.path.iter().enumerate() {
            if node.is_null() {
                *node = Value::Object(Map::new());
            }
            let Value::Object(section) = node else {
                return Err(format!(
                    "`{}` is a value and no section: it has no key `{key}`",
                    self.path[..depth].join(".")
                ));
            };
            if depth + 1 == self.path.len() && self.value.is_null() {
                section.remove(key);
                return Ok(());
            }
            node = section.entry(key.as_str()).or_insert(Value::Null);
        }
        *node = self.value.clone();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(tree: Value, text: &str) -> Result<Value, String> {
        let mut tree = tree;
        Override::parse(text)?.apply(&mut tree)?;
        Ok(tree)
    }

    #[test]
    fn values_are_yaml() {
        assert_eq!(with(json!({"a": {"b": 1}}), "a.b=2.5e-3").unwrap(), json!({"a": {"b": 2.5e-3}}));
        assert_eq!(with(json!({}), "a.b={c: [x, y]}").unwrap(), json!({"a": {"b": {"c": ["x", "y"]}}}));
        assert_eq!(with(json!({"a": 1}), "a=null").unwrap(), json!({}));
        assert_eq!(with(json!({}), "a=b=c").unwrap(), json!({"a": "b=c"}));
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(with(json!({"a": 1}), "a.b=2").unwrap_err().contains("`a` is a value and no section"));
        for text in ["a", "=1", "a.=1", ".a=1", "a=", "a=[1"] {
            assert!(Override::parse(text).is_err(), "{text}");
        }
    }
}
