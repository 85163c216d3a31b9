//! Which run a checkpoint belongs to.

use explainer_zoo::auxiliary::Auxiliary;
use explainer_zoo::backbone::Backbone;
use explainer_zoo::weights::hash::sha256;

use super::checkpoint::Identity;
use crate::config::{Config, Data, Distributed, ExplainerConfig};
use crate::data::ImageSet;

/// What must be the same for a checkpoint to fit.
pub(super) fn identity(
    config: &Config,
    backbone: &dyn Backbone,
    auxiliary: Option<&Auxiliary>,
    train: &dyn ImageSet,
) -> Identity {
    let mut weights = backbone.spec().weights_sha256.clone().unwrap_or_default();
    weights.extend(auxiliary.and_then(|auxiliary| auxiliary.backbone.spec().weights_sha256.clone()));
    identified(config, &weights, train)
}

/// The run of a configuration, with the SHA-256 of its classifiers' weights, on training images.
pub(super) fn identified(config: &Config, weights: &str, train: &dyn ImageSet) -> Identity {
    let configuration = sha256(format!("{}{weights}", in_common(config).to_yaml().unwrap_or_default()).as_bytes());
    Identity { configuration, images: train.len(), images_sha256: train.digest() }
}

/// The part of a configuration that stays as it is over all of a run: everything but where its files lie and how often
/// it looks up.
fn in_common(config: &Config) -> Config {
    let mut same = config.clone();
    same.output = None;
    same.threads = None;
    same.device = String::new();
    same.distributed = Distributed::default(); // how many train it is no part of a run, nor how
    same.backbone.weights = String::new();
    same.backbone.classes = None;
    if let Some(auxiliary) = &mut same.auxiliary {
        auxiliary.weights.clear();
    }
    if let ExplainerConfig::Bee(bee) = &mut same.explainer
        && let Some(context) = &mut bee.context
    {
        context.weights.clear();
    }
    for place in [&mut same.data.train, &mut same.data.val] {
        if *place != Data::SHAPES {
            place.clear();
        }
    }
    same.data.workers = 1;
    same.data.max_broken = 0.0;
    same.train.checkpoint_every = 1;
    same.train.validate_every = 0;
    same.train.validate_images = None;
    same.train.keep = 1;
    same.train.log_every = 1;
    same
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Config::load(Path::new(quickstart), &overrides).unwrap()
    }

    #[test]
    fn a_run_is_the_same_wherever_its_files_lie() {
        let here = config(&["data.train=images/train", "data.val=images/val", "backbone.classes=names.txt"]);
        let there = config(&["data.train=/images/train", "data.val=/images/val", "output=/elsewhere"]);
        assert_eq!(in_common(&here), in_common(&there));
        // Where and how often to look up is no part of it either.
        let often = config(&["data.train=train", "data.val=val", "train.validate_images=7", "train.keep=5"]);
        assert_eq!(in_common(&here), in_common(&often));
    }

    #[test]
    fn where_an_auxiliarys_weights_lie_is_no_part_of_a_run() {
        let at = |weights: &str, taps: &str| {
            let auxiliary = format!("auxiliary={{name: resnet18, weights: {weights}, taps: [{taps}]}}");
            in_common(&config(&["explainer={method: ptame}", &auxiliary]))
        };
        assert_eq!(at("here.pth", "layer1"), at("there.pth", "layer1"));
        assert_ne!(at("here.pth", "layer1"), at("here.pth", "layer2"));
        assert!(!config(&[]).to_yaml().unwrap().contains("auxiliary"), "it would make other runs of those before it");
    }

    #[test]
    fn how_a_head_is_initialised_is_part_of_a_run_where_it_is_not_the_default() {
        const RESNET18: &str = "auxiliary={name: resnet18, weights: a.pth}";
        for method in [&["explainer.method=ttame"][..], &["explainer={method: ptame}", RESNET18]] {
            let with = |init: &str| in_common(&config(&[method, &[init]].concat()));
            let run = in_common(&config(method));
            assert_eq!(with("explainer.fuse_init=uniform"), run);
            assert_ne!(with("explainer.fuse_init=zero"), run);
            assert!(!run.to_yaml().unwrap().contains("fuse_init"), "it would make other runs of those before it");
        }
    }

    #[test]
    fn a_run_is_another_one_with_other_settings_or_procedural_images() {
        let run = in_common(&config(&["data.train=train", "data.val=val"]));
        for other in [
            &["data.train=train", "data.val=val", "train.seed=7"][..],
            &["data.train=train", "data.val=val", "data.train_images=7"],
            &["data.train=shapes", "data.val=val"],
            &["data.train=train", "data.val=shapes"],
        ] {
            assert_ne!(in_common(&config(other)), run, "{other:?}");
        }
    }
}
