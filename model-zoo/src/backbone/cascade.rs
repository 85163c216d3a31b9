//! Cascading randomisation (Adebayo et al., 2018): a backbone with a growing part of random weights, from the logits to the
//! image.

use super::load::read;
use super::torchscript::{self, TorchScriptError};
use super::{BackboneError, Frozen};
use crate::device::Compute;
use crate::weights::random;
use crate::weights::source::Progress;

/// Seed of the random weights.
const SEED: u64 = 0;

/// Backbone `name` from `weights` (see [`super::load`]), once for each of `shares` in 0..=1. Its last tensors, at least this share
/// of their number, are random. A tensor that is random for two shares has the same values in both.
///
/// The order is that in which a network reads its tensors, from the image to the logits. A block (the tensors whose names
/// agree up to the first number: `layer3.0`, `blocks.9`) is random as a whole or not at all. Every backbone has its own copy of
/// the weights in memory.
///
/// # Errors
/// As [`super::load`].
pub fn cascade(
    name: &str,
    weights: &str,
    sha256: Option<&str>,
    shares: &[f64],
    compute: &Compute,
    progress: &mut Progress<'_>,
) -> Result<Vec<Frozen>, BackboneError> {
    if name == torchscript::NAME {
        return Err(TorchScriptError::NoRandomisation.into());
    }
    let mut randomised = |first: usize| {
        let (architecture, reader, digest) = read(name, weights, sha256, compute, progress)?;
        let values = move |name: &str, shape: &[usize]| random::values(SEED, name, shape);
        Frozen::new(architecture, reader.with_random_from(first, Box::new(values)), digest, compute)
    };
    // The names of the tensors are known once a network is built.
    let mut names: Option<Vec<String>> = None;
    let build = |share: &f64| {
        let names = match &mut names {
            Some(names) => names,
            none => none.insert(randomised(0)?.tensors().to_vec()),
        };
        randomised(first(names, *share))
    };
    shares.iter().map(build).collect()
}

/// The index of the first of the last tensors of `names`, at least `share` of them in whole blocks.
fn first(names: &[String], share: f64) -> usize {
    let kept = (names.len() as f64 * (1.0 - share.clamp(0.0, 1.0))).floor() as usize;
    let Some(cut) = names.get(kept) else { return names.len() };
    names.iter().take(kept).rposition(|name| block(name) != block(cut)).map_or(0, |last| last + 1)
}

/// The block of a tensor: its name up to the first number, else its module.
fn block(name: &str) -> &str {
    let mut end = 0;
    for part in name.split('.') {
        end += part.len();
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            return name.get(..end).unwrap_or(name);
        }
        end += 1;
    }
    name.rsplit_once('.').map_or(name, |(module, _)| module)
}

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::super::{Backbone, Tap, load};
    use super::*;

    #[test]
    fn blocks_are_randomised_as_a_whole() {
        assert_eq!(
            ["layer3.0.conv1.weight", "blocks.9.attn.qkv.bias", "features.28.weight", "conv1.weight", "cls_token"]
                .map(block),
            ["layer3.0", "blocks.9", "features.28", "conv1", "cls_token"]
        );
        let names: Vec<String> = ["conv1.w", "b.0.w", "b.0.v", "b.1.w", "b.1.v", "fc.w"].map(String::from).to_vec();
        let cuts = [0.0, 0.1, 0.3, 0.5, 0.7, 1.0].map(|share| first(&names, share));
        assert_eq!(cuts, [6, 5, 3, 3, 1, 0]);
        assert_eq!(first(&[], 0.5), 0);
    }

    #[test]
    fn feature_maps_before_the_random_part_are_unchanged() {
        let compute = Compute::new("flex", Some(1)).unwrap();
        let random =
            |shares: &[f64]| cascade("shapes_resnet", "embedded", None, shares, &compute, &mut |_, _| {}).unwrap();
        let whole = load("shapes_resnet", "embedded", None, &compute, &mut |_, _| {}).unwrap();
        let image = Tensor::ones([1, 3, 96, 96], &compute.device) * 0.3;
        let taps = whole.taps(&["layer1", "layer2", "layer3"].map(String::from)).unwrap();
        let outputs = |backbone: &Frozen| {
            let output = backbone.forward(image.clone(), &taps);
            let maps = output.taps.into_iter().map(|tap| match tap {
                Tap::Map(map) => map.into_data(),
                Tap::Tokens(tokens) => tokens.into_data(),
            });
            maps.chain([output.logits.into_data()]).map(|data| data.iter().collect()).collect::<Vec<Vec<f32>>>()
        };
        let intact = outputs(&whole);
        // 52 tensors: 15 in each layer, 5 before and 2 after.
        for (share, kept) in [(0.0, 4), (0.03, 3), (0.25, 2), (0.5, 1), (0.75, 0), (1.0, 0)] {
            let [made] = &random(&[share])[..] else { panic!("one backbone") };
            let equal = outputs(made).iter().zip(&intact).take_while(|(a, b)| a == b).count();
            assert_eq!(equal, kept, "{share}");
        }
        let [part, all] = &random(&[0.5, 1.0])[..] else { panic!("two backbones") };
        assert_ne!(outputs(part)[3], outputs(all)[3]);
    }
}
