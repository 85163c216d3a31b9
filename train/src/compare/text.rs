//! A comparison as plain text and as Markdown: the same tables.

use super::Report;
use super::report::{interval, number, verdict};
use crate::report::table::Table;
use explainer_metrics::Direction;

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let settings = self.settings();
        let width = settings.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
        let facts: String = settings.into_iter().map(|(key, value)| format!("{key:<width$}  {value}\n")).collect();
        let mut text = format!("{}\n\n{facts}\n{}\n", self.title(), self.figures().text());
        if let Some(table) = self.differences() {
            text += &format!("less {}, image by image:\n\n{}\n", self.reference, table.text());
        }
        text + &self.notes().iter().map(|note| format!("{note}\n")).collect::<String>()
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let facts: String = self.settings().into_iter().map(|(key, value)| format!("- {key}: `{value}`\n")).collect();
        let mut text = format!("# {}\n\n{facts}\n", self.title());
        text += &format!("## Figures\n\n{}\n", self.figures().markdown());
        if let Some(table) = self.differences() {
            text += &format!("## Differences to {}, image by image\n\n{}\n", self.reference, table.markdown());
        }
        text += "## How to read it\n\n";
        text += &self.notes().iter().map(|note| format!("- {note}\n")).collect::<String>();
        text += "\n## Explainers\n\n";
        for one in &self.explainers {
            text += &format!("- {}: {} (`{}`)\n", one.name, one.what, one.identity);
        }
        if !self.broken.is_empty() {
            text += "\n## Broken images\n\n";
            text += &self.broken.iter().map(|one| format!("- {}\n", one.reason)).collect::<String>();
        }
        text
    }

    /// The title of the report.
    pub(super) fn title(&self) -> String {
        let (count, classifier) = (self.explainers.len(), &self.setting.classifier);
        format!("{count} explainers of {classifier} on {}", images(self.measured()))
    }

    /// The largest number of images that an explainer was measured on.
    pub(super) fn measured(&self) -> usize {
        self.explainers.iter().map(|one| one.images).max().unwrap_or(0)
    }

    /// The setting as pairs of key and value.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let setting = &self.setting;
        let broken = match self.broken.len() {
            0 => String::new(),
            count => format!(", {count} could not be read"),
        };
        vec![
            ("command", setting.command.clone()),
            ("images", format!("{}: {}{broken}", setting.images, setting.count)),
            ("images SHA-256", setting.images_sha256.clone()),
            ("classifier", format!("{}, {} x {} pixels", setting.classifier, setting.side, setting.side)),
            ("weights", setting.weights.clone()),
            ("weights SHA-256", setting.weights_sha256.clone().unwrap_or_else(|| "none".into())),
            ("seed", setting.seed.to_string()),
            ("computed", format!("{}, {} threads, batches of {}", setting.device, setting.threads, setting.batch_size)),
            ("program", setting.program.clone()),
        ]
    }

    fn figures(&self) -> Table {
        let metrics = self.metrics.iter().map(|spec| spec.name.clone());
        let header = ["explainer".into()].into_iter().chain(metrics);
        let mut table = Table::new(header.chain(["images", "passes", "ms/image"].map(String::from)));
        for one in &self.explainers {
            let mut row = vec![one.name.clone()];
            for ((spec, figure), best) in self.metrics.iter().zip(&one.figures).zip(&one.best) {
                let star = if *best { " *" } else { "" };
                row.push(format!("{} {}{star}", number(spec, figure.mean), interval(spec, figure)).trim().to_owned());
            }
            row.extend([one.images.to_string(), one.cost.text(), format!("{:.1}", one.cost.milliseconds)]);
            table.row(row);
        }
        table
    }

    fn differences(&self) -> Option<Table> {
        let others: Vec<_> = self.explainers.iter().filter(|one| !one.differences.is_empty()).collect();
        if others.is_empty() {
            return None;
        }
        let metrics = self.metrics.iter().map(|spec| spec.name.clone());
        let mut table = Table::new(["explainer".into()].into_iter().chain(metrics).chain(["images".into()]));
        for one in others {
            let mut row = vec![one.name.clone()];
            for (spec, difference) in self.metrics.iter().zip(&one.differences) {
                let word = match verdict(spec, &difference.estimate) {
                    Some(true) => " better",
                    Some(false) => " worse",
                    None => "",
                };
                let mean = number(spec, difference.estimate.mean);
                row.push(format!("{mean} {}{word}", interval(spec, &difference.estimate)).trim().to_owned());
            }
            row.push(one.differences.iter().map(|one| one.estimate.defined).max().unwrap_or(0).to_string());
            table.row(row);
        }
        Some(table)
    }

    /// How to read the figures, and what is missing in them.
    pub(super) fn notes(&self) -> Vec<String> {
        let direction = |better| match better {
            Direction::Higher => "higher is better",
            Direction::Lower => "lower is better",
        };
        let of = |spec: &explainer_metrics::MetricSpec| {
            format!("{}: {}, {}, {}, {}", spec.name, spec.family, spec.title, spec.unit, direction(spec.better))
        };
        let mut notes: Vec<String> = self.metrics.iter().map(of).collect();
        notes.push(
            "means with 95% intervals (percentile bootstrap over the images); * marks the best mean of those measured on \
             all images whose maps depend on the classifier"
                .into(),
        );
        notes.push("better and worse: the interval of the difference lies on one side of 0".into());
        notes.push(
            "passes: forward / backward of the classifier for an explanation, + forward of a second one; 0 / 0: the map \
             does not depend on the classifier"
                .into(),
        );
        let most = self.measured();
        for one in self.explainers.iter().filter(|one| one.images < most) {
            notes.push(format!("{} was measured on {}, not {most}", one.name, images(one.images)));
        }
        for one in &self.explainers {
            for (spec, figure) in self.metrics.iter().zip(&one.figures).filter(|(_, figure)| figure.undefined > 0) {
                let (name, metric, count) = (&one.name, &spec.name, figure.undefined);
                notes.push(format!("{name}: {metric} is undefined for {count} of {}", images(one.images)));
            }
        }
        if !self.broken.is_empty() {
            let names: Vec<&str> = self.broken.iter().map(|one| one.image.as_str()).collect();
            notes.push(format!("{} could not be read: {}", images(names.len()), names.join(", ")));
        }
        notes
    }
}

/// A number of images in words.
pub(super) fn images(count: usize) -> String {
    if count == 1 { "1 image".into() } else { format!("{count} images") }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::super::report::Measurements;
    use super::super::{Gallery, Report, Setting, UnreadableImage};
    use crate::evaluation::Curve;
    use explainer_metrics::{Results, Row, metric};
    use explainer_zoo::explain::Cost;

    /// Two explainers and a constant map on three images; the second was measured on two of them.
    fn report() -> Report {
        let names = ["ad@50", "deletion"].map(String::from);
        let found = |name: &str, passes: u64, values: &[[Option<f64>; 2]]| Measurements {
            name: name.into(),
            what: "a method".into(),
            identity: format!("{name}, seed 0"),
            results: Results {
                metrics: names.to_vec(),
                rows: values
                    .iter()
                    .enumerate()
                    .map(|(at, values)| Row { image: format!("{at}.png"), class: at, values: values.to_vec() })
                    .collect(),
            },
            cost: (Cost { forward: passes, backward: 0, second: 0, seconds: 0.012 }, values.len()),
            curves: [("deletion".to_owned(), Curve { sum: vec![3.0, 1.5, 0.0], images: 3 })].into(),
        };
        let of = |a: f64, b: f64| [Some(a), Some(b)];
        let found = vec![
            found("one", 3, &[of(10.0, 0.5), of(20.0, 0.25), of(30.0, 0.125)]),
            found("two | three", 9, &[of(5.0, 0.5), [Some(15.0), None]]),
            found("floor", 0, &[of(1.0, 0.1), of(2.0, 0.1), of(3.0, 0.1)]),
        ];
        let setting = Setting {
            program: "explainer-train 1.0.0".into(),
            command: "explainer-train compare --config a.yaml".into(),
            images: "photos".into(),
            count: 4,
            images_sha256: "12ab".into(),
            classifier: "resnet50".into(),
            weights: "resnet50.pth".into(),
            weights_sha256: None,
            side: 224,
            seed: 0,
            batch_size: 32,
            device: "flex".into(),
            threads: 2,
        };
        let specs = names.iter().map(|name| metric(name).unwrap().spec()).collect();
        let broken = vec![UnreadableImage { image: "photos/3.png".into(), reason: "photos/3.png: no image".into() }];
        Report::new(setting, specs, found, 0, broken, Gallery::default()).unwrap()
    }

    #[test]
    fn markdown_has_every_table() {
        assert_snapshot!(report().markdown());
    }

    #[test]
    fn text_has_the_same_figures() {
        let (report, text) = (report(), report().text());
        assert!(text.contains("20.00 [10.00, 30.00] *"), "{text}");
        assert_eq!(report.explainers.iter().map(|one| one.best[0]).collect::<Vec<_>>(), [true, false, false]);
        assert_eq!(report.explainers[1].differences[0].estimate.mean, Some(-5.0));
        assert!(text.contains("-5.00 [-5.00, -5.00] better"), "{text}");
    }

    #[test]
    fn the_page_has_every_explainer_once_a_section() {
        let page = report().html();
        assert_eq!(page.matches("two | three</span>").count(), 2 + 2 + 1, "tables, legends, list of explainers");
        assert!(page.contains("undefined for 1 of 2 images"));
    }
}
