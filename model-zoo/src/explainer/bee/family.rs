//! The families of baselines, which are the arms of the bandit.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::stream::SplitMix64;
use crate::backbone::Backbone;
use crate::image::gaussian_blur;
use crate::path_integral::{PathLayer, representations};

/// A distribution of baselines b for a representation h `[C,h,w]`, an image or a feature map.
///
/// Mean, standard deviation and range are those of h itself, channel by channel over its positions: a baseline keeps
/// the scale of h and loses its content. Images (3 channels) and feature maps (hundreds) are treated alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaselineDistribution {
    /// Every value from N(mean, standard deviation^2) of its channel.
    Normal,
    /// Every value from U(least, largest) of its channel.
    Uniform,
    /// h, blurred by a Gaussian of sigma from U{3..50} pixels of the input; on a grid of cells of s pixels, sigma / s
    /// cells.
    Blur,
    /// Constant: each channel at the same share, from U(0,1), of the way from its least to its largest value.
    Constant,
    /// The representation of a training image, or of the mean of all kept images, each with probability 1/2.
    TrainData,
}

impl BaselineDistribution {
    /// How many there are.
    pub const COUNT: usize = 5;
    /// All of them, in the order in which arms are kept.
    pub const ALL: [Self; Self::COUNT] = [Self::Normal, Self::Uniform, Self::Blur, Self::Constant, Self::TrainData];

    /// The name in reports and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Uniform => "uniform",
            Self::Blur => "blur",
            Self::Constant => "constant",
            Self::TrainData => "train-data",
        }
    }
}

impl fmt::Display for BaselineDistribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No family has this name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown family of baselines {0:?}; known are normal, uniform, blur, constant and train-data")]
pub struct UnknownFamily(String);

impl FromStr for BaselineDistribution {
    type Err = UnknownFamily;

    /// By name.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|family| family.name() == text).ok_or_else(|| UnknownFamily(text.into()))
    }
}

/// Range of the blurred baselines' standard deviation in pixels of the input, both ends included.
const BLUR: (usize, usize) = (3, 50);

/// The training images of the family `train-data`, as feature maps of one site.
#[derive(Clone, Debug)]
pub struct References {
    /// `[1+M,C,h,w]`: the mean image's representation, then those of M training images.
    maps: Tensor<4>,
}

impl References {
    /// The representations of M normalised training images `[M,3,H,W]`, M at least 1, and of their mean, at every
    /// site.
    pub fn forward(backbone: &dyn Backbone, images: &Tensor<4>, sites: &[PathLayer]) -> Vec<Self> {
        let with_mean = Tensor::cat(vec![images.clone().mean_dim(0), images.clone()], 0);
        let (_, seen) = representations(backbone, &with_mean, sites);
        seen.into_iter().map(|seen| Self { maps: seen.map }).collect()
    }

    /// How many training images there are, the mean not counted.
    pub fn count(&self) -> usize {
        self.maps.dims()[0].saturating_sub(1)
    }
}

/// A baseline of `family` for the representation h `[1,C,h,w]` of one image, in its shape, on a grid of cells of
/// `stride` pixels. Every baseline and site needs a `stream` of its own.
pub fn baseline(
    family: BaselineDistribution,
    h: &Tensor<4>,
    stride: usize,
    references: &References,
    stream: &mut SplitMix64,
) -> Tensor<4> {
    let [_, channels, height, width] = h.dims();
    let cells = height * width;
    let flat = || h.clone().reshape([channels, cells]);
    let per_channel = |x: Tensor<2>| x.reshape([1, channels, 1, 1]);
    let mut noise = |draw: fn(&mut SplitMix64) -> f64| {
        let values: Vec<f32> = (0..channels * cells).map(|_| draw(stream) as f32).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, channels, height, width]), &h.device())
    };
    match family {
        BaselineDistribution::Normal => {
            let noise = noise(SplitMix64::normal);
            let mean = flat().mean_dim(1);
            let deviation = (flat() - mean.clone()).powf_scalar(2.0).mean_dim(1).sqrt();
            noise * per_channel(deviation) + per_channel(mean)
        }
        BaselineDistribution::Uniform => {
            let noise = noise(SplitMix64::unit);
            let (low, high) = (per_channel(flat().min_dim(1)), per_channel(flat().max_dim(1)));
            noise * (high - low.clone()) + low
        }
        BaselineDistribution::Blur => {
            let (least, most) = BLUR;
            let sigma = (least + stream.below(most - least + 1)) as f64 / stride.max(1) as f64;
            gaussian_blur(h.clone(), 2 * (3.0 * sigma).ceil() as usize + 1, sigma)
        }
        BaselineDistribution::Constant => {
            let share = stream.unit() as f32;
            let (low, high) = (per_channel(flat().min_dim(1)), per_channel(flat().max_dim(1)));
            ((high - low.clone()) * share + low).expand([1, channels, height, width])
        }
        BaselineDistribution::TrainData => {
            let mean = stream.flip(0.5);
            let other = 1 + stream.below(references.count());
            let index = if mean || references.count() == 0 { 0 } else { other };
            references.maps.clone().narrow(0, index, 1)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backbone::load;
    use crate::device::Compute;
    use crate::path_integral::Representation;
    use crate::weights::random;
    use burn::tensor::Device;

    fn values(tensor: Tensor<4>) -> Vec<f32> {
        tensor.try_into_vec_as::<f32>().unwrap()
    }

    fn noise(name: &str, shape: [usize; 4]) -> Tensor<4> {
        let values = random::uniform(1, name, shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), &Device::default())
    }

    /// The image and two taps of the quickstart's classifier with three training images.
    fn world() -> (Vec<PathLayer>, Vec<Representation>, Vec<References>) {
        let backbone = load("shapes_resnet", "embedded", None, &Compute::default(), &mut |_, _| {}).unwrap();
        let sites: Vec<PathLayer> =
            ["image", "layer1", "layer3"].iter().map(|name| PathLayer::named(&backbone, name, 96).unwrap()).collect();
        let (_, ends) = representations(&backbone, &noise("image", [1, 3, 96, 96]), &sites);
        let references = References::forward(&backbone, &noise("train", [3, 3, 96, 96]), &sites);
        (sites, ends, references)
    }

    /// Mean, standard deviation, least and largest of each channel.
    fn statistics(map: &Tensor<4>) -> Vec<[f32; 4]> {
        let [_, channels, ..] = map.dims();
        let values = values(map.clone());
        let of = |channel: &[f32]| {
            let n = channel.len() as f32;
            let mean = channel.iter().sum::<f32>() / n;
            let deviation = (channel.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt();
            let (low, high) = channel.iter().fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(*v), high.max(*v)));
            [mean, deviation, low, high]
        };
        values.chunks(values.len() / channels).map(of).collect()
    }

    #[test]
    fn baselines_have_the_shape_of_every_site_and_follow_the_seed() {
        let (sites, ends, references) = world();
        for ((site, end), references) in sites.iter().zip(&ends).zip(&references) {
            for family in BaselineDistribution::ALL {
                let draw = |number| {
                    values(baseline(
                        family,
                        &end.map,
                        site.stride(),
                        references,
                        &mut SplitMix64::new(1, "b", &[number]),
                    ))
                };
                let [_, channels, height, width] = end.map.dims();
                assert_eq!(draw(0).len(), channels * height * width, "{family} {site:?}");
                assert_eq!(draw(0), draw(0), "{family} {site:?}");
                assert!((1..9).any(|number| draw(number) != draw(0)), "{family} {site:?}: always the same");
                assert!(draw(0).iter().all(|v| v.is_finite()), "{family} {site:?}");
            }
        }
    }

    #[test]
    fn noise_has_the_statistics_of_the_representation() {
        let (sites, ends, references) = world();
        for ((site, end), references) in sites.iter().zip(&ends).zip(&references).take(2) {
            let own = statistics(&end.map);
            let drawn =
                |family| baseline(family, &end.map, site.stride(), references, &mut SplitMix64::new(2, "b", &[]));
            for (found, expected) in statistics(&drawn(BaselineDistribution::Normal)).iter().zip(&own) {
                let scale = expected[1].max(1e-6);
                assert!((found[0] - expected[0]).abs() < 0.2 * scale, "{site:?}: {found:?} of {expected:?}");
                assert!(
                    (found[1] / scale - 1.0).abs() < 0.2 || expected[1] < 1e-6,
                    "{site:?}: {found:?} of {expected:?}"
                );
            }
            for (found, expected) in statistics(&drawn(BaselineDistribution::Uniform)).iter().zip(&own) {
                let range = expected[3] - expected[2];
                let slack = 1e-5 * expected[3].abs();
                assert!(found[2] >= expected[2] - slack && found[3] <= expected[3] + slack, "{found:?} {expected:?}");
                assert!(found[3] - found[2] >= 0.95 * range, "{site:?}: {found:?} of {expected:?}");
            }
        }
    }

    #[test]
    fn a_constant_is_one_share_of_every_channels_range() {
        let (sites, ends, references) = world();
        for ((site, end), references) in sites.iter().zip(&ends).zip(&references) {
            let drawn = baseline(
                BaselineDistribution::Constant,
                &end.map,
                site.stride(),
                references,
                &mut SplitMix64::new(3, "b", &[]),
            );
            let shares: Vec<f32> = (statistics(&drawn).iter().zip(statistics(&end.map)))
                .filter(|(_, own)| own[3] - own[2] > 1e-3)
                .map(|(found, own)| {
                    assert!(found[3] - found[2] < 1e-6 * own[3].abs().max(1.0), "{site:?}: not constant");
                    (found[2] - own[2]) / (own[3] - own[2])
                })
                .collect();
            assert!(shares.len() > 1 && shares.iter().all(|share| (share - shares[0]).abs() < 1e-3), "{site:?}");
        }
    }

    #[test]
    fn blur_keeps_the_mean_level_and_loses_the_detail() {
        let (sites, ends, references) = world();
        let drawn =
            baseline(BaselineDistribution::Blur, &ends[0].map, 1, &references[0], &mut SplitMix64::new(4, "b", &[]));
        for (found, own) in statistics(&drawn).iter().zip(statistics(&ends[0].map)) {
            assert!((found[0] - own[0]).abs() < 0.05 && found[1] < 0.3 * own[1], "{found:?} of {own:?}");
        }
        // Cells of 16 pixels: at most 50 / 16 cells wide.
        let PathLayer::Tap { stride, .. } = sites[2] else { panic!("a tap") };
        assert_eq!((sites[0].stride(), stride), (1, 16));
    }

    #[test]
    fn train_data_is_the_mean_or_one_of_the_training_images() {
        let (_, ends, references) = world();
        let images = noise("train", [3, 3, 96, 96]);
        let known: Vec<Vec<f32>> = [images.clone().mean_dim(0)]
            .into_iter()
            .chain((0..3).map(|i| images.clone().narrow(0, i, 1)))
            .map(values)
            .collect();
        let mut seen = [0; 4];
        for number in 0..200 {
            let stream = &mut SplitMix64::new(5, "b", &[number]);
            let drawn = values(baseline(BaselineDistribution::TrainData, &ends[0].map, 1, &references[0], stream));
            seen[known.iter().position(|image| *image == drawn).expect("one of them")] += 1;
        }
        assert!((70..130).contains(&seen[0]), "the mean half of the time: {seen:?}");
        assert!(seen[1..].iter().all(|n| (15..55).contains(n)), "{seen:?}");
        assert_eq!(references[2].count(), 3);
    }
}
