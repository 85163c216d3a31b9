//! What is no artifact, and says why.

use super::*;

#[test]
fn a_masking_model_that_cannot_be_is_refused() {
    for (pointer, value, parts) in [
        ("/method", json!("ttame"), &["method is ttame"][..]),
        ("/head/sides", json!([16, 8, 5]), &["head.sides", "[16, 8, 5]", "half"]),
        ("/head/sides", json!([16, 8]), &["head.sides"]),
        ("/head/channels", json!([4]), &["head.channels", "2 to 16"]),
        ("/head/width", json!(0), &["head.width"]),
        ("/head/width", json!(1u64 << 60), &["parameters"]),
        ("/head/classes", json!(0), &["head.classes"]),
        ("/head/activation", json!("cubic"), &["cubic", "ratio"]),
        ("/head/colour", json!(1), &["unknown keys", "head.colour"]),
        ("/head/upsampling", json!("bilinear"), &["stages.0.up.weight"]),
    ] {
        let (_keep, folder) = saved_of(&masking_model());
        edit(&folder, pointer, value);
        contains(&load_error(&folder), parts);
    }
}

#[test]
fn an_auxiliary_that_cannot_be_is_refused() {
    for (pointer, value, parts) in [
        ("/auxiliary", json!(null), &["auxiliary is not there", "method ptame"][..]),
        ("/auxiliary/std", json!([1.0, -1.0, 1.0]), &["auxiliary", "std above 0"]),
        ("/auxiliary/colour", json!("red"), &["unknown keys", "auxiliary.colour"]),
        ("/method", json!("tame"), &["auxiliary is mobilenet_v3_small", "none with method tame"]),
        ("/head/upsampling", json!("tripling"), &["tripling", "doubling"]),
    ] {
        let (_keep, folder) = saved_of(&ptame());
        edit(&folder, pointer, value);
        contains(&load_error(&folder), parts);
    }
}

#[test]
fn a_newer_format_is_refused_whatever_else_it_holds() {
    let (_keep, folder) = saved();
    fs::write(folder.join(CONFIG), r#"{"method": {"of": "tomorrow"}, "schema_version": 2}"#).unwrap();
    contains(&load_error(&folder), &["config.json", "schema_version 2", "reads 1", "newer"]);
}

#[test]
fn unknown_keys_are_refused_on_every_level() {
    let (_keep, folder) = saved();
    edit(&folder, "/colour", json!("red"));
    edit(&folder, "/head/heads", json!(8));
    contains(&load_error(&folder), &["config.json", "unknown keys", "colour", "head.heads"]);
}

#[test]
fn a_config_that_is_no_config_is_refused() {
    let (_keep, folder) = saved();
    let whole = fs::read_to_string(folder.join(CONFIG)).unwrap();
    fs::write(folder.join(CONFIG), &whole[..whole.len() / 2]).unwrap();
    contains(&load_error(&folder), &["config.json", "line"]);
    fs::write(folder.join(CONFIG), whole.replace("\"ttame\"", "\"grad_cam\"")).unwrap();
    contains(&load_error(&folder), &["config.json", "grad_cam", "lcam_img"]);
    fs::remove_file(folder.join(CONFIG)).unwrap();
    contains(&load_error(&folder), &["cannot read", "config.json"]);
}

#[test]
fn absurd_sizes_are_refused_before_they_are_allocated() {
    for (pointer, value, part) in [
        ("/head/channels", json!([2, 1_000_000_000_000_u64]), "at most"),
        ("/head/channels", json!([2, u64::MAX]), "at most"),
        ("/head/channels", json!([]), "one positive number a tap"),
        ("/head/channels", json!(vec![1; 100_000]), "at most 1024 taps"),
        ("/head/classes", json!(0), "at least one class"),
        ("/head/classes", json!(u64::MAX), "at most"),
        ("/head/map_size", json!([8, 100_000]), "head.map_size"),
        ("/preprocessing/crop", json!(0), "preprocessing"),
        ("/preprocessing/std", json!([1.0, 0.0, 1.0]), "std above 0"),
        ("/taps", json!(["layer2"]), "taps"),
        ("/class_names", json!(["cat"]), "a list of 1, expected 4"),
    ] {
        let (_keep, folder) = saved();
        edit(&folder, pointer, value);
        contains(&load_error(&folder), &[part]);
    }
}

#[test]
fn a_truncated_model_is_refused() {
    let (_keep, folder) = saved();
    let whole = fs::read(folder.join(MODEL)).unwrap();
    for length in [4, whole.len() / 2, whole.len() - 1] {
        fs::write(folder.join(MODEL), &whole[..length]).unwrap();
        contains(&load_error(&folder), &["model.safetensors", "is it complete"]);
    }
    fs::write(folder.join(MODEL), "").unwrap();
    contains(&load_error(&folder), &["model.safetensors", "an empty file", "download"]);
}

#[test]
fn every_tensor_that_does_not_fit_is_listed() {
    let (_keep, folder) = saved();
    rewrite(&folder, |tensors| {
        tensors.retain(|(name, ..)| name != "bns.1.bias");
        tensors.push(("stranger".into(), vec![1], vec![0.0]));
        let fuser = tensors.iter_mut().find(|(name, ..)| name == "fuser.bias").unwrap();
        *fuser = ("fuser.bias".into(), vec![5], vec![0.0; 5]);
    });
    let parts = ["model.safetensors", "ttame", "bns.1.bias", "stranger", "fuser.bias is [5], expected [4]"];
    contains(&load_error(&folder), &parts);
}

#[test]
fn values_that_make_no_map_are_refused() {
    for (tensor, value, problem) in [
        ("convs.0.weight", f32::NAN, "not finite"),
        ("fuser.weight", f32::INFINITY, "not finite"),
        ("bns.1.running_var", -1.0, "negative variances"),
    ] {
        let (_keep, folder) = saved();
        rewrite(&folder, |tensors| tensors.iter_mut().find(|(name, ..)| name == tensor).unwrap().2[1] = value);
        contains(&load_error(&folder), &[tensor, "1 values", problem]);
    }
}

#[test]
fn parts_of_two_artifacts_are_told_apart() {
    let (_keep, folder) = saved();
    let mut other = artifact();
    other.head = other.config.head.init(2, &device());
    fs::write(folder.join(MODEL), serialise(&other.head.values()).unwrap()).unwrap();
    contains(&load_error(&folder), &["model.safetensors", "SHA-256", "model_sha256"]);
    edit(&folder, "/model_sha256", Value::Null);
    assert_eq!(bits(&Artifact::load(&folder, &device()).unwrap().head), bits(&other.head), "the user may accept it");
}
