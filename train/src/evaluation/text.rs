//! The result of an evaluation as tables for a terminal.

use explainer_metrics::{Difference, Direction, Estimate, MetricResult};

use super::report::{MeanPasses, ReferenceReport, Report};
use crate::report::table::Table;

impl Report {
    /// The metrics, the comparison with the reference, the number of images and the time.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", table(&self.metrics));
        if let Some(ReferenceReport { name, metrics, passes, differences }) = &self.against {
            if let Some(MeanPasses { forward, backward }) = passes {
                let passes = format!("{forward:.1} forward and {backward:.1} backward passes an image");
                text += &format!("{name}, {passes}:\n\n{}\n", table(metrics));
            }
            let mut table = Table::new(["difference", "mean", "std. error", "95% interval", "images"]);
            for Difference { name, estimate } in differences {
                let spec = self.metrics.iter().map(|figure| &figure.spec).find(|spec| spec.name == *name);
                let cells = cells(estimate, spec.map_or("", |spec| spec.unit));
                table.row([name].into_iter().chain(&cells).chain([&estimate.defined.to_string()]));
            }
            text += &format!("{}this explainer less {name}, image by image\n\n", table.text());
        }
        let Self { images, broken, seconds, .. } = self;
        let missing = if *broken > 0 { format!(", {broken} could not be read") } else { String::new() };
        let rate = *images as f64 / (*seconds).max(f64::MIN_POSITIVE);
        text + &format!("{images} images in {seconds:.1} seconds, {rate:.1} images/s{missing}\n")
    }
}

/// The metrics, and for how many images each is undefined.
fn table(metrics: &[MetricResult]) -> String {
    let mut table = Table::new(["metric", "mean", "std. error", "95% interval", "unit", "better", "family"]);
    let mut missing = String::new();
    for MetricResult { spec, estimate } in metrics {
        let better = match spec.better {
            Direction::Higher => "higher",
            Direction::Lower => "lower",
        };
        let cells = cells(estimate, spec.unit);
        let family = spec.family.to_string();
        table.row([&spec.name].into_iter().chain(&cells).map(String::as_str).chain([spec.unit, better, &family]));
        if estimate.undefined > 0 {
            missing += &format!("{} is undefined for {} images, which are left out\n", spec.name, estimate.undefined);
        }
    }
    format!("{}{missing}", table.text())
}

/// Mean, standard error and interval, a percentage with two decimals and any other unit with four.
fn cells(estimate: &Estimate, unit: &str) -> [String; 3] {
    let digits = if unit == "percent" { 2 } else { 4 };
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
    let interval = estimate.interval.map_or("-".to_owned(), |[low, high]| format!("{low:.digits$} .. {high:.digits$}"));
    [number(estimate.mean), number(estimate.standard_error), interval]
}

#[cfg(test)]
mod tests {
    use explainer_metrics::metric;

    use super::*;

    fn figure(name: &str, mean: f64, undefined: usize) -> MetricResult {
        let (standard_error, interval) = (Some(0.5), Some([mean - 1.0, mean + 1.0]));
        let estimate = Estimate { mean: Some(mean), standard_error, interval, defined: 29, undefined };
        MetricResult { spec: metric(name).unwrap().spec(), estimate }
    }

    #[test]
    fn the_table_has_a_row_a_metric() {
        let metrics = vec![figure("ad@50", 12.34, 0), figure("insertion", 0.5, 1)];
        let estimate = Estimate { standard_error: None, interval: None, ..metrics[0].estimate };
        let differences = vec![Difference { name: "ad@50".into(), estimate }];
        let results = |broken, against| {
            let (figures, per_image) = (Vec::new(), Vec::new());
            let (artifact, metrics) = ("a".into(), metrics.clone());
            Report {
                artifact,
                images: 30,
                broken,
                seconds: 2.0,
                figures,
                metrics,
                against,
                warnings: Vec::new(),
                per_image,
            }
            .text()
        };
        let expected = "\
metric       mean  std. error       95% interval      unit  better        family
---------  ------  ----------  -----------------  --------  ------  ------------
ad@50       12.34        0.50     11.34 .. 13.34   percent   lower  faithfulness
insertion  0.5000      0.5000  -0.5000 .. 1.5000  fraction  higher  faithfulness
insertion is undefined for 1 images, which are left out

30 images in 2.0 seconds, 15.0 images/s, 1 could not be read
";
        assert_eq!(results(1, None), expected);
        let name = "other.csv".to_owned();
        let against = ReferenceReport { name, metrics: Vec::new(), passes: None, differences };
        let expected = "\n\
difference   mean  std. error  95% interval  images
----------  -----  ----------  ------------  ------
ad@50       12.34           -             -      29
this explainer less other.csv, image by image

30 images in 2.0 seconds, 15.0 images/s
";
        let found = results(0, Some(against));
        assert!(found.ends_with(expected), "{found}");
    }

    #[test]
    fn json_has_the_metric_and_its_estimate_flat() {
        let figure = serde_json::to_value(figure("ad@50", 12.0, 0)).unwrap();
        let found = ["name", "family", "mean", "better"].map(|key| &figure[key]);
        assert_eq!(serde_json::json!(found), serde_json::json!(["ad@50", "faithfulness", 12.0, "lower"]));
    }
}
