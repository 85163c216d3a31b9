//! Writes an artifact with a head of drawn weights, of T-TAME or of the method that the second argument names (`ptame`,
//! `masking_model`), to the folder given, and beside it `features.safetensors` with feature maps and the maps drawn from
//! them: what `scripts/check_pytorch.py` compares with PyTorch.

use std::error::Error;
use std::path::PathBuf;

use burn::tensor::{Device, Tensor, TensorData};
use explainer_zoo::artifact::{Artifact, ArtifactConfig};
use explainer_zoo::backbone::{BackboneSpec, TapSpec, imagenet};
use explainer_zoo::explainer::{
    AnyHeadConfig, ClassSelection, ExplainerHead, ExplainerInput, MaskingModelConfig, Method, TameConfig,
};
use safetensors::tensor::{Dtype, TensorView};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("which folder? give it as the argument")?);
    let method = match std::env::args().nth(2).as_deref() {
        Some("ptame") => Method::Ptame,
        Some("masking_model") => Method::MaskingModel,
        _ => Method::Ttame,
    };
    let device = Device::flex();
    let taps = vec![TapSpec::map("layer2", 24, 8), TapSpec::map("layer3", 40, 16), TapSpec::map("layer4", 56, 32)];
    let names: Vec<String> = taps.iter().map(|tap| tap.name.clone()).collect();
    let backbone = BackboneSpec {
        name: "resnet18".into(),
        preprocessing: imagenet(),
        classes: 10,
        default_taps: names.clone(),
        auxiliary_taps: names.clone(),
        taps,
        weights_sha256: None,
    };

    let (classes, side) = (backbone.classes, backbone.preprocessing.crop);
    let shape: AnyHeadConfig = match method {
        Method::Ptame => TameConfig::ptame(&backbone.taps, classes, side)?.into(),
        Method::MaskingModel => {
            MaskingModelConfig { width: 16, ..MaskingModelConfig::new(&backbone.taps, classes, side)? }.into()
        }
        _ => TameConfig::ttame(&backbone.taps, classes, side).into(),
    };
    // Variances and scales are positive, as those of a trained head.
    let values = |name: &str, shape: &[usize]| {
        let positive = name.ends_with("running_var") || (name.contains("bn") && name.ends_with("weight"));
        let values = noise(name, shape.iter().product());
        values.into_iter().map(|v| if positive { 0.5 + v.abs() } else { v / 4.0 }).collect()
    };
    let head = shape.from_values(values, &device);

    let images = Tensor::<4>::zeros([2, 3, 224, 224], &device);
    let features: Vec<Tensor<4>> = (backbone.taps.iter())
        .map(|tap| {
            let shape = [2, tap.channels, tap.grid(224), tap.grid(224)];
            Tensor::from_data(TensorData::new(noise(&tap.name, shape.iter().product()), shape), &device)
        })
        .collect();
    let maps = head.maps(&ExplainerInput { images: &images, features: &features }, ClassSelection::All);

    let mut config = ArtifactConfig::new(method, shape, names, &backbone, "random");
    if method.requirements().auxiliary {
        config = config.with_auxiliary(&backbone, "random");
    }
    Artifact { config, head }.save(&folder, "# no run: drawn weights\n")?;

    let mut files = Vec::new();
    let named = features.into_iter().enumerate().map(|(i, x)| (format!("tap.{i}"), x)).chain([("maps".into(), maps)]);
    for (name, tensor) in named {
        let shape = tensor.dims().to_vec();
        let bytes: Vec<u8> = tensor.into_data().iter::<f32>().flat_map(f32::to_le_bytes).collect();
        files.push((name, shape, bytes));
    }
    let views = files.iter().map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    let views = views.collect::<Result<Vec<_>, safetensors::SafeTensorError>>()?;
    std::fs::write(folder.join("features.safetensors"), safetensors::serialize(views, None)?)?;
    Ok(())
}

/// Numbers in -1..1 that depend on `name` alone (a linear congruential generator).
fn noise(name: &str, length: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(1u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..length).map(|_| next()).collect()
}
