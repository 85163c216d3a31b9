//! How training shows itself: a bar with the latest terms on a terminal, a line every so many steps elsewhere.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use burn::tensor::TensorReadError;
use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, MetricLogger, TrainingProgressLogger};
use burn::train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn::train::metric::{
    Metric, MetricAttributes, MetricDefinition, MetricEntry, MetricMetadata, MetricName, Numeric, NumericAttributes,
    NumericEntry, SerializedEntry, state::FormatOptions, state::NumericMetricState,
};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use indicatif::{ProgressBar, ProgressStyle};

/// What a step reports: the names of its figures and whether more is better, the loss first.
pub type Report = &'static [(&'static str, bool)];

/// A step's figures in the order of its [`Report`], and the number of images they stand for.
#[derive(Clone, Debug)]
pub struct Figures {
    /// What they are.
    pub report: Report,
    /// The loss and its terms.
    pub values: Vec<f64>,
    /// Images in the batch.
    pub images: usize,
}

impl Figures {
    /// Each figure with its name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, f64)> {
        self.report.iter().map(|(name, _)| *name).zip(self.values.iter().copied())
    }
}

/// One figure of a step's report, which burn-train averages over an epoch.
#[derive(Clone)]
pub struct Term {
    name: MetricName,
    index: usize,
    higher_is_better: bool,
    state: NumericMetricState,
}

impl Term {
    /// Every figure of a report.
    pub fn all(report: Report) -> impl Iterator<Item = Self> {
        report.iter().enumerate().map(|(index, (name, higher_is_better))| Self {
            name: MetricName::new((*name).into()),
            index,
            higher_is_better: *higher_is_better,
            state: NumericMetricState::default(),
        })
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(3)
    }
}

impl Metric for Term {
    type Input = Figures;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes { unit: None, higher_is_better: self.higher_is_better }.into()
    }

    fn update(&mut self, figures: &Figures, _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        let value = figures.values.get(self.index).copied().unwrap_or(f64::NAN);
        self.state.update(value, figures.images);
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Term {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

/// Keeps nothing of what burn-train measures: `metrics.jsonl` has it, and a run of millions of steps has no memory for it.
pub struct NoHistory;

impl MetricLogger for NoHistory {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}

/// burn-train's renderer on indicatif.
pub struct TrainingProgress {
    bar: Option<ProgressBar>,
    report: Report,
    quiet: bool,
    every: usize,
    names: HashMap<String, MetricName>,
    latest: HashMap<String, f64>,
    done: usize,
    total: usize,
    steps: usize,
    first: usize,
    started: Instant,
}

impl TrainingProgress {
    /// A phase of `total` images of which `done` are behind it, and `step` steps of the run, whose steps report `report`;
    /// off a terminal it prints a line every `every` steps of the run, those that the log has too.
    pub fn new(report: Report, (total, done): (usize, usize), step: usize, every: usize, quiet: bool) -> Self {
        let bar = (std::io::stderr().is_terminal() && !quiet).then(|| {
            let bar = ProgressBar::new(total as u64).with_position(done as u64);
            let style =
                ProgressStyle::with_template("{bar:24} {pos}/{len} images  {per_sec:>14}  {eta:>4} left  {wide_msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(250));
            bar
        });
        Self {
            bar,
            report,
            quiet,
            every: every.max(1),
            names: HashMap::new(),
            latest: HashMap::new(),
            done,
            total,
            steps: step,
            first: done,
            started: Instant::now(),
        }
    }

    fn message(&self) -> String {
        let part = |(name, _): &(&str, bool)| {
            self.latest.get(*name).map(|value| match *name {
                "agreement" | "accuracy" => format!("{name} {:.0}%", 100.0 * value),
                _ => format!("{name} {value:.3}"),
            })
        };
        self.report.iter().filter_map(part).collect::<Vec<_>>().join("  ")
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if self.quiet => {}
            None => {
                let _ = writeln!(std::io::stderr(), "{text}"); // nobody is left to tell if this fails
            }
        }
    }
}

impl MetricsRendererTraining for TrainingProgress {
    fn update_train(&mut self, state: MetricState) {
        if let MetricState::Numeric(MetricEntry { metric_id, .. }, Some(value)) = state
            && let Some(name) = self.names.get(&format!("{metric_id:?}"))
        {
            self.latest.insert(name.to_string(), value.current());
        }
    }

    fn update_valid(&mut self, _: MetricState) {}

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for TrainingProgress {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.started = Instant::now();
    }

    fn update_epoch(&mut self, _: usize) {}

    fn start_split(&mut self, _: &str, _: usize) {}

    fn update_split(&mut self, images: usize) {
        self.done = self.first + images;
        self.steps += 1;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
            bar.set_message(self.message());
        } else if self.steps.is_multiple_of(self.every) {
            let rate = images as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
            self.line(&format!(
                "{}/{} images  {}  {rate:.1} images/s  {left:.0} s left",
                self.done,
                self.total,
                self.message()
            ));
        }
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// burn-train announces every iteration this way; the bar and the lines say more.
    fn log_event_training(&mut self, _: String) {}
}

impl MetricsRendererEvaluation for TrainingProgress {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for TrainingProgress {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for TrainingProgress {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.insert(format!("{:?}", definition.metric_id), definition.name);
    }
}
