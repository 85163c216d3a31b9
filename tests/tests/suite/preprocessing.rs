//! Decode, resize, crop and normalise against PyTorch's sums over the same photographs.

use std::path::PathBuf;

use explainer_tests::compute;
use explainer_zoo::image::{Filter, Pixels, Preprocessing, decode};
use safetensors::SafeTensors;
use serde_json::Value;

/// A folder from the environment, or from beside the workspace.
fn folder(variable: &str, default: &str) -> PathBuf {
    let beside = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(default);
    std::env::var_os(variable).map_or_else(beside, PathBuf::from)
}

fn three(value: &Value) -> [f32; 3] {
    [0, 1, 2].map(|channel| value[channel].as_f64().unwrap() as f32)
}

#[test]
fn preprocessed_photographs_have_the_sums_of_pytorch() {
    let oracle = folder("EXPLAINER_ORACLE", "oracle");
    let Ok(text) = std::fs::read_to_string(oracle.join("oracle.json")) else {
        explainer_tests::skip(&format!("no golden values in {}; set EXPLAINER_ORACLE", oracle.display()));
        return;
    };
    let facts: Value = serde_json::from_str(&text).unwrap();
    let golden = std::fs::read(oracle.join("real.safetensors")).unwrap();
    let golden = SafeTensors::deserialize(&golden).unwrap();

    for (backbone, facts) in facts["real"].as_object().unwrap() {
        let split = facts["split"].as_str().unwrap();
        let images = folder("EXPLAINER_ORACLE_IMAGES", &format!("data/imagenet-sample/{split}"));
        if !images.is_dir() {
            explainer_tests::skip(&format!("no photographs in {}; set EXPLAINER_ORACLE_IMAGES", images.display()));
            return;
        }
        let (mean, std) = (three(&facts["mean"]), three(&facts["std"]));
        let preprocessing = Preprocessing { resize: 256, crop: 224, filter: Filter::Bilinear, mean, std };
        let sums = golden.tensor(&format!("{backbone}.input_sum")).unwrap();
        let sums = sums.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap()));
        let files = facts["files"].as_array().unwrap();
        assert_eq!(sums.len(), files.len());
        for (file, expected) in files.iter().zip(sums) {
            let pixels = preprocessing.centre(&decode(&images.join(file.as_str().unwrap())).unwrap()).unwrap();
            let image = Pixels::to_tensor(&[pixels], &compute().device).unwrap();
            let found = preprocessing.normalise(image).sum().into_scalar::<f32>();
            println!("{backbone} {file}: {found} for {expected}, off by {:.4}%", 100.0 * (found / expected - 1.0));
            assert!((found - expected).abs() <= 0.002 * expected.abs(), "{backbone} {file}: {found}, not {expected}");
        }
    }
}
