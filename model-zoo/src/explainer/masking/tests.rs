use burn::tensor::{Device, Int, Tensor, TensorData, Tolerance};

use super::*;
use crate::backbone::TapSpec;
use crate::head::{ClassSelection, ExplainerHead, ExplainerInput};
use crate::weights::random::uniform;

/// A pyramid of a small ResNet: 24, 12 and 6 cells for 96 pixels.
fn config() -> MaskingModelConfig {
    let taps = [TapSpec::map("layer1", 6, 4), TapSpec::map("layer2", 10, 8), TapSpec::map("layer3", 12, 16)];
    MaskingModelConfig { width: 4, ..MaskingModelConfig::new(&taps, 5, 96).unwrap() }
}

fn tensor(name: &str, shape: [usize; 4], device: &Device) -> Tensor<4> {
    let values: Vec<f32> = uniform(7, name, shape.iter().product()).into_iter().map(|u| 2.0 * u - 0.5).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn pyramid(config: &MaskingModelConfig, batch: usize, device: &Device) -> Vec<Tensor<4>> {
    let scales = config.channels.iter().zip(&config.sides);
    scales.map(|(channels, side)| tensor(&format!("F{side}"), [batch, *channels, *side, *side], device)).collect()
}

fn ints(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_ints(values, device)
}

fn maps(model: &MaskingModel, batch: usize, classes: ClassSelection, device: &Device) -> Tensor<4> {
    let features = pyramid(model.config(), batch, device);
    let images = Tensor::zeros([batch, 3, 96, 96], device);
    model.maps(&ExplainerInput { images: &images, features: &features }, classes)
}

/// A model whose running statistics are not those of a fresh one.
fn trained(config: MaskingModelConfig, device: &Device) -> MaskingModel {
    let fresh = MaskingModel::new(config.clone(), 3, device);
    let values: std::collections::HashMap<_, _> = fresh.values().into_iter().map(|(n, _, v)| (n, v)).collect();
    let moved = |name: &str, _: &[usize]| {
        let noise = uniform(9, name, values[name].len());
        values[name].iter().zip(noise).map(|(v, u)| if name.contains("bn") { v + 0.5 * u } else { *v }).collect()
    };
    MaskingModel::from_values(config, moved, device)
}

#[test]
fn tensors_are_what_the_shape_says_and_make_the_model_again() {
    let device = Device::flex();
    for (class_selector, activation, upsampling) in [
        (true, Activation::Ratio, Upsampling::SubPixel),
        (true, Activation::Sigmoid, Upsampling::Bilinear),
        (false, Activation::Ratio, Upsampling::Bilinear),
    ] {
        let config = MaskingModelConfig { class_selector, activation, upsampling, ..config() };
        let model = trained(config.clone(), &device);
        let values = model.values();
        let named: Vec<_> = values.iter().map(|(name, shape, _)| (name.clone(), shape.clone())).collect();
        assert_eq!(named, config.tensors());
        let again = MaskingModel::from_values(
            config,
            |name, _| values.iter().find(|(other, ..)| other == name).unwrap().2.clone(),
            &device,
        );
        assert_eq!(again.values(), values);
        let [first, second] = [model, again].map(|model| maps(&model, 2, ClassSelection::All, &device));
        assert_eq!(first.into_data(), second.into_data());
    }
}

#[test]
fn a_fresh_model_is_drawn_as_pytorch_draws_it() {
    let device = Device::flex();
    let (model, other) = (MaskingModel::new(config(), 1, &device), MaskingModel::new(config(), 2, &device));
    for ((name, shape, values), (.., differs)) in model.values().into_iter().zip(other.values()) {
        let fan_in: usize = match name.as_str() {
            "output.bias" => 4,
            "stages.0.up.bias" => 12,
            "stages.1.up.bias" => 8,
            _ => shape.iter().skip(1).product(),
        };
        if name.contains("bn") {
            let expected = if name.ends_with("weight") || name.ends_with("var") { 1.0 } else { 0.0 };
            assert!(values.iter().all(|v| *v == expected), "{name}");
            continue;
        }
        let bound = 1.0 / (fan_in as f32).sqrt();
        assert!(values.iter().all(|v| v.abs() <= bound), "{name}");
        assert!(values.len() < 8 || values.iter().any(|v| v.abs() > bound / 2.0), "{name}");
        assert_ne!(values, differs, "{name}");
    }
}

#[test]
fn masks_have_the_first_taps_side_a_quarter_of_the_images() {
    let device = Device::flex();
    let model = MaskingModel::new(config(), 0, &device);
    assert_eq!(maps(&model, 2, ClassSelection::All, &device).dims(), [2, 5, 24, 24]);
    assert_eq!(maps(&model, 2, ClassSelection::Of(ints(&[3, 3, 0], &device)), &device).dims(), [2, 3, 24, 24]);
    assert_eq!(maps(&model, 2, ClassSelection::Each(ints(&[4, 1], &device)), &device).dims(), [2, 1, 24, 24]);
    let shown = model.postprocess(maps(&model, 2, ClassSelection::All, &device)).try_into_vec_as::<f32>().unwrap();
    assert!(shown.iter().all(|m| (0.0..=1.0).contains(m)));
}

#[test]
fn a_class_has_the_same_mask_however_it_is_asked_for() {
    let device = Device::flex();
    // 7 images of 5 classes: more masks than are drawn at a time, and not a multiple of them.
    let model = trained(config(), &device);
    let all = maps(&model, 7, ClassSelection::All, &device);
    let of = maps(&model, 7, ClassSelection::Of(ints(&[4, 0, 4], &device)), &device);
    let expected = all.clone().select(1, ints(&[4, 0, 4], &device));
    of.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-5));

    let classes = [0, 1, 2, 3, 4, 0, 2];
    let each = maps(&model, 7, ClassSelection::Each(ints(&classes, &device)), &device);
    let own = classes.iter().enumerate().map(|(b, k)| all.clone().narrow(0, b, 1).narrow(1, *k as usize, 1)).collect();
    each.into_data().assert_approx_eq::<f32>(&Tensor::cat(own, 0).into_data(), Tolerance::absolute(1e-5));
}

#[test]
fn without_a_selector_every_class_has_the_images_one_mask() {
    let device = Device::flex();
    let model = trained(MaskingModelConfig { class_selector: false, ..config() }, &device);
    assert!(model.values().iter().all(|(name, ..)| !name.starts_with("selector")));
    let each = maps(&model, 18, ClassSelection::Each(ints(&[1; 18], &device)), &device);
    let all = maps(&model, 18, ClassSelection::All, &device);
    assert_eq!(all.dims(), [18, 5, 24, 24]);
    for k in 0..5 {
        assert_eq!(all.clone().narrow(1, k, 1).into_data(), each.to_data());
    }
    let presence = model.presence(tensor("F", [2, 12, 6, 6], &device), ints(&[0, 1], &device));
    assert_eq!(presence.try_into_vec_as::<f32>().unwrap(), [0.0, 0.0]);
}

#[test]
fn a_shut_gate_hides_what_the_class_is() {
    let device = Device::flex();
    let masks = |confidence| {
        let model = trained(MaskingModelConfig { confidence, ..config() }, &device);
        let masks = maps(&model, 1, ClassSelection::All, &device);
        (masks.clone().narrow(1, 0, 1).into_data(), masks.narrow(1, 1, 1).into_data())
    };
    let (first, second) = masks(1e4);
    assert_eq!(first, second);
    let (first, second) = masks(0.0);
    assert_ne!(first, second);
}

#[test]
fn presence_is_the_mean_score() {
    let device = Device::flex();
    let shape = MaskingModelConfig { channels: vec![1, 2], sides: vec![2, 1], classes: 2, width: 4, ..config() };
    let model = MaskingModel::from_values(
        shape,
        |name, shape| match name {
            "selector.weight" => vec![1.0, -2.0, 0.5, 3.0], // E_0 = (1, -2), E_1 = (0.5, 3)
            _ => vec![1.0; shape.iter().product()],
        },
        &device,
    );
    // Two images of 1x2 cells and two channels: means (2, 5) and (0, -1).
    let top = Tensor::<4>::from_floats([[[[1.0, 3.0]], [[4.0, 6.0]]], [[[-1.0, 1.0]], [[0.0, -2.0]]]], &device);
    let found = model.presence(top, ints(&[0, 1], &device)).try_into_vec_as::<f32>().unwrap();
    assert_eq!(found, [2.0 - 10.0, -3.0]);
}

#[test]
fn masks_teach_the_decoder_and_presence_the_selector() {
    let (plain, device) = (Device::flex(), Device::flex().autodiff());
    let model = MaskingModel::new(config(), 0, &device);
    let before = model.values();
    let features = pyramid(model.config(), 3, &plain);
    let images = Tensor::zeros([3, 3, 96, 96], &plain);
    let view = ExplainerInput { images: &images, features: &features };
    let selector = || model.selector.as_ref().unwrap().weight.val();
    let gradients = model.maps(&view, ClassSelection::Each(ints(&[0, 4, 2], &plain))).square().sum().backward();
    assert!(selector().grad(&gradients).is_none());
    for stage in &model.stages {
        for conv in [&stage.up, &stage.reduce, &stage.block.conv1, &stage.block.conv2, &stage.block.conv3] {
            let slope = conv.weight.val().grad(&gradients).unwrap().abs().sum().into_scalar::<f32>();
            assert!(slope.is_finite() && slope > 0.0);
        }
    }
    let moved = model.values().into_iter().zip(before).filter(|(now, then)| now != then);
    assert!(
        moved.map(|(now, _)| now.0).eq(config().tensors().into_iter().map(|t| t.0).filter(|n| n.contains("running")))
    );

    let gradients = model.presence(features[2].clone(), ints(&[0, 4, 2], &plain)).sum().backward();
    let slope = selector().grad(&gradients).unwrap().try_into_vec_as::<f32>().unwrap();
    for (k, row) in slope.chunks(12).enumerate() {
        assert_eq!(row.iter().any(|g| *g != 0.0), [0, 2, 4].contains(&k), "class {k}");
    }
    assert!(model.stages[0].up.weight.val().grad(&gradients).is_none());
}

/// The paper's formulas word for word on plain numbers: maps side by side, one 1x1 convolution over both, and so on.
struct Reference {
    values: std::collections::HashMap<String, Vec<f32>>,
}

/// `[C][row * side + column]`
type Grid = Vec<Vec<f64>>;

impl Reference {
    fn get(&self, name: &str) -> Vec<f64> {
        self.values.get(name).map(|v| v.iter().map(|v| f64::from(*v)).collect()).unwrap_or_default()
    }

    fn conv(&self, name: &str, x: &Grid, side: usize, kernel: usize) -> Grid {
        let (weight, bias) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let outputs = weight.len() / (x.len() * kernel * kernel);
        let at = |c: usize, row: i64, column: i64| {
            let inside = |v: i64| (0..side as i64).contains(&v);
            if inside(row) && inside(column) { x[c][row as usize * side + column as usize] } else { 0.0 }
        };
        let pad = kernel as i64 / 2;
        let cell = |o: usize, place: usize| {
            let mut sum = bias.get(o).copied().unwrap_or(0.0);
            for (c, i, j) in (0..x.len()).flat_map(|c| (0..kernel * kernel).map(move |k| (c, k / kernel, k % kernel))) {
                let w = weight[((o * x.len() + c) * kernel + i) * kernel + j];
                sum += w * at(c, (place / side) as i64 + i as i64 - pad, (place % side) as i64 + j as i64 - pad);
            }
            sum
        };
        (0..outputs).map(|o| (0..side * side).map(|place| cell(o, place)).collect()).collect()
    }

    fn norm(&self, name: &str, x: Grid) -> Grid {
        let [gamma, beta, mean, variance] =
            ["weight", "bias", "running_mean", "running_var"].map(|part| self.get(&format!("{name}.{part}")));
        let channel = |(c, x): (usize, Vec<f64>)| {
            x.into_iter().map(|x| (x - mean[c]) / (variance[c] + 1e-5).sqrt() * gamma[c] + beta[c]).collect()
        };
        x.into_iter().enumerate().map(channel).collect()
    }

    fn stage(&self, i: usize, x: &Grid, skip: &Grid, side: usize) -> Grid {
        let name = |part: &str| format!("stages.{i}.{part}");
        let fine = self.conv(&name("up"), x, side, 1);
        let side = 2 * side;
        let up = |c: usize| {
            let cell =
                |row: usize, column: usize| fine[4 * c + 2 * (row % 2) + column % 2][row / 2 * (side / 2) + column / 2];
            (0..side * side).map(|place| cell(place / side, place % side)).collect()
        };
        let mut both: Grid = (0..fine.len() / 4).map(up).collect();
        both.extend(skip.iter().cloned());
        let x = relu(self.norm(&name("bn"), self.conv(&name("reduce"), &both, side, 1)));
        let mut y = x.clone();
        for (j, kernel) in [(1, 1), (2, 3), (3, 1)] {
            y = self
                .norm(&name(&format!("block.bn{j}")), self.conv(&name(&format!("block.conv{j}")), &y, side, kernel));
            y = if j < 3 { relu(y) } else { y };
        }
        relu(y.into_iter().zip(x).map(|(y, x)| y.into_iter().zip(x).map(|(y, x)| y + x).collect()).collect())
    }
}

fn relu(x: Grid) -> Grid {
    x.into_iter().map(|x| x.into_iter().map(|x| x.max(0.0)).collect()).collect()
}

#[test]
fn masks_are_those_of_the_formulas() {
    let device = Device::flex();
    for activation in [Activation::Ratio, Activation::Sigmoid] {
        let config = MaskingModelConfig {
            channels: vec![2, 3, 4],
            sides: vec![8, 4, 2],
            width: 4,
            confidence: 0.3,
            activation,
            ..config()
        };
        let model = trained(config.clone(), &device);
        let values = model.values().into_iter().map(|(name, _, values)| (name, values)).collect();
        let reference = Reference { values };
        let features = pyramid(&config, 2, &device);
        let masks = model.postprocess(maps(&model, 2, ClassSelection::All, &device));
        let found = masks.try_into_vec_as::<f32>().unwrap();
        let image = |b: usize, i: usize| -> Grid {
            let size = config.sides[i] * config.sides[i];
            let values = features[i].clone().narrow(0, b, 1).try_into_vec_as::<f32>().unwrap();
            values.chunks(size).map(|channel| channel.iter().map(|v| f64::from(*v)).collect()).collect()
        };
        let embeddings = reference.get("selector.weight");
        for (b, class) in (0..2).flat_map(|b| (0..5).map(move |class| (b, class))) {
            let mut top = image(b, 2);
            for place in 0..4 {
                let score: f64 = (0..4).map(|c| embeddings[4 * class + c] * top[c][place]).sum();
                let gate = 1.0 / (1.0 + (0.3 - score).exp());
                top.iter_mut().for_each(|channel| channel[place] *= gate);
            }
            let x = reference.stage(0, &top, &image(b, 1), 2);
            let x = reference.stage(1, &x, &image(b, 0), 4);
            let out = reference.conv("output", &x, 8, 1);
            for place in 0..64 {
                let expected = match activation {
                    Activation::Ratio => out[0][place].abs() / (out[0][place].abs() + out[1][place].abs()),
                    Activation::Sigmoid => 1.0 / (1.0 + (-out[0][place] / 2.0).exp()),
                };
                let mask = f64::from(found[(b * 5 + class) * 64 + place]);
                assert!((mask - expected).abs() < 1e-3, "{activation:?} {b} {class} {place}: {mask} {expected}");
            }
        }
    }
}

#[test]
fn bilinear_upsampling_commutes_with_its_convolution() {
    let device = Device::flex();
    let config = MaskingModelConfig { upsampling: Upsampling::Bilinear, ..config() };
    let stage = &trained(config, &device).stages[0];
    let (x, skip) = (tensor("x", [2, 12, 6, 6], &device), tensor("skip", [2, 10, 12, 12], &device));
    let found = stage.forward(stage.project(x.clone()), stage.beside(&skip));
    let up = stage.up.forward(crate::bilinear::resize(x, [12, 12]));
    let both = stage.reduce.forward(Tensor::cat(vec![up, skip], 1));
    let expected = stage.block.forward(burn::tensor::activation::relu(stage.bn.forward(both)));
    found.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
}
