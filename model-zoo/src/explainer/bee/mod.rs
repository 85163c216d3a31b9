//! BEE, Baseline Exploration-Exploitation (Barkan et al., AAAI 2025): a path integral whose baseline is random, with a
//! distribution that is learned for each metric.
//!
//! A map is a path integral from a baseline to the feature map of the image, see [`crate::path_integral`]. The
//! distribution of the baseline ([`BaselineDistribution`]) decides how good the map is, for each image and metric
//! differently. For each metric, a [`Mixture`] learns from rewards which distribution to draw from.
//! An explanation draws several times and keeps the map with the best score (pBEE). The fine-tuned variant (fBEE) also
//! learns from each draw on the image.
//!
//! The caller scores the maps, by a closure from maps to scores. The score is `None` where the metric is undefined: the
//! mixture does not learn from such a map, and it is never the best. A constant map is the best only if all maps are
//! constant: its score depends on the order of equal pixels alone. With several sites, the map is the mean of the sites'
//! maps, each scaled to 0..1, scaled to 0..1 again.

mod context;
mod error;
mod family;
mod history;
mod metric;
mod mixture;
mod posterior;
mod section;
mod state;
mod stream;

use std::sync::Arc;

use burn::tensor::{Int, Tensor, TensorData};

pub use context::Encoder;
pub use error::BeeError;
pub use family::{BaselineDistribution, References, UnknownFamily, baseline};
pub use history::History;
pub use metric::{RewardMetric, UnknownMetric};
pub use mixture::{ArmStatistics, BanditUpdate, Mixture, MixtureConfig};
pub use posterior::{Arm, Minimum, minimise};
pub use section::{BeeContext, BeeSection};
pub use state::Mixtures;
pub use stream::SplitMix64;

use crate::backbone::Backbone;
use crate::maps::min_max;
use crate::path_integral::{PathIntegral, PathLayer, Representation, heat_maps, representations};

/// Everything of BEE that is not learned.
#[derive(Clone, Debug)]
pub struct Bee {
    backbone: Arc<dyn Backbone>,
    sites: Vec<PathLayer>,
    references: Vec<References>,
    encoder: Encoder,
    integral: PathIntegral,
    seed: u64,
}

/// A batch of images with their clean pass.
#[derive(Clone, Debug)]
pub struct CleanPass {
    /// Normalised, `[B,3,H,W]`.
    pub images: Tensor<4>,
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// The class that is explained of each.
    pub classes: Vec<usize>,
    /// The context's features of each.
    pub features: Vec<Vec<f64>>,
    ends: Vec<Representation>,
}

/// A baseline to be drawn, and the image to explain with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BaselineDraw<'a> {
    /// The image's place in its batch.
    pub image: usize,
    /// Where the baseline comes from.
    pub family: BaselineDistribution,
    /// What the baseline is for; with `number` and the seed it determines the baseline.
    pub purpose: &'a str,
    /// Tells the baselines of one purpose apart.
    pub number: u64,
}

/// How an explanation draws its baselines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// pBEE: all from the mixture as it was learned.
    Pretrained,
    /// fBEE: learning from each draw before the next, for this image alone.
    FineTuned,
    /// The ablation: all from this family, whatever was learned.
    Fixed(BaselineDistribution),
}

/// The best of an explanation's draws.
#[derive(Clone, Debug)]
pub struct Best {
    /// Its map `[1,1,H,W]` in 0..1.
    pub map: Tensor<4>,
    /// Its score.
    pub score: f64,
    /// The family of its baseline.
    pub family: BaselineDistribution,
    /// Its number among the draws, from 0.
    pub draw: usize,
    /// How often each of [`BaselineDistribution::ALL`] was played.
    pub plays: [usize; BaselineDistribution::COUNT],
}

/// The rank of a draw.
#[derive(Clone, Copy, Debug)]
struct Rank {
    /// Whether its map is not constant.
    varies: bool,
    score: f64,
}

impl Rank {
    fn is_ahead_of(self, other: Self, metric: RewardMetric) -> bool {
        match (self.varies, other.varies) {
            (true, false) => true,
            (false, true) => false,
            _ => metric.better(self.score, other.score),
        }
    }
}

/// For each of the maps `[T,1,H,W]`, whether it is not constant.
fn contrasts(maps: &Tensor<4>) -> Vec<bool> {
    let [count, _, height, width] = maps.dims();
    let values: Vec<f32> = maps.to_data().iter::<f32>().collect();
    let cells = (height * width).max(1);
    (0..count)
        .map(|map| values.iter().skip(map * cells).take(cells).any(|value| *value != values[map * cells]))
        .collect()
}

impl Bee {
    /// BEE on a classifier at `sites`. `training` holds normalised training images `[M,3,H,W]`, from which `train-data`
    /// draws; a few are enough.
    ///
    /// # Errors
    /// [`BeeError::NoReferences`].
    pub fn new(
        backbone: Arc<dyn Backbone>,
        sites: Vec<PathLayer>,
        training: &Tensor<4>,
        encoder: Encoder,
        integral: PathIntegral,
        seed: u64,
    ) -> Result<Self, BeeError> {
        if training.dims()[0] == 0 {
            return Err(BeeError::NoReferences);
        }
        let references = References::forward(backbone.as_ref(), training, &sites);
        Ok(Self { backbone, sites, references, encoder, integral, seed })
    }

    /// The classifier.
    pub fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.backbone
    }

    /// The context's encoder.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Forward passes through the classifier for this number of maps, and the same number of backward passes. Passes of
    /// the metric are not counted.
    pub fn passes(&self, maps: usize) -> usize {
        maps * self.sites.len() * self.integral.steps
    }

    /// Clean pass over normalised images `[B,3,H,W]`: logits, representations at the sites, context features. The
    /// explained classes are `classes`; by default the predicted ones.
    pub fn clean_pass(&self, images: Tensor<4>, classes: Option<&[usize]>) -> CleanPass {
        let (logits, ends) = representations(self.backbone.as_ref(), &images, &self.sites);
        let features = self.encoder.encode(&images, &self.backbone.spec().preprocessing);
        let classes = match classes {
            Some(classes) => classes.to_vec(),
            None => logits.clone().argmax(1).into_data().iter::<i64>().map(|class| class.max(0) as usize).collect(),
        };
        CleanPass { images, logits, classes, features, ends }
    }

    /// The map of every pick, `[P,1,H,W]` in 0..1.
    ///
    /// The points of the paths go through the backbone in groups of `points_per_call`. Only baselines and maps grow with the
    /// number of picks.
    pub fn maps(&self, seen: &CleanPass, picks: &[BaselineDraw<'_>]) -> Tensor<4> {
        let device = seen.images.device();
        let [_, _, height, width] = seen.images.dims();
        // Picks of one image share the network before a tap.
        let shared = picks.windows(2).all(|pair| matches!(pair, [a, b] if a.image == b.image));
        let owners: Vec<usize> =
            picks.iter().take(if shared { 1 } else { picks.len() }).map(|pick| pick.image).collect();
        let own = |values: &mut dyn Iterator<Item = usize>| -> Tensor<1, Int> {
            let values: Vec<i64> = values.map(|value| value as i64).collect();
            let count = values.len();
            Tensor::from_data(TensorData::new(values, [count]), &device)
        };
        let images = seen.images.clone().select(0, own(&mut owners.iter().copied()));
        let class = own(&mut owners.iter().map(|image| seen.classes.get(*image).copied().unwrap_or(0)));
        let mut sum: Option<Tensor<4>> = None;
        for ((site, end), references) in self.sites.iter().zip(&seen.ends).zip(&self.references) {
            let name = site.name(self.backbone.as_ref());
            let draw = |pick: &BaselineDraw<'_>| {
                let purpose = format!("bee baseline, {}, {name}", pick.purpose);
                let stream = &mut SplitMix64::new(self.seed, &purpose, &[pick.number, pick.family as u64]);
                let h = end.map.clone().narrow(0, pick.image, 1);
                baseline(pick.family, &h, site.stride(), references, stream)
            };
            let drawn: Vec<Tensor<4>> = picks.iter().map(draw).collect();
            if drawn.is_empty() {
                break;
            }
            let drawn = Tensor::cat(drawn, 0);
            let maps = self.integral.maps(self.backbone.as_ref(), site, &images, &class, &end.of(&owners), &drawn);
            let maps = heat_maps(maps, [height, width]);
            sum = Some(match sum {
                Some(sum) => sum + maps,
                None => maps,
            });
        }
        match sum {
            Some(sum) if self.sites.len() > 1 => min_max(sum),
            Some(sum) => sum,
            None => Tensor::zeros([picks.len(), 1, height, width], &device),
        }
    }

    /// How many draws fill one call of the backbone.
    pub fn draws_per_call(&self) -> usize {
        (self.integral.points_per_call / self.integral.steps.max(1)).max(1)
    }

    /// Explains image `image` of `seen` by the best of `draws` maps; `score` returns the scores of maps `[T,1,H,W]` of
    /// this image, and is called for a few maps at a time. Of equal scores the first is taken. A constant map is the best
    /// only if all maps are constant.
    ///
    /// Draws depend on the seed and on their number, not on what else is explained.
    ///
    /// # Errors
    /// [`BeeError::NoDraws`], [`BeeError::Unscored`], [`BeeError::Score`], [`BeeError::Scores`],
    /// [`BeeError::Features`], and the closure's own.
    pub fn explain<E: From<BeeError>>(
        &self,
        mixture: &Mixture,
        seen: &CleanPass,
        image: usize,
        draws: usize,
        mode: Mode,
        mut score: impl FnMut(&Tensor<4>) -> Result<Vec<Option<f64>>, E>,
    ) -> Result<Best, E> {
        let metric = mixture.metric();
        let features = seen.features.get(image).map_or(&[][..], Vec::as_slice);
        let mut own = mixture.clone();
        let mut best: Option<(Rank, Best)> = None;
        let mut plays = [0; BaselineDistribution::COUNT];
        let together = if mode == Mode::FineTuned { 1 } else { self.draws_per_call() };
        for first in (0..draws).step_by(together) {
            let mut picks = Vec::new();
            for number in first..draws.min(first + together) {
                let number = number as u64;
                let stream = &mut SplitMix64::new(self.seed, "bee choice, explain", &[metric as u64, number]);
                let family = match mode {
                    Mode::Fixed(family) => family,
                    Mode::Pretrained | Mode::FineTuned => own.choose(features, stream)?,
                };
                picks.push(BaselineDraw { image, family, purpose: "explain", number });
            }
            let maps = self.maps(seen, &picks);
            let scores = checked(metric, score(&maps)?, picks.len())?;
            for (i, ((pick, score), varies)) in picks.iter().zip(scores).zip(contrasts(&maps)).enumerate() {
                plays[pick.family as usize] += 1;
                let Some(score) = score else { continue };
                if mode == Mode::FineTuned {
                    own.learn(features, pick.family, score, self.seed)?;
                }
                let rank = Rank { varies, score };
                if best.as_ref().is_none_or(|(best, _)| rank.is_ahead_of(*best, metric)) {
                    let map = maps.clone().narrow(0, i, 1);
                    best = Some((rank, Best { map, score, family: pick.family, draw: first + i, plays }));
                }
            }
        }
        let none = if draws == 0 { BeeError::NoDraws } else { BeeError::Unscored { metric, draws } };
        best.map(|(_, best)| Best { plays, ..best }).ok_or_else(|| none.into())
    }

    /// One pre-training step: for each image of `seen` and each mixture, draws a baseline, scores its map and updates the
    /// mixture. `first` is the first image's number in the run. `score` returns a metric's scores of maps `[B,1,H,W]`, one for
    /// each image, in their order.
    ///
    /// All choices of a batch are made before it is learned from. Where two mixtures choose the same family for an image
    /// they share the baseline and its map.
    ///
    /// # Errors
    /// [`BeeError::Score`], [`BeeError::Scores`], [`BeeError::Features`], and the closure's own; what was learned before
    /// stays learned.
    pub fn learn<E: From<BeeError>>(
        &self,
        mixtures: &mut Mixtures,
        seen: &CleanPass,
        first: u64,
        mut score: impl FnMut(RewardMetric, &Tensor<4>) -> Result<Vec<Option<f64>>, E>,
    ) -> Result<Vec<BanditUpdate>, E> {
        let batch = seen.features.len();
        let mut choices: Vec<Vec<BaselineDistribution>> = Vec::new();
        for mixture in mixtures.iter() {
            let choose = |(image, features): (usize, &Vec<f64>)| {
                let numbers = [mixture.metric() as u64, first + image as u64];
                mixture.choose(features, &mut SplitMix64::new(self.seed, "bee choice, train", &numbers))
            };
            choices.push(seen.features.iter().enumerate().map(choose).collect::<Result<_, BeeError>>()?);
        }
        let mut wanted: Vec<(usize, BaselineDistribution)> =
            choices.iter().flat_map(|families| families.iter().copied().enumerate()).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let picks: Vec<BaselineDraw<'_>> = (wanted.iter())
            .map(|&(image, family)| BaselineDraw { image, family, purpose: "train", number: first + image as u64 })
            .collect();
        let maps: Vec<Tensor<4>> = picks.chunks(self.draws_per_call()).map(|picks| self.maps(seen, picks)).collect();
        if maps.is_empty() {
            return Ok(Vec::new());
        }
        let maps = Tensor::cat(maps, 0);
        let mut lessons = Vec::new();
        for (mixture, families) in mixtures.iter_mut().zip(&choices) {
            let place = |pick: (usize, &BaselineDistribution)| {
                wanted.partition_point(|other| *other < (pick.0, *pick.1)) as i64
            };
            let places: Vec<i64> = families.iter().enumerate().map(place).collect();
            let places = Tensor::<1, Int>::from_data(TensorData::new(places, [batch]), &maps.device());
            let scores = score(mixture.metric(), &maps.clone().select(0, places))?;
            let scores = checked(mixture.metric(), scores, batch)?;
            for ((features, family), score) in seen.features.iter().zip(families).zip(scores) {
                if let Some(score) = score {
                    lessons.push(mixture.learn(features, *family, score, self.seed)?);
                }
            }
        }
        Ok(lessons)
    }
}

/// Scores, one for each map, every one a number.
fn checked(metric: RewardMetric, scores: Vec<Option<f64>>, expected: usize) -> Result<Vec<Option<f64>>, BeeError> {
    if let Some(score) = scores.iter().flatten().find(|score| !score.is_finite()) {
        return Err(BeeError::Score { metric, score: *score });
    }
    match scores.len() == expected {
        true => Ok(scores),
        false => Err(BeeError::Scores { metric, found: scores.len(), expected }),
    }
}

#[cfg(test)]
mod tests;
