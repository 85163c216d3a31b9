//! The attention head.

use std::sync::Arc;

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, activation};

use super::config::TameConfig;
use super::norm::BatchNorm;
use crate::backbone::layers::pointwise;
use crate::head::{ClassSelection, ExplainerHead, ExplainerInput};
use crate::maps::min_max;
use crate::sync_batch_norm::SyncBatchNorm;
use crate::weights::random::uniform;

/// A 1x1 convolution with trainable weights, named as in PyTorch.
#[derive(Module, Debug)]
pub struct Pointwise {
    /// `[O,C,1,1]`
    pub weight: Param<Tensor<4>>,
    /// `[O]`
    pub bias: Option<Param<Tensor<1>>>,
}

/// An attention head.
#[derive(Module, Debug)]
pub struct TameHead {
    /// One a tap; empty without branches.
    pub convs: Vec<Pointwise>,
    /// One a tap; empty without branches.
    pub bns: Vec<BatchNorm>,
    /// From all taps' channels to K maps.
    pub fuser: Pointwise,
    #[module(skip)]
    config: TameConfig,
}

impl TameHead {
    /// A fresh head: convolutions as PyTorch initialises them, uniform in +-1/sqrt(fan in), from `seed`.
    pub fn new(config: TameConfig, seed: u64, device: &Device) -> Self {
        let init = |name: &str, shape: &[usize]| {
            let fan_in = if name.starts_with("fuser") { config.channels.iter().sum() } else { 0 };
            let own = name.split('.').nth(1).and_then(|i| i.parse::<usize>().ok()).and_then(|i| config.channels.get(i));
            let fan_in = own.copied().unwrap_or(fan_in).max(1);
            let length = shape.iter().product();
            match name.rsplit('.').next() {
                Some("running_mean") => vec![0.0; length],
                Some("running_var") => vec![1.0; length],
                Some("weight") if name.starts_with("bns") => vec![1.0; length],
                Some("bias") if name.starts_with("bns") => vec![0.0; length],
                _ => {
                    let bound = 1.0 / (fan_in as f32).sqrt();
                    uniform(seed, name, length).into_iter().map(|u| (u * 2.0 - 1.0) * bound).collect()
                }
            }
        };
        Self::from_values(config.clone(), init, device)
    }

    /// A head whose tensors, in row-major order, are `values(name, shape)`.
    pub fn from_values(config: TameConfig, values: impl Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> Self {
        fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
            Tensor::from_data(TensorData::new(values, shape), device)
        }
        let vector = |name: String, n: usize| tensor(values(&name, &[n]), [n], device);
        let conv = |name: String, output: usize, input: usize, bias: bool| Pointwise {
            weight: Param::from_tensor(tensor(
                values(&format!("{name}.weight"), &[output, input, 1, 1]),
                [output, input, 1, 1],
                device,
            )),
            bias: bias.then(|| Param::from_tensor(vector(format!("{name}.bias"), output))),
        };
        let branches = || config.channels.iter().copied().enumerate().filter(|_| config.branches);
        let convs = branches().map(|(i, c)| conv(format!("convs.{i}"), c, c, true)).collect();
        let norm = |i: usize, c: usize| {
            let part = |part: &str| vector(format!("bns.{i}.{part}"), c);
            BatchNorm::new(part("weight"), part("bias"), part("running_mean"), part("running_var"))
        };
        let bns = branches().map(|(i, c)| norm(i, c)).collect();
        let fuser = conv("fuser".into(), config.classes, config.channels.iter().sum(), config.fuse_bias);
        Self { convs, bns, fuser, config }
    }

    /// The same with a fuser of zeros: flat maps, the same for every class, until it has learned.
    #[must_use]
    pub fn with_zero_fuser(mut self) -> Self {
        fn zeros<const D: usize>(param: &Param<Tensor<D>>) -> Param<Tensor<D>> {
            Param::from_tensor(param.val().zeros_like())
        }
        self.fuser = Pointwise { weight: zeros(&self.fuser.weight), bias: self.fuser.bias.as_ref().map(zeros) };
        self
    }

    /// The head's shape.
    pub fn config(&self) -> &TameConfig {
        &self.config
    }

    /// Every tensor by PyTorch's name, in [`TameConfig::tensors`]' order: shape and values.
    pub fn values(&self) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        let tensor = |name: &str| -> TensorData {
            let mut parts = name.split('.');
            let module = parts.next();
            let index = name.split('.').nth(1).and_then(|i| i.parse::<usize>().ok()).unwrap_or(0);
            let part = name.rsplit('.').next().unwrap_or_default();
            match (module, part) {
                (Some("bns"), part) => self.bns[index].part(part),
                (Some("convs"), part) => self.convs[index].part(part),
                (_, part) => self.fuser.part(part),
            }
        };
        self.config
            .tensors()
            .into_iter()
            .map(|(name, shape)| {
                let values = tensor(&name).iter::<f32>().collect();
                (name, shape, values)
            })
            .collect()
    }
}

impl Pointwise {
    fn part(&self, part: &str) -> TensorData {
        match (part, &self.bias) {
            ("bias", Some(bias)) => bias.val().into_data(),
            _ => self.weight.val().into_data(),
        }
    }
}

impl ExplainerHead for TameHead {
    fn maps(&self, view: &ExplainerInput<'_>, classes: ClassSelection) -> Tensor<4> {
        let (mut weight, mut bias) = (self.fuser.weight.val(), self.fuser.bias.as_ref().map(|b| b.val()));
        let each = matches!(classes, ClassSelection::Each(_));
        if let ClassSelection::Of(classes) | ClassSelection::Each(classes) = classes {
            weight = weight.select(0, classes.clone());
            bias = bias.map(|bias| bias.select(0, classes));
        }
        let [rows, ..] = weight.dims();
        let mut parts = Vec::with_capacity(view.features.len());
        let mut offset = 0;
        for (i, feature) in view.features.iter().enumerate() {
            let [_, channels, ..] = feature.dims();
            let attended = match (self.convs.get(i), self.bns.get(i)) {
                (Some(conv), Some(bn)) => {
                    let branch = pointwise(feature.clone(), conv.weight.val(), conv.bias.as_ref().map(|b| b.val()));
                    activation::relu(bn.forward(branch) + feature.clone())
                }
                _ => feature.clone(),
            };
            let slice = weight.clone().narrow(1, offset, channels);
            parts.push(if each { own_row(attended, slice) } else { pointwise(attended, slice, None) });
            offset += channels;
        }
        let [height, width] = self.config.map_size;
        let batch = view.images.dims()[0];
        let (maps, shape) = if each { (1, [rows, 1, 1, 1]) } else { (rows, [1, rows, 1, 1]) };
        let empty = || Tensor::zeros([batch, maps, height, width], &view.images.device());
        let fused = self.config.upsampling.sum(parts, self.config.map_size).unwrap_or_else(empty);
        match bias {
            Some(bias) => fused + bias.reshape(shape),
            None => fused,
        }
    }

    fn postprocess(&self, raw: Tensor<4>) -> Tensor<4> {
        min_max(raw)
    }

    fn synchronised(mut self, sync: Option<&Arc<SyncBatchNorm>>) -> Self {
        self.bns = self.bns.into_iter().map(|bn| bn.synchronised(sync.cloned())).collect();
        self
    }

    /// Mean and variance of each normalisation, in order.
    fn running(&self) -> Vec<f32> {
        let all = self.bns.iter().flat_map(BatchNorm::running);
        all.flat_map(|statistic| statistic.into_data().iter::<f32>().collect::<Vec<_>>()).collect()
    }

    fn set_running(&self, values: &[f32]) {
        let mut rest = values;
        for bn in &self.bns {
            let next = bn.running().map(|old| {
                let (own, behind) = rest.split_at_checked(old.dims()[0]).unwrap_or((rest, &[]));
                rest = behind;
                if own.len() < old.dims()[0] { old } else { Tensor::from_data(own, &old.device()) }
            });
            bn.set_running(next);
        }
    }
}

/// A 1x1 convolution to one channel with weights of its own for every image: x `[B,C,H,W]`, weight `[B,C,1,1]` to
/// `[B,1,H,W]`.
fn own_row(x: Tensor<4>, weight: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let weight = weight.reshape([batch, 1, channels]);
    weight.matmul(x.reshape([batch, channels, height * width])).reshape([batch, 1, height, width])
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Int, Tolerance};

    use super::super::upsampling::Upsampling;
    use super::*;

    #[test]
    fn each_images_own_class_has_the_map_it_has_among_all() {
        let device = Device::flex();
        for (fuse_bias, upsampling) in [(true, Upsampling::Resize), (false, Upsampling::Doubling)] {
            let config = TameConfig {
                channels: vec![3, 5],
                classes: 7,
                map_size: [4, 4],
                branches: true,
                fuse_bias,
                upsampling,
            };
            let head = TameHead::new(config, 1, &device);
            let tensor = |name: &str, shape: [usize; 4]| -> Tensor<4> {
                Tensor::from_data(TensorData::new(uniform(3, name, shape.iter().product()), shape), &device)
            };
            let (images, features) =
                (tensor("x", [2, 3, 8, 8]), [tensor("a", [2, 3, 4, 4]), tensor("b", [2, 5, 2, 2])]);
            let view = ExplainerInput { images: &images, features: &features };
            let all = head.maps(&view, ClassSelection::All);
            let own = head.maps(&view, ClassSelection::Each(Tensor::<1, Int>::from_ints([6, 2], &device)));
            let [first, second] = [(0, 6), (1, 2)].map(|(b, k)| all.clone().narrow(0, b, 1).narrow(1, k, 1));
            let expected = Tensor::cat(vec![first, second], 0);
            own.into_data().assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-6));
        }
    }

    #[test]
    fn a_fuser_of_zeros_gives_flat_maps_and_learns() {
        let device = Device::flex().autodiff();
        for fuse_bias in [true, false] {
            let config = TameConfig {
                channels: vec![3],
                classes: 2,
                map_size: [4, 4],
                branches: true,
                fuse_bias,
                upsampling: Upsampling::Resize,
            };
            let before = TameHead::new(config, 1, &device);
            let head = before.clone().with_zero_fuser();
            let of = |head: &TameHead, part: &str| {
                head.values().into_iter().filter(|(name, ..)| name.starts_with(part)).collect::<Vec<_>>()
            };
            assert_eq!(of(&head, "convs"), of(&before, "convs"));
            assert!(of(&head, "fuser").iter().all(|(.., values)| values.iter().all(|value| *value == 0.0)));

            let features = [Tensor::from_data(TensorData::new(uniform(3, "a", 48), [1, 3, 4, 4]), &device)];
            let view = ExplainerInput { images: &features[0], features: &features };
            let maps = head.maps(&view, ClassSelection::All);
            assert!(maps.clone().into_data().iter::<f32>().all(|value| value == 0.0));
            let gradients = activation::sigmoid(maps).sum().backward();
            let gradient = head.fuser.weight.val().grad(&gradients).unwrap();
            assert!(gradient.into_data().iter::<f32>().all(|value| value > 0.0), "each channel is positive somewhere");
        }
    }
}
