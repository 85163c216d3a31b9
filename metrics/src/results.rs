//! Values of metrics for a data set: in memory, as CSV, and their differences between two explainers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use explainer_zoo::files::{WriteError, write_atomic};
use serde::Serialize;

use crate::{Estimate, MetricSpec};

/// The first columns of a CSV file; one column for each metric follows, under its name.
const COLUMNS: [&str; 2] = ["image", "class"];

/// Values of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Name of the image, unique in its data set.
    pub image: String,
    /// Target class.
    pub class: usize,
    /// One value for each metric; `None` where it is undefined.
    pub values: Vec<Option<f64>>,
}

/// Values of some metrics for the images of a data set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// Names of the metrics.
    pub metrics: Vec<String>,
    /// One row for each image.
    pub rows: Vec<Row>,
}

/// A metric's mean over a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MetricResult {
    /// The metric.
    #[serde(flatten)]
    pub spec: MetricSpec,
    /// Mean, standard error and interval.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// The difference of a metric between two explainers, on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Name of the metric.
    pub name: String,
    /// Mean of the first explainer's value minus the second's, over the images.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// Errors of files of values, and of comparisons.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file cannot be read, or is no CSV.
    #[error("{path}: cannot read the values of the metrics: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The CSV reader's error.
        source: csv::Error,
    },
    /// The file is CSV, but not in the format of [`Results::write_csv`].
    #[error("{path}: line {line}: found `{found}`, expected {expected}; is it a file that evaluate wrote with --csv?")]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// The text found.
        found: String,
        /// What is valid.
        expected: &'static str,
    },
    /// The two explainers have explained different classes of an image.
    #[error(
        "image {image} was explained for class {ours} here and for class {theirs} there: \
         explainers of different classifiers cannot be compared image by image"
    )]
    Classes {
        /// The image.
        image: String,
        /// The class in these results.
        ours: usize,
        /// The class in the other results.
        theirs: usize,
    },
    /// The two results have no image or no metric in common.
    #[error("nothing to compare: {0}")]
    NothingInCommon(String),
}

impl Results {
    /// Mean, standard error and interval of the metric at position `metric` of [`Results::metrics`].
    #[must_use]
    pub fn estimate(&self, metric: usize) -> Estimate {
        Estimate::of(&self.rows.iter().map(|row| row.values.get(metric).copied().flatten()).collect::<Vec<_>>())
    }

    /// Differences of the metrics that both results have, these minus `other`, over the images that both have.
    ///
    /// # Errors
    /// [`ResultsError::Classes`] for an image with two target classes; [`ResultsError::NothingInCommon`].
    pub fn differences(&self, other: &Self) -> Result<Vec<Difference>, ResultsError> {
        let theirs: HashMap<&str, &Row> = other.rows.iter().map(|row| (row.image.as_str(), row)).collect();
        let mut pairs = Vec::new();
        for ours in &self.rows {
            let Some(theirs) = theirs.get(ours.image.as_str()) else { continue };
            if ours.class != theirs.class {
                let image = ours.image.clone();
                return Err(ResultsError::Classes { image, ours: ours.class, theirs: theirs.class });
            }
            pairs.push((ours, *theirs));
        }
        let example = |rows: &[Row]| rows.first().map_or("none".to_owned(), |row| row.image.clone());
        if pairs.is_empty() {
            let (ours, theirs) = (example(&self.rows), example(&other.rows));
            return Err(ResultsError::NothingInCommon(format!(
                "no image is in both (here {ours}, .., there {theirs}, ..)"
            )));
        }
        let difference = |(here, name): (usize, &String)| {
            let there = other.metrics.iter().position(|theirs| theirs == name)?;
            let values = |rows: Vec<&Row>, place: usize| -> Vec<Option<f64>> {
                rows.into_iter().map(|row| row.values.get(place).copied().flatten()).collect()
            };
            let ours = values(pairs.iter().map(|pair| pair.0).collect(), here);
            let theirs = values(pairs.iter().map(|pair| pair.1).collect(), there);
            Some(Difference { name: name.clone(), estimate: Estimate::of_difference(&ours, &theirs) })
        };
        let differences: Vec<Difference> = self.metrics.iter().enumerate().filter_map(difference).collect();
        if differences.is_empty() {
            let (ours, theirs) = (self.metrics.join(", "), other.metrics.join(", "));
            return Err(ResultsError::NothingInCommon(format!("no metric is in both (here {ours}; there {theirs})")));
        }
        Ok(differences)
    }

    /// Writes a CSV file: one line for each image, one column for each metric, an empty field where it is undefined.
    ///
    /// A spreadsheet would run an image name such as `=cmd()` as a formula. Names that begin with `=`, `+`, `-`, `@`, a tab
    /// or a line break are therefore written with a leading `'`, which [`Results::read_csv`] removes.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write_csv(&self, path: &Path) -> Result<(), WriteError> {
        write_atomic(path, |out| {
            let mut writer = csv::Writer::from_writer(&mut *out);
            writer.write_record(COLUMNS.into_iter().chain(self.metrics.iter().map(String::as_str)))?;
            for row in &self.rows {
                let values = row.values.iter().map(|value| value.map_or(String::new(), |value| value.to_string()));
                let image = escape_formula(&row.image).into_owned();
                writer.write_record([image, row.class.to_string()].into_iter().chain(values))?;
            }
            writer.flush()?;
            drop(writer);
            out.flush()
        })
    }

    /// Reads a file of [`Results::write_csv`].
    ///
    /// # Errors
    /// [`ResultsError::Read`] for a file that is not CSV, [`ResultsError::Content`] for another header, a class that is not
    /// an index, and a value that is not a finite number.
    pub fn read_csv(path: &Path) -> Result<Self, ResultsError> {
        let unreadable = |source| ResultsError::Read { path: path.into(), source };
        let wrong = |line, found: &str, expected| ResultsError::Content {
            path: path.into(),
            line,
            found: found.into(),
            expected,
        };
        let mut reader = csv::Reader::from_path(path).map_err(unreadable)?;
        let header: Vec<String> = reader.headers().map_err(unreadable)?.iter().map(str::to_owned).collect();
        if !header.iter().take(COLUMNS.len()).eq(COLUMNS) {
            return Err(wrong(1, &header.join(","), "the header image,class, and metrics"));
        }
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record.map_err(unreadable)?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |place: usize| record.get(place).unwrap_or_default();
            let class = field(1).parse().map_err(|_| wrong(line, field(1), "the index of a class"))?;
            let value = |text: &str| match text.parse::<f64>() {
                _ if text.is_empty() => Ok(None),
                Ok(value) if value.is_finite() => Ok(Some(value)),
                _ => Err(wrong(line, text, "a number or nothing")),
            };
            let values = record.iter().skip(COLUMNS.len()).map(value).collect::<Result<_, _>>()?;
            rows.push(Row { image: unescape_formula(field(0)).into(), class, values });
        }
        Ok(Self { metrics: header.into_iter().skip(COLUMNS.len()).collect(), rows })
    }
}

/// The text with a `'` in front where a spreadsheet would take it for a formula, and where it is such an escape already.
fn escape_formula(text: &str) -> Cow<'_, str> {
    if is_formula(text.trim_start_matches('\'')) { format!("'{text}").into() } else { text.into() }
}

/// The inverse of [`escape_formula`].
fn unescape_formula(text: &str) -> &str {
    let escaped = is_formula(text.trim_start_matches('\''));
    text.strip_prefix('\'').filter(|_| escaped).unwrap_or(text)
}

/// Whether a spreadsheet takes a cell for a formula: by its first character, as OWASP lists them ("CSV injection").
fn is_formula(text: &str) -> bool {
    text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(metrics: &[&str], rows: &[(&str, usize, &[Option<f64>])]) -> Results {
        let row = |(image, class, values): &(&str, usize, &[Option<f64>])| Row {
            image: (*image).into(),
            class: *class,
            values: values.to_vec(),
        };
        Results { metrics: metrics.iter().map(ToString::to_string).collect(), rows: rows.iter().map(row).collect() }
    }

    #[test]
    fn a_written_file_reads_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.csv");
        let rows: [(&str, usize, &[Option<f64>]); 3] = [
            ("a.png", 3, &[Some(0.1), None]),
            ("b, \"the\" second.png", 0, &[Some(-1e-20), Some(100.0)]),
            ("c\nd.png", 1, &[None, None]),
        ];
        let written = results(&["ad@50", "insertion"], &rows);
        written.write_csv(&path).unwrap();
        assert_eq!(Results::read_csv(&path).unwrap(), written);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("image,class,ad@50,insertion\na.png,3,0.1,\n"), "{text}");
    }

    #[test]
    fn a_spreadsheet_runs_no_image_name_as_a_formula() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.csv");
        let names =
            ["=cmd|' /C calc'!A0", "+1.png", "-1.png", "@SUM(A1)", "\tx", "\rx", "'=x", "''@", "'quoted'", "'", ""];
        let rows: Vec<(&str, usize, &[Option<f64>])> = names.iter().map(|name| (*name, 0, &[Some(-1.0)][..])).collect();
        let written = results(&["ag@50"], &rows);
        written.write_csv(&path).unwrap();
        assert_eq!(Results::read_csv(&path).unwrap(), written, "names survive the round trip");
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let cells: Vec<String> = reader.records().map(|record| record.unwrap()[0].to_owned()).collect();
        assert!(cells.iter().all(|cell| !is_formula(cell)), "{cells:?}");
        assert_eq!((cells[0].as_str(), cells[8].as_str()), ("'=cmd|' /C calc'!A0", "'quoted'"));
    }

    #[test]
    fn other_files_are_refused_with_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.csv");
        let problem = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Results::read_csv(&path).unwrap_err().to_string()
        };
        assert!(
            problem("file,class_index\na.png,1\n").contains("line 1: found `file,class_index`, expected the header")
        );
        assert!(problem("image,class,ad@50\na.png,jay,1\n").contains("line 2: found `jay`, expected the index"));
        assert!(
            problem("image,class,ad@50\na.png,1,1\nb.png,1,high\n").contains("line 3: found `high`, expected a number")
        );
        for value in ["NaN", "inf", "-inf"] {
            let found = problem(&format!("image,class,ad@50\na.png,1,{value}\n"));
            assert!(found.contains(&format!("found `{value}`, expected a number or nothing")), "{found}");
        }
        assert!(problem("image,class,ad@50\na.png,1\n").contains("cannot read the values"));
        assert!(Results::read_csv(&folder.path().join("nowhere.csv")).unwrap_err().to_string().contains("nowhere.csv"));
    }

    #[test]
    fn differences_are_of_the_images_and_metrics_that_both_have() {
        let ours = results(
            &["ad@50", "pos", "neg"],
            &[("a", 1, &[Some(3.0), Some(1.0), None]), ("b", 2, &[Some(5.0), None, None]), ("c", 0, &[Some(0.0); 3])],
        );
        let theirs = results(&["neg", "ad@50"], &[("b", 2, &[Some(1.0), Some(1.0)]), ("a", 1, &[None, Some(1.0)])]);
        let found = ours.differences(&theirs).unwrap();
        let means: Vec<_> = found.iter().map(|d| (d.name.as_str(), d.estimate.mean, d.estimate.defined)).collect();
        assert_eq!(means, [("ad@50", Some(3.0), 2), ("neg", None, 0)]);
    }

    #[test]
    fn results_without_a_common_image_class_or_metric_are_refused() {
        let ours = results(&["pos"], &[("a", 1, &[Some(3.0)])]);
        let problem = |theirs: Results| ours.differences(&theirs).unwrap_err().to_string();
        assert!(problem(results(&["pos"], &[("a", 2, &[None])])).contains("class 1 here and for class 2 there"));
        assert!(
            problem(results(&["pos"], &[("b", 1, &[None])])).contains("no image is in both (here a, .., there b, ..)")
        );
        assert!(
            problem(results(&["neg"], &[("a", 1, &[None])])).contains("no metric is in both (here pos; there neg)")
        );
    }
}
