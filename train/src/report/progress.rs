//! Progress on standard error: a bar on a terminal, and lines elsewhere for a download, which nothing else would show.

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
            if let Some(line) = lines.about(done, total) {
                let _ = writeln!(stderr(), "{line}"); // nobody is left to tell if this fails
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
