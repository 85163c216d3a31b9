//! Tables of YAML keys from a JSON Schema.

use std::fmt::Write;

use serde_json::Value;

use super::cell;

/// Every key of a configuration, one section for each top-level key that is an object. The explainer's keys have a page
/// of their own.
pub fn configuration(schema: &Value) -> String {
    let mut out = String::new();
    let Some(properties) = schema["properties"].as_object() else { return out };
    let top = properties.iter().filter(|(_, node)| !is_section(&with_description(schema, node)));
    table(&mut out, schema, "", top);
    for (key, node) in properties {
        let node = with_description(schema, node);
        let items = with_description(schema, &node["items"]);
        if is_section(&items) {
            let _ = write!(out, "\n## {key}\n\n{} Keys of each entry:\n\n", description(&node));
            section(&mut out, schema, &format!("{key}[]"), &items, 3);
        }
        if !is_section(&node) {
            continue;
        }
        let _ = write!(out, "\n## {key}\n\n{}\n\n", description(&node));
        if key == "explainer" {
            out += "[Explainers](explainers.md) lists the keys of each method.\n";
        } else {
            section(&mut out, schema, key, &node, 3);
        }
    }
    out
}

/// The variants of the section `explainer`.
pub fn explainers(schema: &Value) -> String {
    let mut out = String::new();
    let node = resolve(schema, &schema["properties"]["explainer"]);
    for variant in node["oneOf"].as_array().into_iter().flatten() {
        let variant = with_description(schema, variant);
        let name = variant["properties"]["method"]["const"].as_str().unwrap_or("?").to_owned();
        let _ = write!(out, "\n## {name}\n\n{}\n\n", description(&variant));
        section(&mut out, schema, "explainer", &variant, 3);
    }
    out
}

/// Keys of an object, or of the variants of a tagged one.
fn section(out: &mut String, schema: &Value, path: &str, node: &Value, level: usize) {
    if let Some(properties) = node["properties"].as_object() {
        table(out, schema, path, properties.iter().filter(|(key, node)| !is_tag(key, node)));
        for (key, node) in properties {
            let node = with_description(schema, node);
            if is_section(&node) {
                let path = format!("{path}.{key}");
                let _ = write!(out, "\n{} {path}\n\n{}\n\n", "#".repeat(level.min(5)), description(&node));
                section(out, schema, &path, &node, level + 1);
            }
        }
    }
    for variant in variants(node) {
        let variant = with_description(schema, variant);
        let Some(properties) = variant["properties"].as_object() else { continue };
        let tag = properties.iter().find(|(key, node)| is_tag(key, node));
        let title = tag.map_or(String::from("either"), |(key, node)| {
            format!("{path}: {{{key}: {}}}", node["const"].as_str().unwrap_or("?"))
        });
        let _ = write!(out, "\n{} {title}\n\n{}\n\n", "#".repeat(level.min(5)), description(&variant));
        section(out, schema, path, &variant, level + 1);
    }
}

/// A table of keys; nothing where there are none.
fn table<'a>(out: &mut String, schema: &Value, path: &str, rows: impl Iterator<Item = (&'a String, &'a Value)>) {
    let rows: Vec<String> = rows
        .map(|(key, node)| {
            let node = with_description(schema, node);
            let key = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let default = match &node["default"] {
                Value::Null => String::new(),
                value => format!("`{}`", cell(&value.to_string())),
            };
            format!("| `{key}` | {} | {default} | {} |\n", kind(schema, &node), cell(&description(&node)))
        })
        .collect();
    if !rows.is_empty() {
        *out += "| key | value | default | meaning |\n|---|---|---|---|\n";
        *out += &rows.concat();
    }
}

/// What a value may be: its type with its range, or its choices.
fn kind(schema: &Value, node: &Value) -> String {
    let options = ["anyOf", "oneOf", "enum"].iter().find_map(|key| node[*key].as_array());
    if let Some(options) = options {
        let mut shown: Vec<String> = Vec::new();
        for option in options {
            let option = with_description(schema, option);
            let text = match &option {
                Value::String(text) => format!("`{text}`"),
                _ if option["type"] == "null" => continue,
                _ if option["const"].is_string() => format!("`{}`", option["const"].as_str().unwrap_or_default()),
                _ => kind(schema, &option),
            };
            if !shown.contains(&text) {
                shown.push(text);
            }
        }
        return shown.join(", ");
    }
    let types: Vec<&str> = match &node["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).filter(|name| *name != "null").collect(),
        _ => Vec::new(),
    };
    let name = match types.first() {
        Some(&"integer") => "integer",
        Some(&"number") => "number",
        Some(&"boolean") => return "`true`, `false`".into(),
        Some(&"string") => "text",
        Some(&"array") => {
            let item = with_description(schema, &node["items"]);
            return if item.is_null() { "list".into() } else { format!("list of {}", kind(schema, &item)) };
        }
        Some(&"object") => return "section".into(),
        _ => "any",
    };
    let bound = |key: &str, sign: &str| node[key].as_f64().map(|value| format!(" {sign} {value}"));
    let bounds = [("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"), ("exclusiveMaximum", "<")];
    let range: Vec<String> = bounds.iter().filter_map(|(key, sign)| bound(key, sign)).collect();
    format!("{name}{}", range.join(","))
}

/// The variants of a tagged object.
fn variants(node: &Value) -> impl Iterator<Item = &Value> {
    ["oneOf", "anyOf"].iter().filter_map(|key| node[*key].as_array()).flatten()
}

/// Whether a key is the tag of a variant.
fn is_tag(key: &str, node: &Value) -> bool {
    ["name", "method", "preset"].contains(&key) && node["const"].is_string()
}

/// Whether a node has keys of its own.
fn is_section(node: &Value) -> bool {
    node["properties"].is_object() || variants(node).any(|variant| variant["properties"].is_object())
}

/// The node that a reference names, or the node itself.
fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    let target = node["$ref"].as_str().and_then(|path| schema.pointer(path.trim_start_matches('#')));
    target.unwrap_or(node)
}

/// The node that a reference names, with the description and the default that stand beside the reference. An optional
/// section (`anyOf` of one reference and null) is the section.
fn with_description(schema: &Value, node: &Value) -> Value {
    let mut found = resolve(schema, node).clone();
    let optional =
        node["anyOf"].as_array().and_then(|options| options.iter().find(|option| option["$ref"].is_string()));
    if let Some(option) = optional {
        let target = resolve(schema, option);
        if target["properties"].is_object() {
            found = target.clone();
        }
    }
    for key in ["description", "default"] {
        if let (Some(value), Some(found)) = (node.get(key), found.as_object_mut()) {
            found.insert(key.into(), value.clone());
        }
    }
    found
}

fn description(node: &Value) -> String {
    let text = node["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
