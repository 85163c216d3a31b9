//! What has been measured of one explainer, kept as it grows: a file of JSON lines. The first says what was measured,
//! each of the others holds a batch of images.
//!
//! A line is written as a whole or not at all: one that was cut off is left out and overwritten when the run goes on. In
//! memory is what was read back from the line, so that a run that went on has the very values of one that did not stop.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use explainer_zoo::explain::Cost;

use super::error::CompareError;
use crate::evaluation::Curve;
use explainer_metrics::{Results, Row};

/// What values follow from. Batch size, device and number of threads are no part of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The program and its version.
    pub program: String,
    /// The explainer: SHA-256 of a trained one, or the method and its seed.
    pub explainer: String,
    /// The classifier and how its images are made.
    pub classifier: String,
    /// SHA-256 of what tells the set of images from another.
    pub images: String,
    /// The metrics, in the order of the values.
    pub metrics: Vec<String>,
    /// Annotations: files of objects and of fixations.
    pub annotations: Vec<String>,
}

/// One image's values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// Its number in the set.
    pub index: usize,
    /// What tells it from the others of its set.
    pub image: String,
    /// The predicted class, which is the one explained.
    pub class: usize,
    /// One for each metric; nothing where it is undefined.
    pub values: Vec<Option<f64>>,
}

/// A batch of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The images.
    pub rows: Vec<Measured>,
    /// What their explanations cost together.
    pub cost: Cost,
    /// Sums of curves by metric.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub curves: BTreeMap<String, Curve>,
}

/// The values of one explainer, in memory and in its file.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    fingerprint: Fingerprint,
    entries: Vec<Entry>,
}

impl Journal {
    /// Opens the file, or makes it, for values with this fingerprint. A file with another one is renamed to `.jsonl.old`,
    /// and which parts of the fingerprint are others is said in words.
    ///
    /// # Errors
    /// [`CompareError::Output`].
    pub fn open(path: &Path, fingerprint: Fingerprint) -> Result<(Self, Option<String>), CompareError> {
        let failed = |source| CompareError::Output { path: path.into(), source };
        let text = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        let mut lines = whole_lines(&text);
        let before = lines.next().and_then(|line| serde_json::from_slice::<Fingerprint>(line).ok());
        let mut kept = 0;
        let (mut entries, mut given_up) = (Vec::new(), None);
        if before.as_ref() == Some(&fingerprint) {
            kept = whole_lines(&text).next().map_or(0, <[u8]>::len);
            for line in lines {
                let Ok(entry) = serde_json::from_slice(line) else { break };
                kept += line.len();
                entries.push(entry);
            }
        } else if !text.is_empty() {
            let aside = path.with_extension("jsonl.old");
            fs::rename(path, &aside).map_err(failed)?;
            let why = before.map_or("its journal is damaged".into(), |before| changes(&before, &fingerprint));
            given_up = Some(format!("{why}; what there was is in {}", aside.display()));
        }
        let mut file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        file.set_len(kept as u64).map_err(failed)?;
        if kept == 0 {
            write_line(&mut file, &fingerprint).map_err(failed)?;
        }
        Ok((Self { path: path.into(), file, fingerprint, entries }, given_up))
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// [`CompareError::Output`].
    pub fn add(&mut self, entry: &Entry) -> Result<(), CompareError> {
        let written = write_line(&mut self.file, entry).and_then(|line| Ok(serde_json::from_slice(&line)?));
        let entry = written.map_err(|source| CompareError::Output { path: self.path.clone(), source })?;
        self.entries.push(entry);
        Ok(())
    }

    /// The images that are done, by their numbers.
    #[must_use]
    pub fn done(&self) -> BTreeSet<usize> {
        self.rows().map(|row| row.index).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &Measured> {
        self.entries.iter().flat_map(|entry| &entry.rows)
    }

    /// The values of the images of these numbers, in the set's order.
    #[must_use]
    pub fn measured(&self, images: &BTreeSet<usize>) -> Vec<Measured> {
        let by_index: BTreeMap<usize, &Measured> =
            self.rows().filter(|row| images.contains(&row.index)).map(|row| (row.index, row)).collect();
        by_index.into_values().cloned().collect()
    }

    /// The same as [`Results`].
    #[must_use]
    pub fn results(&self, images: &BTreeSet<usize>) -> Results {
        let row = |one: Measured| Row { image: one.image, class: one.class, values: one.values };
        let rows = self.measured(images).into_iter().map(row).collect();
        Results { metrics: self.fingerprint.metrics.clone(), rows }
    }

    /// What the explanations have cost, and of how many images.
    #[must_use]
    pub fn cost(&self) -> (Cost, usize) {
        let mut cost = Cost::default();
        self.entries.iter().for_each(|entry| cost += entry.cost);
        (cost, self.rows().count())
    }

    /// Sums of curves by metric, over those batches of which all images have one of these numbers.
    #[must_use]
    pub fn curves(&self, images: &BTreeSet<usize>) -> BTreeMap<String, Curve> {
        let inside = |entry: &&Entry| entry.rows.iter().all(|row| images.contains(&row.index));
        let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
        for (metric, curve) in self.entries.iter().filter(inside).flat_map(|entry| &entry.curves) {
            curves.entry(metric.clone()).or_default().add(curve);
        }
        curves
    }
}

/// Lines with their ends; what comes behind the last end was cut off.
fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

/// Writes one line, at once, and returns it.
fn write_line(file: &mut File, content: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(content)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(line)
}

/// Which parts of a fingerprint are others.
fn changes(before: &Fingerprint, now: &Fingerprint) -> String {
    let parts = [
        ("the program", before.program != now.program),
        ("the explainer", before.explainer != now.explainer),
        ("the classifier", before.classifier != now.classifier),
        ("the images", before.images != now.images),
        ("the metrics", before.metrics != now.metrics),
        ("the annotations", before.annotations != now.annotations),
    ];
    let others: Vec<&str> = parts.into_iter().filter(|(_, other)| *other).map(|(part, _)| part).collect();
    format!("{} changed", others.join(" and "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(metrics: &[&str]) -> Fingerprint {
        Fingerprint {
            program: "explainer-train".into(),
            explainer: "grad-cam, seed 0".into(),
            classifier: "a".into(),
            images: "b".into(),
            metrics: metrics.iter().map(ToString::to_string).collect(),
            annotations: Vec::new(),
        }
    }

    fn entry(from: usize, count: usize) -> Entry {
        let value = |index: usize| Some(0.1 + index as f64 / 3.0);
        let row = |index| Measured { index, image: format!("{index}.png"), class: 1, values: vec![value(index)] };
        let curve = Curve { sum: vec![0.5 * count as f64, 0.25], images: count };
        let cost = Cost { forward: 2 * count as u64, backward: 0, second: 0, seconds: 0.5 };
        Entry { rows: (from..from + count).map(row).collect(), cost, curves: [("deletion".into(), curve)].into() }
    }

    #[test]
    fn what_was_written_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut journal, given_up) = Journal::open(&path, fingerprint(&["ad@50"])).unwrap();
        assert_eq!(given_up, None);
        journal.add(&entry(2, 2)).unwrap();
        journal.add(&entry(0, 2)).unwrap();
        let (again, given_up) = Journal::open(&path, fingerprint(&["ad@50"])).unwrap();
        assert_eq!((given_up, &again.entries), (None, &journal.entries));
        assert_eq!(again.done(), (0..4).collect());
        assert_eq!(again.measured(&(0..3).collect()).iter().map(|row| row.index).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(again.cost(), (Cost { forward: 8, backward: 0, second: 0, seconds: 1.0 }, 4));
        let curve = &again.curves(&(0..4).collect())["deletion"];
        assert_eq!((curve.mean(), curve.images), (vec![0.5, 0.125], 4));
        // Of a smaller sample, the batches that lie within it.
        assert_eq!(again.curves(&(0..3).collect())["deletion"].images, 2);
        assert!(again.curves(&[1, 2].into()).is_empty());
        assert_eq!(again.results(&[1].into()).rows.len(), 1);
    }

    #[test]
    fn a_line_that_was_cut_off_is_measured_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut journal, _) = Journal::open(&path, fingerprint(&["ad@50"])).unwrap();
        journal.add(&entry(0, 2)).unwrap();
        journal.add(&entry(2, 2)).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [1, 30] {
            fs::write(&path, &whole[..whole.len() - cut]).unwrap();
            let (mut again, given_up) = Journal::open(&path, fingerprint(&["ad@50"])).unwrap();
            assert_eq!((given_up, again.done()), (None, (0..2).collect()));
            again.add(&entry(2, 2)).unwrap();
            assert_eq!(fs::read(&path).unwrap(), whole);
        }
        // A fingerprint that was cut off is none.
        fs::write(&path, &whole[..20]).unwrap();
        let (again, given_up) = Journal::open(&path, fingerprint(&["ad@50"])).unwrap();
        assert!(given_up.is_some_and(|why| why.starts_with("its journal is damaged; what there was is in ")));
        assert_eq!(again.done().len(), 0);
    }

    #[test]
    fn values_of_something_else_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        Journal::open(&path, fingerprint(&["ad@50"])).unwrap().0.add(&entry(0, 2)).unwrap();
        let other = Fingerprint { images: "c".into(), ..fingerprint(&["ic@50"]) };
        let (journal, given_up) = Journal::open(&path, other.clone()).unwrap();
        assert!(
            given_up.is_some_and(|why| why.starts_with("the images and the metrics changed; what there was is in "))
        );
        assert!(fs::metadata(path.with_extension("jsonl.old")).unwrap().len() > 0);
        assert!(journal.done().is_empty());
        assert_eq!(Journal::open(&path, other).unwrap().1, None);
        assert!(Journal::open(&folder.path().join("no/a.jsonl"), fingerprint(&[])).is_err());
    }
}
