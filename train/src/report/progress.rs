//! Progress on standard error: a bar on a terminal, lines elsewhere.

use crate::data::BrokenImages;
use explainer_zoo::artifact::BackboneMatch;
use indicatif::{HumanBytes, ProgressBar, ProgressState, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};

/// Bytes between two lines about a download of unknown length.
const LINE_EVERY: u64 = 64 << 20;

/// A progress bar on standard error; hidden if `quiet` or if standard error is not a terminal.
pub fn bar(length: Option<u64>, quiet: bool, template: &str) -> ProgressBar {
    if quiet || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style(template))
}

/// A style whose `{per_sec}` has one decimal: indicatif prints all digits.
pub fn style(template: &str) -> ProgressStyle {
    let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
        let _ = write!(out, "{:.1}/s", state.per_sec());
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.with_key("per_sec", rate)
}

/// Runs `load`, which reports a download as bytes done and bytes in total, and shows the progress unless `quiet`.
pub fn with_download_bar<T>(quiet: bool, load: impl FnOnce(&mut dyn FnMut(u64, Option<u64>)) -> T) -> T {
    let plain = !quiet && !stderr().is_terminal();
    let mut lines = Lines::default();
    // No bar before the first byte: most weights are in the cache.
    let mut shown: Option<ProgressBar> = None;
    let loaded = load(&mut |done, total| {
        if plain {
            if let Some(text) = lines.next(done, total) {
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

/// Progress of a pass over an image set, with warnings about broken images.
#[derive(Debug)]
pub struct ImageProgress {
    bar: ProgressBar,
    name: Option<String>,
    total: usize,
    done: usize,
    reported_tenths: usize,
    warned: usize,
}

impl ImageProgress {
    /// The start of a pass over `images` images, in the set's own order.
    #[must_use]
    pub fn new(images: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{bar:30} {pos}/{len} images, {per_sec}, {eta} left");
        Self { bar, name: None, total: images, done: 0, reported_tenths: 0, warned: 0 }
    }

    /// The start of one of several passes, with `done` images already done. If standard error is not a terminal, it prints
    /// a line after every tenth of the images.
    #[must_use]
    pub fn named(name: &str, images: usize, done: usize, quiet: bool) -> Self {
        let bar = bar(Some(images as u64), quiet, "{msg}: {bar:24} {pos}/{len} images, {per_sec}, {eta} left");
        let bar = bar.with_message(name.to_owned()).with_position(done as u64);
        bar.reset_eta();
        let name = (!quiet && !stderr().is_terminal()).then(|| name.to_owned());
        Self { bar, name, total: images, done, reported_tenths: 10 * done / images.max(1), warned: 0 }
    }

    /// Counts `images` that are done, and warns about images that were found broken since the last call.
    pub fn advance(&mut self, images: usize, broken_images: &BrokenImages) {
        // Broken images are in the set's order, as the pass is: new ones are at the end.
        let mut broken = 0;
        for image in broken_images.files().skip(self.warned) {
            self.bar.suspend(|| line(&format!("warning: {}", image.reason)));
            broken += 1;
        }
        self.warned += broken;
        self.done += images + broken;
        self.bar.inc((images + broken) as u64);
        let tenths = 10 * self.done / self.total.max(1);
        if let Some(name) = self.name.as_ref().filter(|_| tenths > self.reported_tenths) {
            line(&format!("{name}: {} of {} images", self.done, self.total));
        }
        self.reported_tenths = self.reported_tenths.max(tenths);
    }

    /// Ends the pass: prints the remaining warnings and removes the bar.
    pub fn finish(&mut self, broken_images: &BrokenImages) {
        self.advance(0, broken_images);
        self.bar.finish_and_clear();
    }
}

/// Warns about classifiers that cannot be verified to be those of the explainer's training.
pub fn warn_of_unverified(matched: &[BackboneMatch]) {
    for matched in matched {
        if let BackboneMatch::Unverified(warning) = matched {
            line(&format!("warning: {warning}"));
        }
    }
}

/// Prints a line to standard error. A failure is ignored: there is no other place to report it.
pub fn line(text: &str) {
    let _ = writeln!(stderr(), "{text}");
}

/// Selects which reports of a download become a line: the first one, and one after every tenth.
#[derive(Debug, Default)]
struct Lines {
    last: Option<u64>,
}

impl Lines {
    /// The line about `done` bytes, if they are in another tenth than at the last call.
    fn next(&mut self, done: u64, total: Option<u64>) -> Option<String> {
        let part = total.map_or(done / LINE_EVERY, |total| done.saturating_mul(10) / total.max(1));
        if self.last.replace(part) == Some(part) {
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
            let count = (0..=total).filter(|done| lines.next(*done, Some(total)).is_some()).count();
            assert_eq!(count, 11, "the start and ten tenths of {total}");
        }
        assert_eq!(lines.next(0, Some(1000)).as_deref(), Some("downloading the weights: 0 B of 1000 B"));
        assert_eq!(lines.next(99, Some(1000)), None);
    }

    #[test]
    fn a_download_of_unknown_length_has_a_line_every_64_mebibytes() {
        let mut lines = Lines::default();
        assert_eq!(lines.next(0, None).as_deref(), Some("downloading the weights: 0 B"));
        assert_eq!(lines.next(LINE_EVERY - 1, None), None);
        assert_eq!(lines.next(LINE_EVERY, None).as_deref(), Some("downloading the weights: 64.00 MiB"));
    }
}
