//! What a single key's range cannot say: rules across keys.

use super::{Config, Data, Explainer, Masking, Optimizer, Schedule};
use explainer_zoo::backbone::architecture;

impl Config {
    /// Rules across keys. One message for each that is broken; empty when the configuration is sound.
    pub(super) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_taps(&mut found);
        self.check_weights(&mut found);
        self.check_data(&mut found);
        self.check_optimizer(&mut found);
        found
    }

    /// Things that are allowed but that the writer of the file may not have meant.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if matches!(self.explainer, Explainer::LcamFm(_)) && self.masking != Masking::default() {
            notes.push("masking: ignored, lcam_fm multiplies the feature map and not the image".into());
        }
        if self.backbone.weights == "random" {
            notes.push("backbone.weights: a random classifier has nothing to explain; good for timing only".into());
        }
        if self.train.batch_size == 1 {
            notes.push("train.batch_size: with 1, BatchNorm sees one image a step; the papers use 32".into());
        }
        notes
    }

    fn check_taps(&self, found: &mut Vec<String>) {
        let (method, taps) = (self.explainer.method(), &self.backbone.taps);
        if self.explainer.is_lcam() && taps.as_ref().is_none_or(|taps| taps.len() != 1) {
            let count = taps.as_ref().map_or("the backbone's default".into(), |taps| format!("{} taps", taps.len()));
            found.push(format!(
                "backbone.taps: found {count}, but explainer.method `{method}` takes exactly one; \
                 for example `taps: [layer4]` on a ResNet"
            ));
        }
        if matches!(&self.explainer, Explainer::LcamFm(head) if head.map_size.is_some()) {
            found.push(
                "explainer.map_size: lcam_fm multiplies the tapped feature map, whose size it has; remove it".into(),
            );
        }
        for (i, tap) in taps.iter().flatten().enumerate() {
            if taps.iter().flatten().take(i).any(|earlier| earlier == tap) {
                found.push(format!("backbone.taps: `{tap}` is there twice"));
            }
        }
    }

    fn check_weights(&self, found: &mut Vec<String>) {
        let backbone = &self.backbone;
        if backbone.weights == "embedded" && backbone.name != "shapes_resnet" {
            found.push(format!(
                "backbone.weights: `embedded` belongs to the backbone `shapes_resnet`, found `{}`; \
                 give a file, hf://owner/name or an https:// address",
                backbone.name
            ));
        }
        if backbone.weights.starts_with("http://") {
            found.push("backbone.weights: found an http:// address, expected https://".into());
        }
        if backbone.weights.starts_with("https://") && backbone.sha256.is_none() && !names_its_hash(&backbone.weights) {
            found.push(format!(
                "backbone.sha256: needed, since the file name in `{}` does not end in `-` and eight hexadecimal digits",
                backbone.weights
            ));
        }
    }

    fn check_data(&self, found: &mut Vec<String>) {
        let data = &self.data;
        for (key, path, images) in [("train", &data.train, data.train_images), ("val", &data.val, data.val_images)] {
            if path == Data::SHAPES && images.is_none() {
                found.push(format!(
                    "data.{key}_images: needed, since data.{key} is `shapes` and procedural images have no end"
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
                "data.crop: found {crop}, expected at least {stride}, the pixels in a cell of {}'s smallest map",
                self.backbone.name
            ));
        }
        for (i, augment) in data.augment.iter().enumerate() {
            if data.augment[..i].contains(augment) {
                found.push(format!("data.augment: {augment:?} is there twice"));
            }
        }
    }

    /// Input pixels per cell of the backbone's smallest map; a name that is no backbone is refused where it is loaded.
    fn largest_stride(&self) -> Option<usize> {
        architecture(&self.backbone.name)?.taps.iter().map(|tap| tap.stride).max()
    }

    fn check_optimizer(&self, found: &mut Vec<String>) {
        if let Optimizer::Sgd(sgd) = &self.optimizer
            && sgd.nesterov
            && sgd.momentum == 0.0
        {
            found.push("optimizer.nesterov: needs a momentum above 0; set `nesterov: false` or a momentum".into());
        }
        if let Schedule::OneCycle(cycle) = &self.schedule
            && cycle.base_momentum > cycle.max_momentum
        {
            found.push(format!(
                "schedule.base_momentum: found {}, expected at most schedule.max_momentum ({})",
                cycle.base_momentum, cycle.max_momentum
            ));
        }
    }
}

/// Whether a file name ends like torchvision's, `vgg16-397923af.pth`: `-`, eight hexadecimal digits, an extension.
fn names_its_hash(url: &str) -> bool {
    let file = url.rsplit('/').next().unwrap_or(url);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    stem.rsplit_once('-').is_some_and(|(_, hash)| hash.len() == 8 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
}
