//! Progress and validation lines of a run of BEE.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write, stderr};

use indicatif::ProgressBar;
use serde_json::json;

use super::Measured;
use crate::report::progress::bar;

/// The log's line of a validation.
pub(super) fn figures(step: usize, measured: &[Measured]) -> serde_json::Value {
    let of = |m: &Measured| (m.metric.name(), json!({"learned": m.learned, "uniform": m.uniform, "images": m.images}));
    let figures: BTreeMap<&str, serde_json::Value> = measured.iter().map(of).collect();
    json!({"step": step, "validation": figures})
}

/// How a run shows itself: a bar on a terminal, lines elsewhere.
pub(super) struct Meter {
    bar: ProgressBar,
    plain: bool,
}

impl Meter {
    pub(super) fn new(images: usize, done: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{bar:24} {pos}/{len} images  {eta:>4} left  {wide_msg}");
        bar.set_position(done as u64);
        bar.reset_eta();
        Self { bar, plain: !quiet && !stderr().is_terminal() }
    }

    pub(super) fn advance(&self, images: usize) {
        self.bar.set_position(images as u64);
    }

    pub(super) fn say(&self, step: usize, steps: usize, text: &str, rate: f64) {
        self.bar.set_message(text.to_owned());
        if self.plain {
            // A failure to print cannot be reported.
            let _ = writeln!(stderr(), "step {step}/{steps}  {text}  {rate:.1} images/s");
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
