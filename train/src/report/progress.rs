//! Progress on standard error: a bar on a terminal, and lines elsewhere for what nothing else would show.

use crate::data::Tally;
use explainer_zoo::artifact::BackboneMatch;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};

/// Bytes between two lines about a download whose length is not known.
const STRETCH: u64 = 64 << 20;

/// A bar on standard error, if that is a terminal and may be written to.
pub fn bar(length: Option<u64>, quiet: bool, template: &str) -> ProgressBar {
    if quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Runs `load`, which reports a download's bytes done and in all, and shows them unless `quiet`.
pub fn with_download_bar<T>(quiet: bool, load: impl FnOnce(&mut dyn FnMut(u64, Option<u64>)) -> T) -> T {
    let plain = !quiet && !stderr().is_terminal();
    let mut lines = Lines::default();
    // No bar before the first byte: most weights are on this machine already.
    let mut shown: Option<ProgressBar> = None;
    let loaded = load(&mut |done, total| {
        if plain {
            if let Some(text) = lines.about(done, total) {
                line(&text);
            }
            return;
        }
        let bar = shown.get_or_insert_with(|| {
            bar(total, quiet, "downloading {bar:30} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
        });
        bar.set_position(done);
    });
    if let Some(bar) = shown {
        bar.finish_and_clear();
    }
    loaded
}

/// How far a pass over a set of images is, and which of them were broken.
#[derive(Debug)]
pub struct Meter {
    bar: ProgressBar,
    name: Option<String>,
    total: usize,
    done: usize,
    told: usize,
    warned: usize,
}

impl Meter {
    /// The start of one pass, in the set's own order, over this many images.
    #[must_use]
    pub fn new(images: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{bar:30} {pos}/{len} images, {per_sec}, {eta} left");
        Self { bar, name: None, total: images, done: 0, told: 0, warned: 0 }
    }

    /// The same for one of several passes, of which `done` images are done already. Off a terminal it has a line every
    /// tenth of the images.
    #[must_use]
    pub fn named(name: &str, images: usize, done: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{msg}: {bar:24} {pos}/{len} images, {per_sec}, {eta} left");
        let bar = bar.with_message(name.to_owned()).with_position(done as u64);
        bar.reset_eta();
        let name = (!quiet && !stderr().is_terminal()).then(|| name.to_owned());
        Self { bar, name, total: images, done, told: 10 * done / images.max(1), warned: 0 }
    }

    /// Counts `images` that are done, and warns of those that were found broken since the last call.
    pub fn advance(&mut self, images: usize, tally: &Tally) {
        // The tally is in the order of the set, as the pass is: new ones are at the end.
        let mut broken = 0;
        for image in tally.files().skip(self.warned) {
            self.bar.suspend(|| line(&format!("warning: {}", image.reason)));
            broken += 1;
        }
        self.warned += broken;
        self.done += images + broken;
        self.bar.inc((images + broken) as u64);
        let part = 10 * self.done / self.total.max(1);
        if let Some(name) = self.name.as_ref().filter(|_| part > self.told) {
            line(&format!("{name}: {} of {} images", self.done, self.total));
        }
        self.told = self.told.max(part);
    }

    /// Ends the pass: warns of what is left to warn of and takes the bar away.
    pub fn finish(&mut self, tally: &Tally) {
        self.advance(0, tally);
        self.bar.finish_and_clear();
    }
}

/// Warns of classifiers of which nobody can tell whether they are those of an explainer's training.
pub fn warn_of_unverified(matched: &[BackboneMatch]) {
    for matched in matched {
        if let BackboneMatch::Unverified(warning) = matched {
            line(&format!("warning: {warning}"));
        }
    }
}

/// A line on standard error; nobody is left to tell if that fails.
pub fn line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Which of the many reports of a download are worth a line: the first, and one every tenth.
#[derive(Debug, Default)]
struct Lines {
    part: Option<u64>,
}

impl Lines {
    /// The line about `done` bytes, if they have reached another tenth than those before, or have started anew.
    fn about(&mut self, done: u64, total: Option<u64>) -> Option<String> {
        let part = total.map_or(done / STRETCH, |total| done.saturating_mul(10) / total.max(1));
        if self.part.replace(part) == Some(part) {
            return None;
        }
        let whole = total.map(|total| format!(" of {}", HumanBytes(total))).unwrap_or_default();
        Some(format!("downloading the weights: {}{whole}", HumanBytes(done)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_a_line_every_tenth() {
        let mut lines = Lines::default();
        for total in [1000, 1001] {
            let count = (0..=total).filter(|done| lines.about(*done, Some(total)).is_some()).count();
            assert_eq!(count, 11, "the start and ten tenths of {total}");
        }
        assert_eq!(lines.about(0, Some(1000)).as_deref(), Some("downloading the weights: 0 B of 1000 B"));
        assert_eq!(lines.about(99, Some(1000)), None);
    }

    #[test]
    fn a_download_without_a_length_has_a_line_now_and_then() {
        let mut lines = Lines::default();
        assert_eq!(lines.about(0, None).as_deref(), Some("downloading the weights: 0 B"));
        assert_eq!(lines.about(STRETCH - 1, None), None);
        assert_eq!(lines.about(STRETCH, None).as_deref(), Some("downloading the weights: 64.00 MiB"));
    }
}
