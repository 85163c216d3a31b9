//! What an artifact records of an attention head: tensors, limits of their sizes, and the code for PyTorch.

use burn::tensor::Device;

use super::config::TameConfig;
use super::head::TameHead;
use super::upsampling::Upsampling;
use crate::backbone::TapSpec;
use crate::head::{HeadConfig, MAX_PARAMETERS, MAX_SIDE, PyTorchUse, ShapeError, SizeError, python_flag, python_list};

/// Most taps of a head: lists of all that a `config.json` has room for would take a hundred times its size.
const MAX_TAPS: usize = 1024;

impl HeadConfig for TameConfig {
    type Head = TameHead;

    const KEY: &'static str = "branches";

    const LIMITS: &'static str = "- Each map is stretched to 0..1 on its own: brightness cannot be compared between maps, and a class that is \
         not in the image gets a map too.\n";

    fn channels(&self) -> &[usize] {
        &self.channels
    }

    fn classes(&self) -> usize {
        self.classes
    }

    fn map_size(&self) -> [usize; 2] {
        self.map_size
    }

    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        Self::tensors(self)
    }

    fn init(&self, seed: u64, device: &Device) -> TameHead {
        TameHead::new(self.clone(), seed, device)
    }

    fn with_values(&self, values: &dyn Fn(&str, &[usize]) -> Vec<f32>, device: &Device) -> TameHead {
        TameHead::from_values(self.clone(), values, device)
    }

    fn of(head: &TameHead) -> &Self {
        head.config()
    }

    fn values_of(head: &TameHead) -> Vec<(String, Vec<usize>, Vec<f32>)> {
        head.values()
    }

    fn check(&self) -> Result<(), SizeError> {
        let wrong = |key, found: String, expected: String| Err(SizeError { key, found, expected });
        let Self { channels, classes, map_size, .. } = self;
        if channels.is_empty() || channels.contains(&0) {
            return wrong("head.channels", format!("{channels:?}"), "one positive number a tap".into());
        }
        if channels.len() > MAX_TAPS {
            return wrong("head.channels", format!("a list of {}", channels.len()), format!("at most {MAX_TAPS} taps"));
        }
        if *classes == 0 {
            return wrong("head.classes", "0".into(), "at least one class".into());
        }
        if map_size.iter().any(|side| !(1..=MAX_SIDE).contains(side)) {
            let expected = format!("two sides of 1 to {MAX_SIDE}");
            return wrong("head.map_size", format!("{map_size:?}"), expected);
        }
        let squares = channels.iter().map(|c| (*c as u128).saturating_mul(*c as u128));
        let columns = channels.iter().map(|c| *c as u128).fold(0, u128::saturating_add);
        let fuser = columns.saturating_add(1).saturating_mul(*classes as u128);
        if squares.fold(fuser, u128::saturating_add) > MAX_PARAMETERS {
            let found = format!("{channels:?} with {classes} classes");
            return wrong("head.channels", found, format!("a head of at most {MAX_PARAMETERS} parameters"));
        }
        Ok(())
    }

    fn check_taps(&self, taps: &[TapSpec], side: usize) -> Result<(), ShapeError> {
        self.upsampling.check(taps, side).map_err(ShapeError::new)
    }

    fn pytorch(&self, file: &str) -> PyTorchUse {
        let ([height, width], classes) = (self.map_size, self.classes);
        let doubling = match self.upsampling {
            Upsampling::Resize => "",
            Upsampling::Doubling => ", upsampling=\"doubling\"",
        };
        PyTorchUse {
            given: "(of a transformer: tokens without class token and registers, as a square grid)",
            module: include_str!("head.py"),
            code: format!(
                "head = Head([{channels}], {classes}, ({height}, {width}), branches={branches}, \
                 fuse_bias={bias}{doubling})\n\
                 head.load_state_dict(load_file({file}), strict=True)\n\
                 head.eval()\n\
                 maps = heat_map(head(features))  # [B,{classes},{height},{width}] in 0..1\n",
                channels = python_list(&self.channels),
                branches = python_flag(self.branches),
                bias = python_flag(self.fuse_bias),
            ),
        }
    }
}
