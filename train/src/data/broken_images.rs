//! Count of the images that cannot be loaded, with a limit.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataError;

/// An image that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenImage {
    /// Its index in the set.
    pub index: usize,
    /// Its name in the set.
    pub name: String,
    /// The cause, as one line that names the image: the text of a warning.
    pub reason: String,
    /// Whether the file does not exist.
    #[serde(default)]
    pub missing: bool,
}

/// The distinct broken images of a set, with the fraction of the set that may be broken.
#[derive(Clone, Debug)]
pub struct BrokenImages {
    total: usize,
    max_broken: f64,
    broken: BTreeMap<usize, BrokenImage>,
}

/// Number of images that an error names.
const NAMED: usize = 5;

impl BrokenImages {
    /// No broken image yet in a set of `total` images. `max_broken` is the fraction that may be broken, 0..=1.
    #[must_use]
    pub fn new(total: usize, max_broken: f64) -> Self {
        Self { total, max_broken, broken: BTreeMap::new() }
    }

    /// Counts a broken image. Returns whether it is new: an image that is read in every epoch is reported once.
    ///
    /// # Errors
    /// [`DataError::TooManyBroken`] when more than the allowed fraction of the set is broken.
    pub fn record(&mut self, broken: &BrokenImage) -> Result<bool, DataError> {
        let new = self.broken.insert(broken.index, broken.clone()).is_none();
        if self.count() as f64 > self.max_broken * self.total as f64 {
            return Err(DataError::TooManyBroken {
                count: self.count(),
                missing: self.files().filter(|image| image.missing).count(),
                total: self.total,
                max_broken: self.max_broken,
                first: self.files().take(NAMED).map(|image| image.name.clone()).collect(),
            });
        }
        Ok(new)
    }

    /// Number of distinct broken images so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.broken.len()
    }

    /// The broken images, in the order of the set.
    pub fn files(&self) -> impl Iterator<Item = &BrokenImage> {
        self.broken.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(index: usize) -> BrokenImage {
        BrokenImage { index, name: format!("{index}.jpg"), reason: format!("{index}.jpg: broken"), missing: false }
    }

    #[test]
    fn each_image_counts_once_and_too_many_are_an_error() {
        let mut images = BrokenImages::new(300, 0.01);
        assert!(images.record(&broken(7)).unwrap());
        assert!(!images.record(&broken(7)).unwrap(), "seen again in the next epoch");
        assert!(images.record(&broken(3)).unwrap() && images.record(&broken(9)).unwrap());
        assert_eq!(images.count(), 3, "3 of 300 is 1%, which is not more than 1%");
        let error = images.record(&broken(250)).unwrap_err().to_string();
        assert!(error.contains("4 of 300 images are broken (1.3%), more than the 1.0% allowed"), "{error}");
        assert!(error.contains("3.jpg, 7.jpg, 9.jpg, 250.jpg;"), "{error}");
    }

    #[test]
    fn missing_files_are_called_missing() {
        let missing = |index| BrokenImage { missing: true, ..broken(index) };
        let error = BrokenImages::new(14, 0.01).record(&missing(2)).unwrap_err().to_string();
        assert!(
            error.contains("1 of 14 images are missing (7.1%)") && error.contains("correct their paths"),
            "{error}"
        );
        assert!(error.contains("--max-broken"), "{error}");
    }

    #[test]
    fn a_limit_of_zero_stops_at_the_first_and_long_lists_are_cut() {
        assert!(BrokenImages::new(1000, 0.0).record(&broken(0)).is_err());
        let mut images = BrokenImages::new(20, 0.25);
        let last = (0..6).map(|index| images.record(&broken(index))).last().unwrap().unwrap_err();
        assert!(last.to_string().contains("4.jpg, ...") && !last.to_string().contains("5.jpg"), "{last}");
    }
}
