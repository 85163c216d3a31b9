//! Which run a checkpoint belongs to.
//!
//! `state.json` holds the part of the configuration that a run cannot change on the way. A resumed run compares it key by
//! key: keys that the checkpoint does not have mean their defaults. Format 3 held a SHA-256 of the whole configuration as
//! YAML instead, which any new key would change; keys that are newer than format 3 are therefore not serialised where they
//! have their default.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use explainer_zoo::weights::hash::sha256;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CheckpointError;
use crate::config::{Config, Data, Distributed, ExplainerConfig};

/// What determines a run: the checkpoint of another run is refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunIdentity {
    /// The comparable part of the configuration, as JSON; in format 3 a SHA-256 of it and the weights.
    pub configuration: Value,
    /// SHA-256 of the classifiers' weights, one behind the other.
    #[serde(default)]
    pub weights_sha256: String,
    /// Number of training images.
    pub images: usize,
    /// SHA-256 of what identifies the set of training images.
    pub images_sha256: String,
}

impl RunIdentity {
    /// The identity of a run of `config`.
    pub fn new(config: &Config, weights_sha256: String, images: usize, images_sha256: String) -> Self {
        let configuration = serde_json::to_value(comparable(config)).unwrap_or_default();
        Self { configuration, weights_sha256, images, images_sha256 }
    }

    /// One SHA-256 of everything.
    pub fn fingerprint(&self) -> String {
        sha256(serde_json::to_string(self).unwrap_or_default().as_bytes())
    }

    /// Refuses the checkpoint at `path` of the run `found`, unless it is this run.
    pub(super) fn check(&self, found: &Self, path: &Path) -> Result<(), CheckpointError> {
        let differences = match &found.configuration {
            same if *same == self.configuration && found.weights_sha256 == self.weights_sha256 => Vec::new(),
            Value::String(hash) if *hash == self.format_3_sha256() => Vec::new(),
            Value::String(_) => vec!["its format 3 has a hash of all settings, so the keys are unknown".into()],
            configuration => self.differences(configuration, &found.weights_sha256),
        };
        if !differences.is_empty() {
            return Err(CheckpointError::OtherRun { path: path.into(), differences });
        }
        if (found.images, &found.images_sha256) != (self.images, &self.images_sha256) {
            return Err(CheckpointError::OtherImages { path: path.into(), before: found.images, now: self.images });
        }
        Ok(())
    }

    /// Each key whose value is another one than in the configuration `then`, with both values.
    fn differences(&self, then: &Value, weights_then: &str) -> Vec<String> {
        let then = match serde_json::from_value::<Config>(then.clone()) {
            Ok(then) => serde_json::to_value(comparable(&then)).unwrap_or_default(), // with the defaults of absent keys
            Err(error) => return vec![format!("its configuration cannot be read: {error}")],
        };
        let (then, now) = (leaves(&then), leaves(&self.configuration));
        let keys: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let show = |value: Option<&&Value>| value.map_or_else(|| "the default".into(), ToString::to_string);
        let mut different: Vec<&String> = keys
            .into_iter()
            .filter(|key| match (then.get(*key), now.get(*key)) {
                (Some(then), Some(now)) => !same(then, now),
                _ => true,
            })
            .collect();
        // Keys with two values first: one `name` explains the absence of others.
        different.sort_by_key(|key| then.contains_key(*key) != now.contains_key(*key));
        let describe = |key: &String| format!("{key}: {} then, {} now", show(then.get(key)), show(now.get(key)));
        let mut differences: Vec<String> = different.into_iter().map(describe).collect();
        if weights_then != self.weights_sha256 {
            let short =
                |sha256: &str| if sha256.is_empty() { "none".into() } else { sha256.chars().take(12).collect() };
            let [then, now]: [String; 2] = [weights_then, &self.weights_sha256].map(short);
            differences.push(format!("the SHA-256 of the classifier's weights: {then} then, {now} now"));
        }
        differences
    }

    /// What format 3 has in the place of the configuration.
    fn format_3_sha256(&self) -> String {
        let config = serde_json::from_value::<Config>(self.configuration.clone());
        let yaml = config.ok().and_then(|mut config| {
            config.backbone.weights.clear(); // format 3 did not know the seed of `random:SEED`
            other_weights(&mut config).into_iter().for_each(String::clear);
            config.to_yaml().ok()
        });
        sha256(format!("{}{}", yaml.unwrap_or_default(), self.weights_sha256).as_bytes())
    }
}

/// The part of a configuration that is the same over all of a run: all but the location of files and the frequency of
/// checkpoints, validations and log lines. The seed of `random:SEED` weights belongs to it.
fn comparable(config: &Config) -> Config {
    let mut same = config.clone();
    same.output = None;
    same.threads = None;
    same.device = String::new();
    same.distributed = Distributed::default(); // neither the number of ranks nor how they share the work
    same.backbone.classes = None;
    let located = |weights: &&mut String| !weights.starts_with("random:");
    let mut first = std::mem::take(&mut same.backbone.weights);
    [&mut first].into_iter().chain(other_weights(&mut same)).filter(located).for_each(String::clear);
    same.backbone.weights = first;
    for location in [&mut same.data.train, &mut same.data.val] {
        if *location != Data::SHAPES {
            location.clear();
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

/// The weights of the second classifiers: the auxiliary's and BEE's context's.
fn other_weights(config: &mut Config) -> Vec<&mut String> {
    let auxiliary = config.auxiliary.as_mut().map(|auxiliary| &mut auxiliary.weights);
    let context = match &mut config.explainer {
        ExplainerConfig::Bee(bee) => bee.context.as_mut().map(|context| &mut context.weights),
        _ => None,
    };
    auxiliary.into_iter().chain(context).collect()
}

/// The values of a JSON tree by their path; arrays are values.
fn leaves(tree: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    let mut open = vec![(String::new(), tree)];
    while let Some((path, value)) = open.pop() {
        match value {
            Value::Object(fields) => {
                let dot = if path.is_empty() { "" } else { "." };
                open.extend(fields.iter().map(|(key, value)| (format!("{path}{dot}{key}"), value)));
            }
            value => drop(found.insert(path, value)),
        }
    }
    found
}

/// Equal values; of floats those that differ in the last digits, which a round trip through text can change.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-12 * a.abs().max(b.abs()),
        _ => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(overrides: &[&str]) -> Config {
        let quickstart = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/quickstart.yaml");
        let overrides: Vec<String> = overrides.iter().map(|text| text.to_string()).collect();
        Config::load(Path::new(quickstart), &overrides).unwrap()
    }

    fn identity(overrides: &[&str]) -> RunIdentity {
        RunIdentity::new(&config(overrides), "ab".repeat(32), 2048, "cd".repeat(32))
    }

    /// What is said of a checkpoint of `then` when `now` resumes from it, by way of the file's text.
    fn refusal(then: &RunIdentity, now: &RunIdentity) -> Option<String> {
        let text = serde_json::to_string(then).unwrap();
        let then = serde_json::from_str(&text).unwrap();
        now.check(&then, Path::new("step-1")).err().map(|error| error.to_string())
    }

    #[test]
    fn a_run_is_the_same_wherever_its_files_lie() {
        let here = identity(&["data.train=images/train", "data.val=images/val", "backbone.classes=names.txt"]);
        let there = identity(&["data.train=/images/train", "data.val=/images/val", "output=/elsewhere"]);
        assert_eq!(refusal(&here, &there), None);
        // Nor does it matter how often it validates and saves.
        let often = identity(&["data.train=train", "data.val=val", "train.validate_images=7", "train.keep=5"]);
        assert_eq!(refusal(&here, &often), None);
        let device =
            identity(&["data.train=a", "data.val=b", "device=cuda:1", "threads=3", "distributed.overlap=true"]);
        assert_eq!(refusal(&here, &device), None);
    }

    #[test]
    fn the_location_of_an_auxiliarys_weights_is_no_part_of_a_run() {
        let at = |weights: &str, taps: &str| {
            let auxiliary = format!("auxiliary={{name: resnet18, weights: {weights}, taps: [{taps}]}}");
            identity(&["explainer={method: ptame}", &auxiliary])
        };
        assert_eq!(refusal(&at("here.pth", "layer1"), &at("there.pth", "layer1")), None);
        let text = refusal(&at("here.pth", "layer1"), &at("here.pth", "layer2")).unwrap();
        assert!(text.contains(r#"auxiliary.taps: ["layer1"] then, ["layer2"] now"#), "{text}");
        assert!(!config(&[]).to_yaml().unwrap().contains("auxiliary"), "format 3 has no such key");
    }

    #[test]
    fn how_a_head_is_initialised_is_part_of_a_run_where_it_is_not_the_default() {
        const RESNET18: &str = "auxiliary={name: resnet18, weights: a.pth}";
        for method in [&["explainer.method=ttame"][..], &["explainer={method: ptame}", RESNET18]] {
            let with = |init: &str| identity(&[method, &[init]].concat());
            let run = identity(method);
            assert_eq!(refusal(&with("explainer.fuse_init=uniform"), &run), None);
            assert!(refusal(&with("explainer.fuse_init=zero"), &run).is_some());
            assert!(!config(method).to_yaml().unwrap().contains("fuse_init"), "format 3 has no such key");
        }
    }

    #[test]
    fn a_refusal_names_the_keys_and_both_values() {
        let run = ["data.train=train", "data.val=val"];
        for (other, key) in [
            ("train.seed=7", "train.seed: 0 then, 7 now"),
            ("train.epochs=1", "train.epochs: 2 then, 1 now"),
            ("data.train_images=7", "data.train_images: 2048 then, 7 now"),
            ("data.train=shapes", r#"data.train: "" then, "shapes" now"#),
            ("optimizer.lr=0.2", "optimizer.lr: 0.001 then, 0.2 now"),
            ("schedule={name: constant}", r#"schedule.name: "one_cycle" then, "constant" now"#),
        ] {
            let text = refusal(&identity(&run), &identity(&[&run[..], &[other]].concat())).unwrap();
            assert!(text.contains(key) && text.contains("--output") && text.lines().count() <= 3, "{text}");
        }
        let weights = RunIdentity { weights_sha256: "ef".repeat(32), ..identity(&[]) };
        let text = refusal(&identity(&[]), &weights).unwrap();
        assert!(text.contains("weights: abababababab then, efefefefefef now"), "{text}");
    }

    #[test]
    fn the_seed_of_random_weights_is_part_of_a_run() {
        let seed = |seed: &str| identity(&[&format!("backbone.weights=random:{seed}")]);
        assert_eq!(refusal(&seed("1"), &seed("1")), None);
        let text = refusal(&seed("1"), &seed("2")).unwrap();
        assert!(text.contains(r#"backbone.weights: "random:1" then, "random:2" now"#), "{text}");
    }

    #[test]
    fn absent_keys_mean_their_defaults() {
        let run = identity(&["masking=after-norm"]);
        let mut then = run.clone();
        for (section, key) in [("train", "drop"), ("objective", "border"), ("data", "cache")] {
            if let Some(fields) = then.configuration[section].as_object_mut() {
                fields.remove(key);
            }
        }
        then.configuration.as_object_mut().unwrap().remove("masking");
        then.configuration.as_object_mut().unwrap().remove("schedule");
        assert_eq!(refusal(&then, &run), None);
    }

    #[test]
    fn every_configuration_of_the_project_survives_the_round_trip() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let Ok(config) = Config::load(&entry.path(), &[]) else { continue };
            let run = RunIdentity::new(&config, String::new(), 1, String::new());
            let other = RunIdentity { weights_sha256: "other".into(), ..run.clone() };
            let text = refusal(&run, &other).unwrap();
            assert!(
                text.contains("of a run with other settings: the SHA-256 of"),
                "{}: {text}",
                entry.path().display()
            );
            count += 1;
        }
        assert!(count > 5, "{count} configurations");
    }
}
