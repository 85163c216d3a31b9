//! What an artifact records of a masking model: tensors, limits of their sizes, and the code for PyTorch.

use burn::tensor::Device;

use super::config::MaskingModelConfig;
use super::model::MaskingModel;
use crate::head::{HeadConfig, MAX_PARAMETERS, MAX_SIDE, PyTorchUse, SizeError, python_flag, python_list};

/// Most scales of an encoder.
const MAX_SCALES: usize = 16;

impl HeadConfig for MaskingModelConfig {
    type Head = MaskingModel;

    const KEY: &'static str = "sides";

    const LIMITS: &'static str = "- A map is a mask, not a probability: it is as large as the training's weights made it. A class that is not \
         in the image is to have an empty one, but may have another.\n";

    fn channels(&self) -> &[usize] {
        &self.channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn map_size(&self) -> [usize; 2] {
        Self::map_size(self)
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        Self::tensors(self)
    }

    fn init(&self, seed: u64, device: &Device) -> MaskingModel {
        MaskingModel::new(self.clone(), seed, device)
    }

    fn with_values(&self, values: &dyn Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> MaskingModel {
        MaskingModel::from_values(self.clone(), values, device)
    }

    fn of(head: &MaskingModel) -> &Self {
        head.config()
    }

    fn values_of(head: &MaskingModel) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        head.values()
    }

    fn check(&self) -> Result<(), SizeError> {
        let wrong = |key, found: String, expected: String| Err(SizeError { key, found, expected });
        let Self { channels, sides, classes, width, confidence, .. } = self;
        if !(2..=MAX_SCALES).contains(&channels.len()) || channels.contains(&0) {
            let expected = format!("a positive number for each of 2 to {MAX_SCALES} taps");
            return wrong("head.channels", format!("{channels:?}"), expected);
        }
        let halve = sides.windows(2).all(|pair| pair[1].checked_mul(2) == Some(pair[0]));
        let within = sides.iter().all(|side| (1..=MAX_SIDE).contains(side));
        if sides.len() != channels.len() || !halve || !within {
            let expected = format!("one side for each of head.channels, 1 to {MAX_SIDE}, each half of the one before");
            return wrong("head.sides", format!("{sides:?}"), expected);
        }
        if *classes == 0 {
            return wrong("head.classes", "0".into(), "at least one class".into());
        }
        if *width == 0 {
            return wrong("head.width", "0".into(), "at least one channel".into());
        }
        if !confidence.is_finite() {
            return wrong("head.confidence", confidence.to_string(), "a finite number".into());
        }
        let size =
            |(_, shape): (String, Vec<usize>)| shape.iter().fold(1, |n: u128, side| n.saturating_mul(*side as u128));
        if self.tensors().into_iter().map(size).fold(0, u128::saturating_add) > MAX_PARAMETERS {
            let found = format!("{channels:?} with {classes} classes and width {width}");
            return wrong("head.channels", found, format!("a model of at most {MAX_PARAMETERS} parameters"));
        }
        Ok(())
    }

    fn pytorch(&self, file: &str) -> PyTorchUse {
        let [height, width] = self.map_size();
        let word = |value: serde_json::Result<serde_json::Value>| {
            value.map_or_else(|_| "None".into(), |value| value.to_string())
        };
        PyTorchUse {
            given: "and a class for each image, `classes`",
            module: include_str!("masking_model.py"),
            code: format!(
                "model = MaskingModel(\n    [{channels}], {classes}, class_selector={selector}, width={last}, \
                 activation={activation},\n    upsampling={upsampling}, confidence={confidence:?},\n)\n\
                 model.load_state_dict(load_file({file}), strict=True)\n\
                 model.eval()\n\
                 maps = heat_map(model(features, classes))  # [B,1,{height},{width}] in 0..1\n",
                channels = python_list(&self.channels),
                classes = self.classes,
                selector = python_flag(self.class_selector),
                last = self.width,
                activation = word(serde_json::to_value(self.activation)),
                upsampling = word(serde_json::to_value(self.upsampling)),
                confidence = self.confidence,
            ),
        }
    }
}
