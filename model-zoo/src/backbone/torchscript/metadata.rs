//! The metadata of a TorchScript: preprocessing, precision, taps and methods.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use tch::{CModule, IValue, Kind};

use super::TorchScriptError;
use super::output::{kind_of, reason};
use crate::device::Precision;
use crate::image::Preprocessing;

/// The method that returns the metadata.
const METHOD: &str = "explainer_record";
/// The version of the format that this crate reads.
const FORMAT: u64 = 1;

/// The JSON that `explainer_record()` returns.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    format: u64,
    /// Preprocessing of its images.
    pub preprocessing: Preprocessing,
    /// The precision in which it computes. Logits, taps and gradients are converted to f32.
    #[serde(default)]
    pub dtype: Precision,
    /// Names of taps that are returned as a list.
    #[serde(default)]
    pub taps: Vec<String>,
    /// Number of prefix tokens, by tap.
    #[serde(default)]
    pub prefix_tokens: BTreeMap<String, usize>,
    /// Whether it has the method `replaced`: taps can be replaced.
    #[serde(default)]
    pub replaces: bool,
    /// Whether it has the methods `packed` and `observed`: packed weights.
    #[serde(default)]
    pub packs: bool,
}

/// LibTorch's type for a precision.
pub fn kind(precision: Precision) -> Kind {
    match precision {
        Precision::F32 => Kind::Float,
        Precision::Bf16 => Kind::BFloat16,
    }
}

/// The metadata of a module, if it has any.
pub fn read(module: &CModule, path: &Path) -> Result<Option<Metadata>, TorchScriptError> {
    let wrong = |reason: String| TorchScriptError::Metadata { path: path.into(), reason };
    let text = match module.method_is::<IValue>(METHOD, &[]) {
        Ok(IValue::String(text)) => text,
        Ok(other) => return Err(wrong(format!("found {}, expected a string of JSON", kind_of(&other)))),
        Err(error) if error.to_string().contains("is not defined") => return Ok(None),
        Err(error) => return Err(wrong(reason(&error))),
    };
    parse(&text).map(Some).map_err(wrong)
}

fn parse(text: &str) -> Result<Metadata, String> {
    let metadata: Metadata = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if metadata.format != FORMAT {
        return Err(format!("found format {}, this program reads {FORMAT}", metadata.format));
    }
    if !metadata.preprocessing.is_valid() {
        return Err(format!(
            "found {:?}, expected 1 <= crop <= resize, finite numbers, std above 0",
            metadata.preprocessing
        ));
    }
    Ok(metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: &str = r#"{"format": 1, "model": "timm/x",
        "preprocessing": {"resize": 256, "crop": 224, "filter": "bicubic", "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}}"#;

    #[test]
    fn metadata_is_checked() {
        let metadata = parse(SOUND).unwrap();
        assert_eq!((metadata.preprocessing.crop, metadata.dtype, metadata.replaces), (224, Precision::F32, false));
        for (from, to, reason) in [
            ("\"format\": 1", "\"format\": 2", "found format 2"),
            ("0.5]}", "0.0]}", "std above 0"),
            ("224", "2240", "crop <= resize"),
            ("bicubic", "nearest", "nearest"),
            ("\"model\"", "\"dtype\": \"int8\", \"model\"", "int8"),
            ("{", "", "line 1"),
        ] {
            let error = parse(&SOUND.replacen(from, to, 1)).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
