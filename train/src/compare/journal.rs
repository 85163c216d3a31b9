//! The journal of one explainer: a file of JSON lines that grows while it is measured. The first line is the
//! [`Fingerprint`] of the measurement, each of the others holds a batch of images.
//!
//! A line that was cut off is ignored and overwritten when the run continues. The values in memory are those read back from
//! the written line, so that a continued run has bit for bit the values of an uninterrupted one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use explainer_zoo::explain::Cost;

use super::error::CompareError;
use crate::evaluation::Curve;
use explainer_metrics::{Results, Row};

/// Everything that the values depend on. Batch size, device and number of threads do not belong to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// The program and its version.
    pub program: String,
    /// The explainer: SHA-256 of a trained one, or the method and its seed.
    pub explainer: String,
    /// The classifier and its preprocessing.
    pub classifier: String,
    /// SHA-256 that identifies the set of images.
    pub images: String,
    /// The metrics, in the order of the values.
    pub metrics: Vec<String>,
    /// Annotations: files of objects and of fixations.
    pub annotations: Vec<String>,
}

/// The values of one image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JournalRow {
    /// Its index in the set.
    pub index: usize,
    /// Its identifier in the set.
    pub image: String,
    /// The predicted class, which is explained.
    pub class: usize,
    /// One value per metric; `None` where it is undefined.
    pub values: Vec<Option<f64>>,
}

/// A batch of images.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// The images.
    pub rows: Vec<JournalRow>,
    /// The cost of all their explanations.
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
    entries: Vec<JournalEntry>,
}

impl Journal {
    /// Opens or creates the file for values with this fingerprint. A file with another fingerprint is renamed to
    /// `.jsonl.old`; the second value then names the parts that differ.
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
    pub fn add(&mut self, entry: &JournalEntry) -> Result<(), CompareError> {
        let written = write_line(&mut self.file, entry).and_then(|line| Ok(serde_json::from_slice(&line)?));
        let entry = written.map_err(|source| CompareError::Output { path: self.path.clone(), source })?;
        self.entries.push(entry);
        Ok(())
    }

    /// Indices of the images that have been measured.
    #[must_use]
    pub fn done(&self) -> BTreeSet<usize> {
        self.rows().map(|row| row.index).collect()
    }

    fn rows(&self) -> impl Iterator<Item = &JournalRow> {
        self.entries.iter().flat_map(|entry| &entry.rows)
    }

    /// The values of the images with these indices, in the order of the set.
    #[must_use]
    pub fn measured(&self, images: &BTreeSet<usize>) -> Vec<JournalRow> {
        let by_index: BTreeMap<usize, &JournalRow> =
            self.rows().filter(|row| images.contains(&row.index)).map(|row| (row.index, row)).collect();
        by_index.into_values().cloned().collect()
    }

    /// The values of the images with these indices, as [`Results`].
    #[must_use]
    pub fn results(&self, images: &BTreeSet<usize>) -> Results {
        let row = |one: JournalRow| Row { image: one.image, class: one.class, values: one.values };
        let rows = self.measured(images).into_iter().map(row).collect();
        Results { metrics: self.fingerprint.metrics.clone(), rows }
    }

    /// The cost of all explanations, and the number of images.
    #[must_use]
    pub fn cost(&self) -> (Cost, usize) {
        let mut cost = Cost::default();
        self.entries.iter().for_each(|entry| cost += entry.cost);
        (cost, self.rows().count())
    }

    /// Sums of curves by metric, over the batches whose images all have one of these indices.
    #[must_use]
    pub fn curves(&self, images: &BTreeSet<usize>) -> BTreeMap<String, Curve> {
        let inside = |entry: &&JournalEntry| entry.rows.iter().all(|row| images.contains(&row.index));
        let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
        for (metric, curve) in self.entries.iter().filter(inside).flat_map(|entry| &entry.curves) {
            curves.entry(metric.clone()).or_default().add(curve);
        }
        curves
    }
}

/// Complete lines with their line breaks; a last line without one was cut off.
fn whole_lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"))
}

/// Writes one line in a single call, and returns it.
fn write_line(file: &mut File, content: &impl Serialize) -> std::io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(content)?;
    line.push(b'\n');
    file.write_all(&line)?;
    Ok(line)
}

/// The parts of a fingerprint that differ, in words.
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

    fn entry(from: usize, count: usize) -> JournalEntry {
        let value = |index: usize| Some(0.1 + index as f64 / 3.0);
        let row = |index| JournalRow { index, image: format!("{index}.png"), class: 1, values: vec![value(index)] };
        let curve = Curve { sum: vec![0.5 * count as f64, 0.25], images: count };
        let cost = Cost { forward: 2 * count as u64, backward: 0, second: 0, seconds: 0.5 };
        JournalEntry {
            rows: (from..from + count).map(row).collect(),
            cost,
            curves: [("deletion".into(), curve)].into(),
        }
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
