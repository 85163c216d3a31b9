//! Values of the images of a set, in memory and as CSV, and what follows from them.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Estimate, MetricSpec};
use explainer_zoo::files::WriteError;
use explainer_zoo::files::write_atomic;

/// The first columns of a CSV file; metrics follow under their names.
const COLUMNS: [&str; 2] = ["image", "class"];

/// One image's values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// What tells the image from the others of its set.
    pub image: String,
    /// The class that was explained.
    pub class: usize,
    /// One for each metric; `None` where it is undefined.
    pub values: Vec<Option<f64>>,
}

/// Values of some metrics for the images of a set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Results {
    /// The metrics' names.
    pub metrics: Vec<String>,
    /// The images.
    pub rows: Vec<Row>,
}

/// A metric of one explainer beside the same of another, on the same images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The metric.
    pub name: String,
    /// Ours less theirs, image by image.
    #[serde(flatten)]
    pub estimate: Estimate,
}

/// Why a file of values is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// It cannot be read, or is no CSV.
    #[error("{path}: cannot read the values of the metrics: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the reader said.
        source: csv::Error,
    },
    /// It is CSV, but no file of values.
    #[error("{path}: line {line}: found `{found}`, expected {expected}; is it a file that evaluate wrote with --csv?")]
    Content {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
        /// What is there.
        found: String,
        /// What would make sense.
        expected: &'static str,
    },
    /// The two have explained different classes.
    #[error(
        "image {image} was explained for class {ours} here and for class {theirs} there: \
         explainers of different classifiers cannot be compared image by image"
    )]
    Classes {
        /// The image.
        image: String,
        /// The class here.
        ours: usize,
        /// The class there.
        theirs: usize,
    },
    /// Nothing to compare.
    #[error("nothing to compare: {0}")]
    Apart(String),
}

impl Results {
    /// What is to be expected of a metric, from its values; the metric is given by its place.
    #[must_use]
    pub fn estimate(&self, metric: usize) -> Estimate {
        Estimate::of(&self.rows.iter().map(|row| row.values.get(metric).copied().flatten()).collect::<Vec<_>>())
    }

    /// Differences to the same metrics of `other` on the images that both have.
    ///
    /// # Errors
    /// [`ResultsError::Classes`]; [`ResultsError::Apart`] where they have no image or no metric in common.
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
            return Err(ResultsError::Apart(format!("no image is in both (here {ours}, .., there {theirs}, ..)")));
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
            return Err(ResultsError::Apart(format!("no metric is in both (here {ours}; there {theirs})")));
        }
        Ok(differences)
    }

    /// Writes a CSV file: a line for each image, a column for each metric, an empty field for what is undefined.
    ///
    /// # Errors
    /// [`WriteError::Write`].
    pub fn write_csv(&self, path: &Path) -> Result<(), WriteError> {
        write_atomic(path, |out| {
            let mut writer = csv::Writer::from_writer(&mut *out);
            writer.write_record(COLUMNS.into_iter().chain(self.metrics.iter().map(String::as_str)))?;
            for row in &self.rows {
                let values = row.values.iter().map(|value| value.map_or(String::new(), |value| value.to_string()));
                writer.write_record([row.image.clone(), row.class.to_string()].into_iter().chain(values))?;
            }
            writer.flush()?;
            drop(writer);
            out.flush()
        })
    }

    /// Reads what [`Results::write_csv`] wrote.
    ///
    /// # Errors
    /// [`ResultsError::Read`], [`ResultsError::Content`].
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
            let value = |text: &str| match text {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| wrong(line, text, "a number or nothing")),
            };
            let values = record.iter().skip(COLUMNS.len()).map(value).collect::<Result<_, _>>()?;
            rows.push(Row { image: field(0).into(), class, values });
        }
        Ok(Self { metrics: header.into_iter().skip(COLUMNS.len()).collect(), rows })
    }
}

/// A metric's figure over a set of images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The metric.
    #[serde(flatten)]
    pub spec: MetricSpec,
    /// Its mean, standard error and interval.
    #[serde(flatten)]
    pub estimate: Estimate,
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
    fn what_is_written_is_read() {
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
    fn what_cannot_be_compared_is_refused() {
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
