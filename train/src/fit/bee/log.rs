//! How a run of BEE shows itself: `metrics.jsonl`, a bar or lines.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;

use indicatif::ProgressBar;
use serde_json::json;

use super::super::log;
use super::{FitError, Measured};
use crate::report::progress::bar;

/// `metrics.jsonl`.
pub(super) struct Log {
    path: PathBuf,
    file: File,
}

impl Log {
    pub(super) fn open(path: PathBuf) -> Result<Self, FitError> {
        let file = log::open(&path).map_err(|source| FitError::Output { path: path.clone(), source })?;
        Ok(Self { path, file })
    }

    /// Forces what was told so far to the disk, before a checkpoint says that it was.
    pub(super) fn sync(&self) -> Result<(), FitError> {
        self.file.sync_data().map_err(|source| FitError::Output { path: self.path.clone(), source })
    }

    /// One line, whole, in the file before anything else happens.
    pub(super) fn line(&mut self, line: &serde_json::Value) -> Result<(), FitError> {
        let text = format!("{line}\n");
        self.file.write_all(text.as_bytes()).map_err(|source| FitError::Output { path: self.path.clone(), source })
    }

    pub(super) fn figures(&mut self, step: usize, measured: &[Measured]) -> Result<(), FitError> {
        let of =
            |m: &Measured| (m.metric.name(), json!({"learned": m.learned, "uniform": m.uniform, "images": m.images}));
        let figures: BTreeMap<&str, serde_json::Value> = measured.iter().map(of).collect();
        self.line(&json!({"step": step, "validation": figures}))
    }
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
            // Nobody is left to tell if this fails.
            let _ = writeln!(stderr(), "step {step}/{steps}  {text}  {rate:.1} images/s");
        }
    }

    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
