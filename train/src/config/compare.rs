//! A comparison of explainers as one YAML file.

use super::{ConfigError, document, read};
use explainer_attribution::MethodSpec;
use explainer_metrics::{Needs, metric};
use explainer_zoo::explainer::bee::Family;
use explainer_zoo::range::{at_least_one, fraction, hex_digest, image_count, not_blank};
use garde::Validate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// A comparison of explainer-train: explainers by metrics on one set of images, all of the same classifier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct CompareConfig {
    /// The frozen classifier that is explained; by default that of the first learned explainer.
    #[garde(dive)]
    #[serde(default)]
    pub backbone: Option<Classifier>,
    /// The images: a folder, a list file with `path[,class]` on each line, tar files, or `shapes[:N]`, N of the
    /// quickstart's scenes (256). A relative path starts at the working directory.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub images: String,
    /// How many of the images to measure on, spread evenly over the set; all by default. With a larger number a finished
    /// comparison goes on.
    #[garde(inner(custom(image_count)))]
    #[schemars(range(min = 1, max = 100_000_000))]
    #[serde(default)]
    pub limit: Option<usize>,
    /// What to measure: `ad@50`, `insertion`, ...; `explainer-train evaluate --help` lists them.
    #[garde(length(min = 1), inner(custom(not_blank)))]
    #[schemars(length(min = 1))]
    pub metrics: Vec<String>,
    /// What to compare, two or more.
    #[garde(dive)]
    pub explainers: Vec<Compared>,
    /// Name of the explainer that the others are compared with image by image; the first by default.
    #[garde(inner(custom(not_blank)))]
    #[serde(default)]
    pub reference: Option<String>,
    /// Images shown with every explainer's map.
    #[garde(dive)]
    #[serde(default)]
    pub gallery: Gallery,
    /// Where the objects on the images are: a CSV, COCO or VOC file, or a folder of VOC files. Known of `shapes`.
    #[garde(skip)]
    #[serde(default)]
    pub objects: Option<PathBuf>,
    /// Where people look at the images: a CSV file (`image,x,y`).
    #[garde(skip)]
    #[serde(default)]
    pub fixations: Option<PathBuf>,
    /// Images at a time, whole or perturbed. What is measured does not depend on it, the time does.
    #[garde(custom(at_least_one))]
    #[schemars(range(min = 1))]
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Seed of the methods that draw random numbers.
    #[garde(skip)]
    #[serde(default)]
    pub seed: u64,
    /// Fraction of images that may be unreadable; fewer are skipped, counted and named.
    #[garde(custom(fraction))]
    #[schemars(range(min = 0.0, max = 1.0))]
    #[serde(default = "max_broken")]
    pub max_broken: f64,
    /// Folder for the report and what it is made from; by default `checkpoints/` and the name of the YAML file.
    #[garde(skip)]
    #[serde(default)]
    pub output: Option<PathBuf>,
    /// Where to compute: `flex` (the CPU, always there), or a device compiled in, such as `cuda:0`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    #[serde(default = "super::device")]
    pub device: String,
    /// CPU threads to compute with; all cores by default.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    #[serde(default)]
    pub threads: Option<usize>,
}

fn batch_size() -> usize {
    32
}

fn max_broken() -> f64 {
    0.1
}

/// The frozen classifier that is explained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(deny_unknown_fields)]
pub struct Classifier {
    /// Architecture, by its registered name: `vgg16`, `resnet50`, `vit_b_16`, ...
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub name: String,
    /// Where the trained weights are, in the forms of a run's `backbone.weights`.
    #[garde(custom(not_blank))]
    #[schemars(length(min = 1))]
    pub weights: String,
    /// SHA-256 of the weights file, 64 hexadecimal digits.
    #[garde(inner(custom(hex_digest)))]
    #[schemars(regex(pattern = "^[0-9a-fA-F]{64}$"))]
    #[serde(default)]
    pub sha256: Option<String>,
    /// Text file with the name of one class a line, in the classifier's order; by default the names that the first learned
    /// explainer has, or ImageNet-1k's for 1000 classes.
    #[garde(skip)]
    #[serde(default)]
    pub classes: Option<PathBuf>,
}

/// One explainer of a comparison: `artifact`, `train` or `method` says which.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Compared {
    /// A trained explainer: the folder `artifact/` in a run's output.
    #[garde(skip)]
    pub artifact: Option<PathBuf>,
    /// The same by its run's YAML file. Where the run has left no artifact yet, it is made or finished first.
    #[garde(skip)]
    pub train: Option<PathBuf>,
    /// A method without training: `grad-cam`, `rise@1000`, ...; `explainer-train evaluate --help` lists them.
    #[garde(inner(custom(not_blank)))]
    pub method: Option<String>,
    /// What the report calls it; by default the method, or the name of the run.
    #[garde(inner(custom(not_blank)))]
    pub name: Option<String>,
    /// Measure it on so many of the images, spread evenly over the set: for methods that cost many passes. It is compared
    /// with others on the images that both have.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub images: Option<usize>,
    /// The weights of its second classifier (P-TAME's auxiliary, BEE's context), where they are no longer at the place that
    /// the artifact names.
    #[garde(inner(custom(not_blank)))]
    pub auxiliary_weights: Option<String>,
    /// BEE: the metric that its maps are drawn for, such as `INS`; needed where it learned for several.
    #[garde(inner(custom(not_blank)))]
    pub metric: Option<String>,
    /// BEE: maps drawn for an explanation; by default as the artifact says.
    #[garde(inner(custom(at_least_one)))]
    #[schemars(range(min = 1))]
    pub draws: Option<usize>,
    /// BEE: draw all baselines from this family in place of the learned mixture, to see what learning is worth.
    #[garde(inner(custom(baseline_family)))]
    #[schemars(regex(pattern = "^(normal|uniform|blur|constant|train-data)$"))]
    pub family: Option<String>,
}

fn baseline_family(name: &str, _: &()) -> Result<(), garde::Error> {
    name.parse::<Family>().map(drop).map_err(garde::Error::new)
}

/// Where an explainer of a comparison comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source<'a> {
    /// A trained explainer's folder.
    Artifact(&'a Path),
    /// The YAML file of its run.
    Train(&'a Path),
    /// A method without training.
    Method(&'a str),
}

impl Compared {
    /// Where it comes from; nothing where not exactly one place is given.
    #[must_use]
    pub fn source(&self) -> Option<Source<'_>> {
        match (&self.artifact, &self.train, &self.method) {
            (Some(folder), None, None) => Some(Source::Artifact(folder)),
            (None, Some(file), None) => Some(Source::Train(file)),
            (None, None, Some(method)) => Some(Source::Method(method)),
            _ => None,
        }
    }

    /// What the report calls it.
    #[must_use]
    pub fn name(&self) -> String {
        let part = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        match (&self.name, self.source()) {
            (Some(name), _) => name.clone(),
            (None, Some(Source::Artifact(folder))) => match folder.parent() {
                Some(run) if folder.ends_with("artifact") && run.file_name().is_some() => part(run.file_name()),
                _ => part(folder.file_name()),
            },
            (None, Some(Source::Train(file))) => part(file.file_stem()),
            (None, Some(Source::Method(method))) => method.to_owned(),
            (None, None) => "explainer".into(),
        }
    }
}

/// Images shown with every explainer's map, the worst cases of the reference first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema, Validate)]
#[serde(default, deny_unknown_fields)]
pub struct Gallery {
    /// How many; 0 for none.
    #[garde(skip)]
    pub images: usize,
    /// The metric that says which cases are the worst; the first by default.
    #[garde(inner(custom(not_blank)))]
    pub metric: Option<String>,
}

impl Default for Gallery {
    fn default() -> Self {
        Self { images: 12, metric: None }
    }
}

impl CompareConfig {
    /// Whether the text of a YAML file is that of a comparison and not of a run.
    #[must_use]
    pub fn is_meant(text: &str) -> bool {
        let tree: Option<serde_json::Value> = serde_saphyr::from_str_with_options(text, super::options()).ok();
        tree.is_some_and(|tree| tree.get("explainers").is_some())
    }

    /// Reads a YAML file, applies `key.path=value` overrides in their order, and checks types, ranges and the rules
    /// across keys. `output` is filled in from the file's name where it is not given.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let mut config = Self::parse(&read(path)?, path, overrides)?;
        if config.output.is_none() {
            let stem = path.file_stem().unwrap_or("comparison".as_ref());
            config.output = Some(Path::new("checkpoints").join(stem));
        }
        Ok(config)
    }

    /// As [`CompareConfig::load`], from the text of a YAML file; `path` is for messages alone and `output` is left as it
    /// is.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn parse(text: &str, path: &Path, overrides: &[String]) -> Result<Self, ConfigError> {
        let config: Self = document(text, path, overrides)?;
        let problems = config.problems();
        if problems.is_empty() { Ok(config) } else { Err(ConfigError::Unsound { path: path.to_owned(), problems }) }
    }

    /// The output folder: [`CompareConfig::load`] has filled it in.
    #[must_use]
    pub fn output_dir(&self) -> &Path {
        self.output.as_deref().unwrap_or(Path::new("checkpoints/comparison"))
    }

    /// The name of the explainer that the others are compared with.
    #[must_use]
    pub fn reference(&self) -> String {
        let first = || self.explainers.first().map(Compared::name).unwrap_or_default();
        self.reference.clone().unwrap_or_else(first)
    }

    /// The configuration with every key written out.
    ///
    /// # Errors
    /// Values that YAML cannot hold.
    pub fn to_yaml(&self) -> Result<String, serde_saphyr::SerializeError> {
        serde_saphyr::to_string(self)
    }

    /// JSON Schema of the YAML, for editors.
    #[must_use]
    pub fn schema() -> serde_json::Value {
        schemars::schema_for!(CompareConfig).to_value()
    }

    /// Rules across keys. One message for each that is broken.
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_explainers(&mut found);
        self.check_metrics(&mut found);
        let names: Vec<String> = self.explainers.iter().map(Compared::name).collect();
        if let Some(reference) = &self.reference
            && !names.contains(reference)
        {
            found.push(format!("reference: found `{reference}`, expected one of the explainers: {}", names.join(", ")));
        }
        found
    }

    fn check_explainers(&self, found: &mut Vec<String>) {
        let count = self.explainers.len();
        if count < 2 {
            found.push(format!("explainers: found {count}, expected two or more: there is nothing to compare"));
        }
        let mut names: Vec<String> = Vec::new();
        for (place, explainer) in self.explainers.iter().enumerate() {
            let key = format!("explainers[{place}]");
            match explainer.source() {
                None => found.push(format!("{key}: expected exactly one of the keys artifact, train and method")),
                Some(Source::Method(method)) => {
                    if let Err(error) = method.parse::<MethodSpec>() {
                        found.push(format!("{key}.method: {error}"));
                    }
                    let learned = [
                        ("auxiliary_weights", explainer.auxiliary_weights.is_some()),
                        ("metric", explainer.metric.is_some()),
                        ("draws", explainer.draws.is_some()),
                        ("family", explainer.family.is_some()),
                    ];
                    for (name, _) in learned.iter().filter(|(_, given)| *given) {
                        found.push(format!("{key}.{name}: a method without training has none; remove it"));
                    }
                }
                Some(_) => {}
            }
            let name = explainer.name();
            if names.contains(&name) {
                found.push(format!("{key}.name: `{name}` is there twice; give one of them another `name`"));
            }
            names.push(name);
        }
        let learned = |one: &Compared| matches!(one.source(), Some(Source::Artifact(_) | Source::Train(_)));
        if self.backbone.is_none() && !self.explainers.iter().any(learned) {
            found.push("backbone: needed, since no explainer is a trained one, which would name its classifier".into());
        }
    }

    fn check_metrics(&self, found: &mut Vec<String>) {
        let mut known = Vec::new();
        for (place, name) in self.metrics.iter().enumerate() {
            let spec = match metric(name) {
                Ok(metric) => metric.spec(),
                Err(error) => {
                    found.push(format!("metrics[{place}]: {error}"));
                    continue;
                }
            };
            let scenes = self.images.split(':').next() == Some("shapes");
            match spec.needs {
                Needs::Objects if self.objects.is_none() && !scenes => {
                    found.push(format!("metrics[{place}]: {name} needs the key `objects`"));
                }
                Needs::Fixations if self.fixations.is_none() => {
                    found.push(format!("metrics[{place}]: {name} needs the key `fixations`"));
                }
                _ if known.contains(&spec.name) => {
                    found.push(format!("metrics[{place}]: {name} is there twice"));
                }
                _ => {}
            }
            known.push(spec.name);
        }
        let worst = self.gallery.metric.as_ref().and_then(|name| Some((name, metric(name).ok()?.spec().name)));
        match (&self.gallery.metric, worst) {
            (Some(name), None) => found.push(format!("gallery.metric: there is no metric `{name}`")),
            (_, Some((name, own))) if !known.contains(&own) => {
                found.push(format!("gallery.metric: found `{name}`, expected one of metrics: {}", known.join(", ")));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = "\
images: photos
metrics: [ad@50, insertion]
explainers:
  - {artifact: checkpoints/one/artifact}
  - {method: grad-cam}
";

    fn with(overrides: &[&str]) -> Result<CompareConfig, ConfigError> {
        let overrides: Vec<String> = overrides.iter().map(|&text| text.into()).collect();
        CompareConfig::parse(MINIMAL, Path::new("compare.yaml"), &overrides)
    }

    fn refusal(overrides: &[&str]) -> String {
        with(overrides).unwrap_err().to_string()
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = with(&[]).unwrap();
        let names: Vec<String> = config.explainers.iter().map(Compared::name).collect();
        assert_eq!(names, ["one", "grad-cam"]);
        assert_eq!((config.reference(), config.gallery.images, config.batch_size), ("one".into(), 12, 32));
        let text = config.to_yaml().unwrap();
        assert_eq!(CompareConfig::parse(&text, Path::new("compare.yaml"), &[]).unwrap(), config, "{text}");
        assert!(CompareConfig::is_meant(MINIMAL) && !CompareConfig::is_meant("explainer: {method: ttame}"));
    }

    #[test]
    fn names_come_from_the_run() {
        let named =
            |text: &str| with(&[&format!("explainers=[{text}, {{artifact: z}}]")]).unwrap().explainers[0].name();
        assert_eq!(named("{artifact: runs/a/artifact}"), "a");
        assert_eq!(named("{artifact: artifact}"), "artifact");
        assert_eq!(named("{artifact: published}"), "published");
        assert_eq!(named("{train: configs/quickstart.yaml}"), "quickstart");
        assert_eq!(named("{method: rise@100, name: RISE}"), "RISE");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_would() {
        for (overrides, expected) in [
            (&["explainers=[]"][..], "explainers: found 0, expected two or more: there is nothing to compare"),
            (&["explainers=[{method: edges}]"], "backbone: needed, since no explainer is a trained one"),
            (
                &["explainers=[{artifact: a}, {method: gard-cam}]"],
                "explainers[1].method: unknown attribution method `gard-cam`; known are grad-cam",
            ),
            (
                &["explainers=[{artifact: a, method: edges}, {name: b}]"],
                "explainers[0]: expected exactly one of the keys artifact, train and method",
            ),
            (&["explainers=[{artifact: a}, {method: edges, draws: 3}]"], "explainers[1].draws: a method without"),
            (&["explainers=[{artifact: x/a}, {artifact: y/a}]"], "explainers[1].name: `a` is there twice"),
            (&["metrics=[ad@50, add]"], "metrics[1]: unknown metric `add`; known are ad[@PERCENT]"),
            (&["metrics=[ad, ad@100]"], "metrics[1]: ad@100 is there twice"),
            (&["metrics=[pointing]"], "metrics[0]: pointing needs the key `objects`"),
            (&["metrics=[nss]"], "metrics[0]: nss needs the key `fixations`"),
            (
                &["gallery.metric=deletion"],
                "gallery.metric: found `deletion`, expected one of metrics: ad@50, insertion",
            ),
            (&["gallery.metric=best"], "gallery.metric: there is no metric `best`"),
            (&["reference=two"], "reference: found `two`, expected one of the explainers: one, grad-cam"),
            (&["explainers=[{artifact: a, family: black}, {method: edges}]"], "unknown family of baselines \"black\""),
            (&["limit=0"], "found 0, expected 1 to 100000000 images"),
            (&["explainers=[{artifact: a}, {method: edges, images: 0}]"], "found 0, expected 1 or more"),
            (&["explainer=3"], "unknown key `explainer`, did you mean `explainers`?"),
            (&["metrics=[]"], "metrics"),
        ] {
            let problem = refusal(overrides);
            assert!(problem.contains(expected), "{overrides:?}: {problem}");
        }
        assert!(with(&["metrics=[pointing]", "images=shapes:8"]).is_ok(), "objects of scenes are known");
    }
}
