use super::*;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use std::path::PathBuf;

fn file(folder: &Path, tensors: &[(&str, Dtype, Vec<usize>, Vec<u8>)]) -> PathBuf {
    let path = folder.join("w.safetensors");
    let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    path
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn every_float_type_reads_as_f32() {
    let folder = tempfile::tempdir().unwrap();
    let half = |v: f32| f16::from_f32(v).to_le_bytes().to_vec();
    let brain = |v: f32| bf16::from_f32(v).to_le_bytes().to_vec();
    let path = file(
        folder.path(),
        &[
            ("a", Dtype::F32, vec![2], bytes(&[1.5, -2.0])),
            ("b", Dtype::F16, vec![1], half(0.25)),
            ("c", Dtype::BF16, vec![1], brain(-8.0)),
        ],
    );
    let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
    assert_eq!(reader.values("a", &[2]), [1.5, -2.0]);
    assert_eq!(reader.values("b", &[1]), [0.25]);
    assert_eq!(reader.values("c", &[1]), [-8.0]);
    reader.finish("test").unwrap();
}

#[test]
fn one_error_lists_every_problem() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(
        folder.path(),
        &[
            ("wide", Dtype::F32, vec![1, 2], bytes(&[0.0, 0.0])),
            ("stranger", Dtype::F32, vec![1], bytes(&[0.0])),
            ("bn.num_batches_tracked", Dtype::I64, vec![], 0i64.to_le_bytes().to_vec()),
        ],
    );
    let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
    reader.values("wide", &[2, 2]);
    reader.values("absent", &[1]);
    let text = reader.finish("tiny").unwrap_err().to_string();
    for part in
        ["tiny", "wide is [1, 2], expected [2, 2]", "missing (1): absent", "not part of the network (1): stranger"]
    {
        assert!(text.contains(part), "{part:?} not in {text}");
    }
    assert!(!text.contains("num_batches_tracked"), "{text}");
}

#[test]
fn nothing_is_allocated_for_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &[("a", Dtype::F32, vec![2], bytes(&[1.0, 2.0]))]);
    let mut reader = WeightReader::open(&path, &Device::default()).unwrap();
    let huge = [usize::MAX / 8, 8, 8]; // zeros of this shape would end the program
    assert_eq!(reader.fitting_values("a", &huge), None);
    assert_eq!(reader.fitting_values("b", &huge), None);
    assert_eq!(reader.fitting_values("a", &[2]), Some(vec![1.0, 2.0]));
    let text = reader.finish("huge").unwrap_err().to_string();
    assert!(text.contains("a is [2], expected") && text.contains("missing (1): b"), "{text}");
}

/// `tests/fixtures/lightning.py` writes the file: a tensor of 2 x 3 values whose storage has four.
#[test]
fn a_pytorch_tensor_with_too_few_values_is_refused() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/short.pth");
    let Err(error) = WeightReader::open(&path, &Device::default()) else { panic!("it was accepted") };
    let text = error.to_string();
    assert!(matches!(error, WeightsError::Format { .. }) && text.contains("[2, 3]"), "{text}");
}

/// A tensor of one value under each name.
fn named(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let tensors: Vec<_> = names.iter().map(|name| (*name, Dtype::F32, vec![1], bytes(&[2.0]))).collect();
    let path = file(folder.path(), &tensors);
    (folder, path)
}

#[test]
fn a_network_inside_a_checkpoint_is_found_behind_any_prefix() {
    for prefix in ["", "module.", "_orig_mod.", "state_dict.module._orig_mod.", "_orig_mod.module.", "weights."] {
        let names = ["conv.weight", "fc.weight"].map(|name| format!("{prefix}{name}"));
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        if !prefix.is_empty() {
            names.push("optimizer.state.0.momentum_buffer");
            names.push("best_acc1");
        }
        let (_folder, path) = named(&names);
        let mut reader = WeightReader::open(&path, &Device::default()).unwrap().with_head("fc.weight").unwrap();
        assert_eq!(reader.rows("fc.weight", 1000), 1, "{prefix}");
        assert_eq!((reader.values("conv.weight", &[1]), reader.values("fc.weight", &[1])), (vec![2.0], vec![2.0]));
        reader.finish("test").unwrap();
    }
}

#[test]
fn two_sets_of_weights_are_named() {
    let (_folder, path) = named(&["state_dict.fc.weight", "state_dict_ema.fc.weight"]);
    let reader = WeightReader::open(&path, &Device::default()).unwrap();
    let Err(error) = reader.with_head("fc.weight") else { panic!("one was chosen") };
    let text = error.to_string();
    assert!(text.contains("2 sets of weights: state_dict, state_dict_ema"), "{text}");
}

#[test]
fn a_feature_extractor_has_no_head() {
    let message = |names: &[&str]| {
        let (_folder, path) = named(names);
        let mut reader = WeightReader::open(&path, &Device::default()).unwrap().with_head("head.weight").unwrap();
        reader.values("head.weight", &[1]);
        reader.values("norm.weight", &[1]);
        reader.finish("vit").unwrap_err().to_string()
    };
    let own = message(&["norm.weight"]);
    assert!(own.contains("no classification head for vit (no head.weight)") && !own.contains("timm"), "{own}");
    let other = message(&["layernorm.weight", "embeddings.cls_token"]);
    assert!(other.contains("no classification head") && other.contains("Hugging Face transformers"), "{other}");
    assert!(message(&["norm.weight", "fc.weight"]).contains("missing (1): head.weight"));
}

#[test]
fn a_pointer_in_place_of_the_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["w.safetensors", "w.pth"] {
        let path = folder.path().join(name);
        std::fs::write(&path, "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 7\n").unwrap();
        let Err(error) = WeightReader::open(&path, &Device::default()) else { panic!("it was read") };
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("Git LFS pointer") && text.contains("git lfs pull"), "{text}");
    }
}

#[test]
fn a_truncated_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), &[("a", Dtype::F32, vec![4], bytes(&[0.0; 4]))]);
    let whole = std::fs::read(&path).unwrap();
    for length in [1, 7, 9, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let Err(error) = WeightReader::open(&path, &Device::default()) else { panic!("{length} bytes were accepted") };
        assert!(matches!(error, WeightsError::Format { .. }), "{error}");
    }
    let huge = [u64::MAX.to_le_bytes().as_slice(), b"{}"].concat();
    std::fs::write(&path, huge).unwrap();
    assert!(WeightReader::open(&path, &Device::default()).is_err());
}
