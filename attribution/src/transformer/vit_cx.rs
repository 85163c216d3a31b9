//! ViT-CX.

use burn::tensor::{Tensor, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::bilinear::resize;
use explainer_zoo::maps::min_max;

use super::patches::Patches;
use crate::layer::Layer;
use crate::method::Built;
use crate::tensors::{chunks, class_scores, from_values, normal, values};
use crate::{Access, AttributionError, AttributionMethod, Family, MethodContext, MethodInfo};

pub(crate) const INFO: MethodInfo = MethodInfo {
    name: "vit-cx",
    title: "ViT-CX",
    family: Family::Transformer,
    paper: "Xie et al., 2023",
    access: Access::Tokens,
    passes: "1 + 2 N forward, N <= C",
    parameter: None,
};

pub(crate) fn build(context: &MethodContext<'_>, _: usize) -> Built {
    Patches::of_context(context, &INFO)?;
    let layer = context.layer(&INFO)?;
    Ok(Box::new(VitCx { layer, threshold: 0.1, seed: context.seed, batch_size: context.batch_size }))
}

/// ViT-CX (Xie et al., 2023): sum_i s_i M_i / sum_i M_i, position by position. s_i is the causal effect of mask M_i.
///
/// The masks come from the layer's C feature maps, resized to the image (bilinear) and min-max normalised. Similar ones are
/// summed and normalised again: clusters by complete linkage of cosine distances, up to a distance of 0.1. With noise Z_i of
/// N(0, 0.1^2), in normalised values, where the mask hides the image,
///
/// s_i = p(x M_i + Z_i (1 - M_i)) - p(x + Z_i (1 - M_i)) + p(x),
///
/// p the class's probability. The division corrects for how often a pixel is covered.
///
/// Maps `[B,1,H,W]` in 0..=1. 1 + 2 N forward passes an image, N <= C the number of clusters, which depends on the image.
#[derive(Clone, Debug)]
pub struct VitCx {
    /// The layer whose feature maps become masks.
    pub layer: Layer,
    /// Largest cosine distance within a cluster; the paper's is 0.1.
    pub threshold: f32,
    /// Seed of the noise.
    pub seed: u64,
    /// Masked images in one call of the backbone.
    pub batch_size: usize,
}

/// Standard deviation of the noise.
const NOISE: f32 = 0.1;

impl AttributionMethod for VitCx {
    fn maps(
        &self,
        backbone: &dyn Backbone,
        images: &Tensor<4>,
        classes: &[usize],
    ) -> Result<Tensor<4>, AttributionError> {
        let output = self.layer.forward(backbone, images)?;
        let [_, _, height, width] = images.dims();
        let device = images.device();
        let mut maps = Vec::with_capacity(classes.len());
        for (image, class) in classes.iter().enumerate() {
            let one = output.image(image);
            let small = self.masks(&one.map, [height, width]);
            let score = |images| class_scores(softmax(backbone.forward(images, &[]).logits, 1), *class);
            let clean = class_scores(softmax(one.logits.clone(), 1), *class);
            let mut sum = Tensor::<2>::zeros([1, height * width], &device);
            let mut coverage = sum.clone();
            for chunk in chunks(small.dims()[0], (self.batch_size / 2).max(1)) {
                let masks = min_max(resize(small.clone().narrow(0, chunk.start, chunk.len()), [height, width]));
                let noise = chunk
                    .clone()
                    .map(|number| normal([1, 3, height, width], self.seed, "vit-cx", number as u64, &device) * NOISE);
                let noise = Tensor::cat(noise.collect(), 0) * masks.clone().neg().add_scalar(1.0);
                let masked = score(one.images.clone() * masks.clone() + noise.clone());
                let noisy = score(one.images.clone() + noise);
                let flat = masks.reshape([chunk.len(), height * width]);
                sum = sum + (masked - noisy + clean.clone()).unsqueeze::<2>().matmul(flat.clone());
                coverage = coverage + flat.sum_dim(0);
            }
            maps.push((sum / coverage.clamp_min(1e-8)).reshape([1, 1, height, width]));
        }
        Ok(min_max(Tensor::cat(maps, 0)))
    }
}

impl VitCx {
    /// The sum of each cluster's masks, `[N,1,h,w]`, at the layer's resolution: a sum of resized maps is the resized sum.
    fn masks(&self, map: &Tensor<4>, size: [usize; 2]) -> Tensor<4> {
        let [_, channels, rows, columns] = map.dims();
        let (cells, pixels) = (rows * columns, size[0] * size[1]);
        let device = map.device();
        let maps = map.clone().swap_dims(0, 1);
        // The resize U is linear and keeps constants. So masks are normalised at the layer's resolution, by the minimum and
        // maximum after the resize, and inner products of resized masks a, b are a^T U^T U b.
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for chunk in chunks(channels, self.batch_size) {
            let large = resize(maps.clone().narrow(0, chunk.start, chunk.len()), size).reshape([chunk.len(), pixels]);
            low.push(large.clone().min_dim(1));
            high.push(large.max_dim(1));
        }
        let (low, high) = (Tensor::cat(low, 0), Tensor::cat(high, 0));
        let normalised = (maps.reshape([channels, cells]) - low.clone()) / (high - low).clamp_min(1e-8);
        let identity = Tensor::<2>::eye(cells, &device).reshape([cells, 1, rows, columns]);
        let resized = resize(identity, size).reshape([cells, pixels]);
        let gram = resized.clone().matmul(resized.transpose());
        let products = normalised.clone().matmul(gram).matmul(normalised.clone().transpose());
        let products = values(products);
        let norm = |i: usize| products[i * channels + i].max(1e-12).sqrt();
        let distance = |i: usize| 1.0 - products[i] / (norm(i / channels) * norm(i % channels));
        let labels = complete_linkage((0..channels * channels).map(distance).collect(), channels, self.threshold);
        let count = labels.iter().max().map_or(0, |last| last + 1);
        let mut members = vec![0.0; count * channels];
        labels.iter().enumerate().for_each(|(channel, label)| members[label * channels + channel] = 1.0);
        from_values(members, [count, channels], &device).matmul(normalised).reshape([count, 1, rows, columns])
    }
}

/// Complete-linkage clustering of `count` items with distances `[count,count]`: the cluster of each item, numbered from 0. Two
/// clusters are merged, nearest first, while their largest distance is below `threshold`.
///
/// By nearest-neighbour chains: two clusters that are each other's nearest neighbour can be merged at once, since merging
/// others brings nothing nearer.
fn complete_linkage(mut distances: Vec<f32>, count: usize, threshold: f32) -> Vec<usize> {
    let mut owner: Vec<usize> = (0..count).collect();
    let mut active = vec![true; count];
    let mut chain: Vec<usize> = Vec::new();
    while let Some(top) = chain.last().copied().or_else(|| active.iter().position(|active| *active)) {
        if chain.is_empty() {
            chain.push(top);
        }
        let before = chain.len().checked_sub(2).map(|place| chain[place]);
        let mut nearest: Option<(usize, f32)> = before.map(|other| (other, distances[top * count + other]));
        for other in (0..count).filter(|other| active[*other] && *other != top) {
            let distance = distances[top * count + other];
            if nearest.is_none_or(|(_, least)| distance < least) {
                nearest = Some((other, distance));
            }
        }
        match nearest {
            Some((other, distance)) if before == Some(other) => {
                chain.truncate(chain.len() - 2);
                active[other] = false;
                if distance < threshold {
                    owner.iter_mut().filter(|owner| **owner == other).for_each(|owner| *owner = top);
                }
                for third in 0..count {
                    let farther = distances[top * count + third].max(distances[other * count + third]);
                    distances[top * count + third] = farther;
                    distances[third * count + top] = farther;
                }
            }
            Some((other, _)) => chain.push(other),
            // A single cluster is left.
            None => break,
        }
    }
    let mut numbered: Vec<usize> = Vec::new();
    let number = |owner: usize| match numbered.iter().position(|known| *known == owner) {
        Some(number) => number,
        None => {
            numbered.push(owner);
            numbered.len() - 1
        }
    };
    owner.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use explainer_zoo::weights::random::uniform;

    fn distances(points: &[f32]) -> Vec<f32> {
        points.iter().flat_map(|a| points.iter().map(move |b| (a - b).abs())).collect()
    }

    #[test]
    fn clusters_are_no_wider_than_the_threshold() {
        let points = [0.0, 1.0, 5.0, 5.2, 9.0, 0.4];
        let labels = |threshold| complete_linkage(distances(&points), points.len(), threshold);
        assert_eq!(labels(0.1), [0, 1, 2, 3, 4, 5]);
        assert_eq!(labels(0.5), [0, 1, 2, 2, 3, 0]);
        assert_eq!(labels(1.1), [0, 0, 1, 1, 2, 0]);
        assert_eq!(labels(100.0), [0; 6]);
        assert!(complete_linkage(Vec::new(), 0, 1.0).is_empty());
    }

    #[test]
    fn chains_find_the_same_clusters_as_merging_the_nearest_first() {
        for seed in 0..20 {
            let points = &uniform(seed, "points", 40);
            let threshold = 0.05 + 0.02 * seed as f32;
            // By the definition.
            let mut clusters: Vec<Vec<usize>> = (0..points.len()).map(|i| vec![i]).collect();
            let apart = &|a: &[usize], b: &[usize]| {
                let pairs = a.iter().flat_map(|i| b.iter().map(move |j| (points[*i] - points[*j]).abs()));
                pairs.fold(0.0, f32::max)
            };
            loop {
                let pairs = (0..clusters.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
                let nearest =
                    pairs.map(|(i, j)| (apart(&clusters[i], &clusters[j]), i, j)).min_by(|a, b| a.0.total_cmp(&b.0));
                match nearest {
                    Some((distance, i, j)) if distance < threshold => {
                        let merged = clusters.remove(i);
                        clusters[j].extend(merged);
                    }
                    _ => break,
                }
            }
            let labels = complete_linkage(distances(points), points.len(), threshold);
            for cluster in &clusters {
                assert!(cluster.iter().all(|i| labels[*i] == labels[cluster[0]]), "seed {seed}");
            }
            assert_eq!(labels.iter().max().map(|last| last + 1), Some(clusters.len()), "seed {seed}");
        }
    }
}
