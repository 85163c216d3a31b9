//! A comparison as plain text and as Markdown: the same tables.

use super::Report;
use super::report::{interval, number, verdict};
use crate::metric::Better;
use crate::report::table::Table;

impl Report {
    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.facts().text(), self.figures().text());
        if let Some(table) = self.differences() {
            text += &format!("less {}, image by image:\n\n{}\n", self.reference, table.text());
        }
        text + &self.notes().iter().map(|note| format!("{note}\n")).collect::<String>()
    }

    /// As Markdown.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n\n{}\n", self.title(), self.facts().markdown());
        text += &format!("## Figures\n\n{}\n", self.figures().markdown());
        if let Some(table) = self.differences() {
            text += &format!("## Differences to {}, image by image\n\n{}\n", self.reference, table.markdown());
        }
        text += "## How to read it\n\n";
        text += &self.notes().iter().map(|note| format!("- {note}\n")).collect::<String>();
        text += "\n## Explainers\n\n";
        let mut table = Table::new(["explainer", "what", "identity"]);
        for one in &self.explainers {
            table.row([&one.name, &one.what, &one.identity]);
        }
        text += &table.markdown();
        if !self.broken.is_empty() {
            text += "\n## Broken images\n\n";
            text += &self.broken.iter().map(|one| format!("- {}\n", one.reason)).collect::<String>();
        }
        text
    }

    /// What the report is about.
    pub(super) fn title(&self) -> String {
        let (count, classifier) = (self.explainers.len(), &self.setting.classifier);
        format!("{count} explainers of {classifier} on {} images", self.measured())
    }

    /// Images that an explainer was measured on, at most.
    pub(super) fn measured(&self) -> usize {
        self.explainers.iter().map(|one| one.images).max().unwrap_or(0)
    }

    /// How it was made, by key.
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

    fn facts(&self) -> Table {
        let mut table = Table::new(["comparison", ""]);
        for (key, value) in self.settings() {
            table.row([key.to_owned(), value]);
        }
        table
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

    /// What the figures mean, and what is missing in them.
    pub(super) fn notes(&self) -> Vec<String> {
        let direction = |better| match better {
            Better::Higher => "higher is better",
            Better::Lower => "lower is better",
        };
        let of = |spec: &crate::metric::MetricSpec| {
            format!("{}: {}, in {}, {}", spec.name, spec.title, spec.unit, direction(spec.better))
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
             knows nothing of the classifier"
                .into(),
        );
        let most = self.measured();
        for one in self.explainers.iter().filter(|one| one.images < most) {
            notes.push(format!("{} was measured on {} images, not {most}", one.name, one.images));
        }
        for one in &self.explainers {
            for (spec, figure) in self.metrics.iter().zip(&one.figures).filter(|(_, figure)| figure.undefined > 0) {
                let (name, metric, count) = (&one.name, &spec.name, figure.undefined);
                notes.push(format!("{name}: {metric} is undefined for {count} of {} images", one.images));
            }
        }
        if !self.broken.is_empty() {
            let names: Vec<&str> = self.broken.iter().map(|one| one.image.as_str()).collect();
            notes.push(format!("{} images could not be read: {}", names.len(), names.join(", ")));
        }
        notes
    }
}
