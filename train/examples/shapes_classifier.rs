//! Trains the small residual classifier of the procedural image set and writes its weights for the model zoo.
//!
//! ```sh
//! cargo run --release -p explainer-train --example shapes_classifier -- model-zoo/assets/shapes_resnet.safetensors
//! ```
//!
//! Every step sees scenes that no step saw before ([`Split::Train`]); what counts is the accuracy of the *written*
//! file on 2,000 scenes of [`Split::Fresh`]. The file holds torchvision's parameter names; convolutions and the last
//! layer are stored in half precision, batch normalisation in single precision.

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::time::Instant;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::activation::relu;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use explainer_train::data::shapes::{SIDE, ShapesSet, Split};
use explainer_zoo::files::write_atomic;

const SEED: u64 = 0;
const BATCH: usize = 32;
const STEPS: usize = 4000;
const WARM_UP: usize = 200;
const PEAK_LEARNING_RATE: f64 = 3e-3;
const FRESH: usize = 2000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().unwrap_or_else(|| "model-zoo/assets/shapes_resnet.safetensors".into());
    let steps = arguments.next().map_or(Ok(STEPS), |steps| steps.parse())?;

    let device = Device::flex();
    device.seed(SEED);
    let path = PathBuf::from(path);
    train(ResNet::new(&device.clone().autodiff()), &device, steps, &path)?;

    let written = load(&path, &device)?;
    let right = count_right(&written, &ShapesSet::new(Split::Fresh, FRESH, SEED), &device);
    let path = path.display();
    println!("{path}: {right} of {FRESH} fresh scenes right ({:.2}%)", 100.0 * right as f64 / FRESH as f64);
    Ok(())
}

/// A residual network in torchvision's manner: a strided stem and one basic block for each of three resolutions.
///
/// Images `[B, 3, 96, 96]` normalised with mean 0.5 and standard deviation 0.5, logits `[B, 10]`.
#[derive(Module, Debug)]
struct ResNet {
    conv1: Conv2d,
    bn1: BatchNorm,
    layer1: Vec<BasicBlock>,
    layer2: Vec<BasicBlock>,
    layer3: Vec<BasicBlock>,
    fc: Linear,
}

impl ResNet {
    fn new(device: &Device) -> Self {
        Self {
            conv1: convolution([3, 16], 3, 2, device),
            bn1: BatchNormConfig::new(16).init(device),
            layer1: vec![BasicBlock::new([16, 32], device)],
            layer2: vec![BasicBlock::new([32, 64], device)],
            layer3: vec![BasicBlock::new([64, 128], device)],
            fc: LinearConfig::new(128, ShapesSet::CLASSES.len()).init(device),
        }
    }

    fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        let stem = relu(self.bn1.forward(self.conv1.forward(images)));
        let blocks = self.layer1.iter().chain(&self.layer2).chain(&self.layer3);
        let features = blocks.fold(stem, |x, block| block.forward(x)); // [B, 128, 6, 6]
        self.fc.forward(features.mean_dim(3).mean_dim(2).flatten(1, 3))
    }
}

/// Two 3x3 convolutions, the first of stride 2, beside a 1x1 convolution of stride 2.
#[derive(Module, Debug)]
struct BasicBlock {
    conv1: Conv2d,
    bn1: BatchNorm,
    conv2: Conv2d,
    bn2: BatchNorm,
    downsample: (Conv2d, BatchNorm),
}

impl BasicBlock {
    fn new([from, to]: [usize; 2], device: &Device) -> Self {
        let norm = BatchNormConfig::new(to);
        Self {
            conv1: convolution([from, to], 3, 2, device),
            bn1: norm.init(device),
            conv2: convolution([to, to], 3, 1, device),
            bn2: norm.init(device),
            downsample: (convolution([from, to], 1, 2, device), norm.init(device)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (reduce, norm) = &self.downsample;
        let short = norm.forward(reduce.forward(x.clone()));
        let long = relu(self.bn1.forward(self.conv1.forward(x)));
        relu(self.bn2.forward(self.conv2.forward(long)) + short)
    }
}

fn convolution(channels: [usize; 2], kernel: usize, stride: usize, device: &Device) -> Conv2d {
    let pad = kernel / 2;
    Conv2dConfig::new(channels, [kernel; 2])
        .with_stride([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
        .with_bias(false)
        .init(device)
}

/// Trains for `steps` steps; the file at `path` is written now and then, and at the end.
fn train(mut model: ResNet, device: &Device, steps: usize, path: &Path) -> Result<(), Box<dyn Error>> {
    let device = device.clone().autodiff();
    // PyTorch's epsilon; Burn's own default is 1e-5.
    let mut optimizer = AdamWConfig::new().with_epsilon(1e-8).with_weight_decay(1e-2).init();
    let criterion = CrossEntropyLossConfig::new().init(&device);

    let set = ShapesSet::new(Split::Train, steps * BATCH, SEED);
    let (send, batches) = sync_channel(2);
    let drawing = std::thread::spawn(move || {
        for step in 0..steps {
            if send.send(draw(&set, step * BATCH..(step + 1) * BATCH)).is_err() {
                break; // training has ended early
            }
        }
    });

    let start = Instant::now();
    let mut sums = [0.0; 2];
    for (step, (images, classes)) in batches.iter().enumerate() {
        let images = Tensor::<4>::from_data(images, &device);
        let classes = Tensor::<1, Int>::from_data(classes, &device);
        let logits = model.forward(images);
        let loss = criterion.forward(logits.clone(), classes.clone());
        let right = logits.argmax(1).flatten::<1>(0, 1).equal(classes).int().sum();
        sums[0] += loss.clone().into_scalar::<f64>();
        sums[1] += right.into_scalar::<f64>();

        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(learning_rate(step, steps), model, gradients);
        const EVERY: usize = 100;
        if (step + 1) % EVERY == 0 {
            let [loss, accuracy] = [sums[0] / EVERY as f64, sums[1] / (EVERY * BATCH) as f64];
            let rate = (step + 1) as f64 / start.elapsed().as_secs_f64();
            println!("step {}: loss {loss:.4}, accuracy {:.2}%, {rate:.2} steps a second", step + 1, 100.0 * accuracy);
            sums = [0.0; 2];
        }
        if (step + 1) % 500 == 0 || step + 1 == steps {
            save(&model.valid(), path)?;
        }
    }
    drawing.join().map_err(|_| "the thread that draws scenes died".into())
}

/// A short linear rise, then a cosine down to zero.
fn learning_rate(step: usize, steps: usize) -> f64 {
    let rise = ((step + 1) as f64 / WARM_UP as f64).min(1.0);
    let fall = 0.5 * (1.0 + (std::f64::consts::PI * step as f64 / steps as f64).cos());
    PEAK_LEARNING_RATE * rise * fall
}

/// The scenes of `range`: images `[n, 3, SIDE, SIDE]` normalised to -1..=1, and classes `[n]`.
fn draw(set: &ShapesSet, range: std::ops::Range<usize>) -> (TensorData, TensorData) {
    let count = range.len();
    let classes: Vec<i64> = range.clone().map(|i| set.class(i) as i64).collect();
    let mut values = Vec::with_capacity(count * 3 * SIDE * SIDE);
    for i in range {
        let image = set.scene(i).image;
        for channel in 0..3 {
            values.extend(image.iter().skip(channel).step_by(3).map(|&c| f32::from(c) / 127.5 - 1.0));
        }
    }
    (TensorData::new(values, [count, 3, SIDE, SIDE]), TensorData::new(classes, [count]))
}

fn count_right(model: &ResNet, set: &ShapesSet, device: &Device) -> usize {
    let mut right = 0;
    for first in (0..set.len()).step_by(BATCH) {
        let (images, classes) = draw(set, first..(first + BATCH).min(set.len()));
        let predicted = model.forward(Tensor::from_data(images, device)).argmax(1).flatten::<1>(0, 1);
        right += predicted.equal(Tensor::from_data(classes, device)).int().sum().into_scalar::<i64>() as usize;
    }
    right
}

/// Writes convolutions and the last layer in half precision; the statistics of a batch normalisation would lose too much.
fn save(model: &ResNet, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut writer = Writer::default();
    model.visit(&mut writer);
    let views: Result<Vec<(&str, TensorView<'_>)>, SafeTensorError> = writer
        .tensors
        .iter()
        .map(|(name, data)| {
            let dtype = if data.dtype() == DType::F16 { Dtype::F16 } else { Dtype::F32 };
            Ok((name.as_str(), TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())?))
        })
        .collect();
    let metadata = [("format", "pt".into()), ("classes", ShapesSet::CLASSES.join(","))];
    let metadata = metadata.map(|(key, value): (&str, String)| (key.to_owned(), value)).into();
    let bytes = safetensors::serialize(views?, Some(metadata))?;
    Ok(write_atomic(path, |out| out.write_all(&bytes))?)
}

fn load(path: &Path, device: &Device) -> Result<ResNet, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let mut reader = Reader { file: SafeTensors::deserialize(&bytes)?, name: Name::default(), fault: None };
    let model = ResNet::new(device).map(&mut reader);
    reader.fault.map_or(Ok(model.valid()), |fault| Err(fault.into()))
}

/// The path of a parameter inside the network.
#[derive(Default)]
struct Name(Vec<String>);

impl Name {
    /// In PyTorch's words, e.g. `layer1.0.downsample.1.weight`.
    fn pytorch(&self) -> String {
        self.0.join(".").replace("gamma", "weight").replace("beta", "bias")
    }
}

#[derive(Default)]
struct Writer {
    name: Name,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Writer {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.name.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.name.0.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let value = if D == 2 { param.val().transpose() } else { param.val() }; // Burn keeps `Linear` as [in, out]
        let dtype = if D == 1 { DType::F32 } else { DType::F16 };
        self.tensors.push((self.name.pytorch(), value.into_data().convert_dtype(dtype)));
    }
}

struct Reader<'a> {
    file: SafeTensors<'a>,
    name: Name,
    fault: Option<SafeTensorError>,
}

impl ModuleMapper for Reader<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.name.0.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.name.0.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let view = match self.file.tensor(&self.name.pytorch()) {
            Ok(view) => view,
            Err(fault) => {
                self.fault = Some(fault);
                return param;
            }
        };
        let dtype = if view.dtype() == Dtype::F16 { DType::F16 } else { DType::F32 };
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        param.map(|old| {
            let new = Tensor::from_data(data.convert_dtype(DType::F32), &old.device());
            if D == 2 { new.transpose() } else { new }
        })
    }
}
