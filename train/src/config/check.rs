//! Rules across the keys of a run.

use super::{Auxiliary, Backbone, Config, Data, Objective, Optimizer, Schedule, Train};
use explainer_zoo::backbone::{architecture, torchscript};
use explainer_zoo::explainer::RunKeys;
use explainer_zoo::explainer::bee::BeeContext;
use explainer_zoo::masking::Masking;

impl Config {
    /// Checks the rules across keys. One message for each broken rule; empty if the configuration is sound.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_taps(&mut found);
        self.check_auxiliary(&mut found);
        found.extend(self.explainer.problems(&self.run_keys()));
        let Backbone { name, weights, sha256, .. } = &self.backbone;
        check_weights("backbone", name, weights, sha256.as_deref(), &mut found);
        if let Some(Auxiliary { name, weights, sha256, .. }) = &self.auxiliary {
            check_weights("auxiliary", name, weights, sha256.as_deref(), &mut found);
        }
        self.check_preprocessing(&mut found);
        if let Some(BeeContext { name, weights, sha256 }) = self.explainer.bee().and_then(|bee| bee.context.as_ref()) {
            check_weights("explainer.context", name, weights, sha256.as_deref(), &mut found);
        }
        self.check_data(&mut found);
        found.extend(self.optimizer.problem(""));
        found.extend(self.schedule.problem(""));
        found
    }

    /// The keys that the explainer's section may have to agree with.
    fn run_keys(&self) -> RunKeys<'_> {
        RunKeys {
            backbone: &self.backbone.name,
            taps: self.backbone.taps.as_deref(),
            auxiliary: self.auxiliary.as_ref().map(|section| (section.name.as_str(), section.taps.as_deref())),
            crop: self.data.crop,
        }
    }

    /// Notes about settings that are valid but possibly unintended.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.unused();
        if self.backbone.weights == "random" {
            notes.push("backbone.weights: the maps of a random classifier mean nothing; use it for timing only".into());
        }
        if self.auxiliary.as_ref().is_some_and(|auxiliary| auxiliary.weights == "random") {
            notes.push(
                "auxiliary.weights: the feature maps of a random classifier mean little; use them for timing only"
                    .into(),
            );
        }
        if self.train.batch_size == 1 && self.explainer.method().requirements().batch_norm {
            notes
                .push("train.batch_size: with 1, BatchNorm uses the statistics of one image; the papers use 32".into());
        }
        notes
    }

    /// Keys that differ from the default although the method ignores them.
    fn unused(&self) -> Vec<String> {
        let train = Train::default();
        let changed = [
            ("masking", self.masking != Masking::default()),
            ("objective", self.objective != Objective::default()),
            ("optimizer", self.optimizer != Optimizer::default()),
            ("schedule", self.schedule != Schedule::default()),
            ("train.epochs", self.train.epochs != train.epochs),
            ("train.validate_every", self.train.validate_every != train.validate_every),
        ];
        let ignored = self.explainer.method().requirements().ignored;
        let why = |key| ignored.iter().find(|(ignored, _)| *ignored == key).map(|(_, why)| why);
        let note = |(key, _)| Some(format!("{key}: ignored, {}", why(key)?));
        let mut notes: Vec<String> = changed.into_iter().filter(|(_, changed)| *changed).filter_map(note).collect();
        notes.extend(self.explainer.notes());
        notes
    }

    fn check_taps(&self, found: &mut Vec<String>) {
        let (method, taps) = (self.explainer.method(), &self.backbone.taps);
        if method.requirements().one_tap && taps.as_ref().is_none_or(|taps| taps.len() != 1) {
            let count = taps.as_ref().map_or("the backbone's default".into(), |taps| format!("{} taps", taps.len()));
            found.push(format!(
                "backbone.taps: found {count}, but explainer.method `{method}` takes exactly one; \
                 for example `taps: [layer4]` on a ResNet"
            ));
        }
        let others = self.auxiliary.as_ref().and_then(|auxiliary| auxiliary.taps.as_ref());
        for (section, taps) in [("backbone", taps.as_ref()), ("auxiliary", others)] {
            for (i, tap) in taps.into_iter().flatten().enumerate() {
                if taps.into_iter().flatten().take(i).any(|earlier| earlier == tap) {
                    found.push(format!("{section}.taps: `{tap}` is listed twice"));
                }
            }
        }
    }

    fn check_preprocessing(&self, found: &mut Vec<String>) {
        let Some(own) = &self.backbone.preprocessing else { return };
        if self.backbone.name != torchscript::NAME {
            found.push(format!(
                "backbone.preprocessing: not allowed with `{}`, which has its own; remove it (data.resize and data.crop change the \
                 sizes), or set backbone.name to `{}`",
                self.backbone.name,
                torchscript::NAME
            ));
        }
        if own.crop > own.resize {
            found.push(format!(
                "backbone.preprocessing.crop: found {}, expected at most backbone.preprocessing.resize ({})",
                own.crop, own.resize
            ));
        }
    }

    fn check_auxiliary(&self, found: &mut Vec<String>) {
        let method = self.explainer.method();
        match &self.auxiliary {
            None if method.requirements().auxiliary => found.push(format!(
                "auxiliary: required, since explainer.method `{method}` reads the feature maps of a second classifier; for \
                 example `auxiliary: {{name: resnet18, weights: ...}}`"
            )),
            Some(_) if !method.requirements().auxiliary => found.push(format!(
                "auxiliary: not allowed with explainer.method `{method}`, which reads the backbone's feature maps; \
                 remove it, or set `explainer: {{method: ptame}}`"
            )),
            _ => {}
        }
        if method.requirements().auxiliary && self.backbone.taps.is_some() {
            found.push(format!(
                "backbone.taps: not allowed with explainer.method `{method}`, which reads the auxiliary's feature maps; \
                 remove them, or set auxiliary.taps"
            ));
        }
    }

    fn check_data(&self, found: &mut Vec<String>) {
        let data = &self.data;
        for (key, path, images) in [("train", &data.train, data.train_images), ("val", &data.val, data.val_images)] {
            if path == Data::SHAPES && images.is_none() {
                found.push(format!(
                    "data.{key}_images: required, since data.{key} is `shapes`, an infinite set of procedural images"
                ));
            }
        }
        if let (Some(resize), Some(crop)) = (data.resize, data.crop)
            && crop > resize
        {
            found.push(format!("data.crop: found {crop}, expected at most data.resize ({resize})"));
        }
        if let (Some(crop), Some(stride)) = (data.crop, self.largest_stride())
            && crop < stride
        {
            found.push(format!(
                "data.crop: found {crop}, expected at least {stride}, the pixels of a cell in the smallest map of {}",
                self.backbone.name
            ));
        }
        if data.cache && !data.augment.is_empty() {
            found.push(
                "data.cache: found true, but data.augment changes the images in each epoch, so no pass can be cached; set \
                 `augment: []` or remove data.cache"
                    .into(),
            );
        }
        let method = self.explainer.method();
        if data.cache && !method.requirements().caches {
            found.push(format!(
                "data.cache: found true, but explainer.method `{method}` has no pass that can be cached; remove data.cache"
            ));
        }
        for (i, augment) in data.augment.iter().enumerate() {
            if data.augment[..i].contains(augment) {
                found.push(format!("data.augment: {augment:?} is listed twice"));
            }
        }
    }

    /// Input pixels per cell of the backbone's smallest map; a name that is no backbone is refused where it is loaded.
    fn largest_stride(&self) -> Option<usize> {
        architecture(&self.backbone.name)?.taps.iter().map(|tap| tap.stride).max()
    }
}

/// Checks the location of the weights of the backbone `name` in the section `section`, without reading it.
fn check_weights(section: &str, name: &str, weights: &str, sha256: Option<&str>, found: &mut Vec<String>) {
    if name == torchscript::NAME && (weights == "embedded" || weights.starts_with("random")) {
        found.push(format!(
            "{section}.weights: found `{weights}`, but a TorchScript is a file; write one with \
             model-zoo/scripts/export_torchscript.py"
        ));
    } else if weights == "embedded" && name != "shapes_resnet" {
        found.push(format!(
            "{section}.weights: `embedded` belongs to the backbone `shapes_resnet`, found `{name}`; \
             give a file, hf://owner/name or an https:// address"
        ));
    }
    if weights.starts_with("http://") {
        found.push(format!("{section}.weights: found an http:// address, expected https://"));
    }
    if weights.starts_with("https://") && sha256.is_none() && !names_its_hash(weights) {
        found.push(format!(
            "{section}.sha256: required, since the file name in `{weights}` does not end in `-` and at least eight \
             hexadecimal digits"
        ));
    }
}

/// Whether a file name contains its hash as torchvision's do, `vgg16-397923af.pth`: `-`, eight or more hexadecimal digits of
/// the SHA-256, an extension.
fn names_its_hash(url: &str) -> bool {
    let file = url.rsplit('/').next().unwrap_or(url);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let hash = stem.rsplit_once('-').map_or("", |(_, hash)| hash);
    (8..=64).contains(&hash.len()) && hash.bytes().all(|b| b.is_ascii_hexdigit())
}
