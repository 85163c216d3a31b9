//! Accounting of images that cannot be loaded.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::DataError;

/// An image that could not be loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Its number in the set.
    pub index: usize,
    /// Its name in the set.
    pub name: String,
    /// What went wrong, as one line that names the image: the text of a warning.
    pub reason: String,
}

/// The distinct broken images of a set, and how many are too many.
#[derive(Clone, Debug)]
pub struct Tally {
    total: usize,
    max_broken: f64,
    broken: BTreeMap<usize, Broken>,
}

/// How many files an error lists.
const NAMED: usize = 5;

impl Tally {
    /// Nothing broken yet in a set of `total` images, of which a fraction of up to `max_broken` may be.
    #[must_use]
    pub fn new(total: usize, max_broken: f64) -> Self {
        Self { total, max_broken, broken: BTreeMap::new() }
    }

    /// Counts a broken image; whether it is the first time that it is met, hence worth a warning.
    ///
    /// # Errors
    /// [`DataError::TooManyBroken`] once more than the allowed fraction of the set is broken.
    pub fn record(&mut self, broken: &Broken) -> Result<bool, DataError> {
        let new = self.broken.insert(broken.index, broken.clone()).is_none();
        if self.count() as f64 > self.max_broken * self.total as f64 {
            return Err(DataError::TooManyBroken {
                count: self.count(),
                total: self.total,
                max_broken: self.max_broken,
                first: self.files().take(NAMED).cloned().collect(),
            });
        }
        Ok(new)
    }

    /// Number of distinct broken images met so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.broken.len()
    }

    /// The broken images, in the order of the set.
    pub fn files(&self) -> impl Iterator<Item = &Broken> {
        self.broken.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(index: usize) -> Broken {
        Broken { index, name: format!("{index}.jpg"), reason: format!("{index}.jpg: broken") }
    }

    #[test]
    fn each_file_counts_once_and_too_many_are_an_error() {
        let mut tally = Tally::new(300, 0.01);
        assert!(tally.record(&broken(7)).unwrap());
        assert!(!tally.record(&broken(7)).unwrap(), "met again in the next epoch");
        assert!(tally.record(&broken(3)).unwrap() && tally.record(&broken(9)).unwrap());
        assert_eq!(tally.count(), 3, "3 of 300 is 1%, which is not more than 1%");
        let error = tally.record(&broken(250)).unwrap_err().to_string();
        assert!(error.contains("4 of 300 images are broken (1.3%), more than the 1.0% allowed"), "{error}");
        assert!(error.contains("3.jpg, 7.jpg, 9.jpg, 250.jpg;"), "{error}");
    }

    #[test]
    fn a_limit_of_nothing_stops_at_the_first_and_long_lists_are_cut() {
        assert!(Tally::new(1000, 0.0).record(&broken(0)).is_err());
        let mut tally = Tally::new(20, 0.25);
        let last = (0..6).map(|index| tally.record(&broken(index))).last().unwrap().unwrap_err();
        assert!(last.to_string().contains("4.jpg, ...") && !last.to_string().contains("5.jpg"), "{last}");
    }
}
