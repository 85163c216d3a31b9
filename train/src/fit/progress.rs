//! The progress of training, through burn-train's renderer interface.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::train::LearnerSummary;
use burn::train::logger::{EvaluationProgressLogger, TrainingProgressLogger};
use burn::train::metric::{
    MetricDefinition, MetricEntry, MetricId, MetricName, NumericAttributes, NumericEntry, SerializedEntry,
};
use burn::train::renderer::{
    EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation, MetricsRendererTraining,
};
use explainer_zoo::training::{MetricNames, StepMetrics};
use indicatif::{ProgressBar, ProgressStyle};

/// Sends the metrics of each step to a renderer of burn-train, which this closes when it is dropped.
pub(super) struct TrainingProgress {
    renderer: Box<dyn MetricsRenderer>,
}

impl TrainingProgress {
    /// Registers the metrics of `report` with the renderer.
    pub fn new(report: MetricNames, mut renderer: Box<dyn MetricsRenderer>) -> Self {
        for (name, higher_is_better) in report {
            renderer.register_metric(MetricDefinition {
                metric_id: id(name),
                name: MetricName::new((*name).into()),
                description: None,
                attributes: NumericAttributes { unit: None, higher_is_better: *higher_is_better }.into(),
            });
        }
        renderer.start(1, 1, None, None);
        Self { renderer }
    }

    /// A step was made, the latest known metrics are these, and `images` images have been learned from.
    pub fn step(&mut self, latest: Option<&StepMetrics>, images: usize) {
        for (name, value) in latest.iter().flat_map(|metrics| metrics.named()) {
            let entry = MetricEntry::new(id(name), SerializedEntry::new(format!("{value:.3}"), value.to_string()));
            self.renderer.update_train(MetricState::Numeric(entry, Some(NumericEntry::Value(value))));
        }
        self.renderer.update_split(images);
    }
}

impl Drop for TrainingProgress {
    fn drop(&mut self) {
        self.renderer.end();
    }
}

fn id(name: &str) -> MetricId {
    MetricId::new(Arc::new(name.into()))
}

/// A renderer on standard error: a bar with the latest metrics on a terminal, otherwise a line every few steps.
pub(super) struct ConsoleRenderer {
    bar: Option<ProgressBar>,
    quiet: bool,
    /// Steps of the run between two lines.
    every: usize,
    /// Names of the metrics, in the order of their registration.
    names: Vec<String>,
    latest: HashMap<String, f64>,
    done: usize,
    total: usize,
    step: usize,
    /// Images before this process began.
    first: usize,
    started: Instant,
}

impl ConsoleRenderer {
    /// A phase of `total` images of which `done` were learned from earlier. The run has made `step` steps; off a terminal a
    /// line is printed every `every` steps of the run, for the same steps as the log's lines.
    pub fn new((total, done): (usize, usize), step: usize, every: usize, quiet: bool) -> Self {
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
            quiet,
            every: every.max(1),
            names: Vec::new(),
            latest: HashMap::new(),
            done,
            total,
            step,
            first: done,
            started: Instant::now(),
        }
    }

    fn message(&self) -> String {
        let part = |name: &String| {
            self.latest.get(name).map(|value| match name.as_str() {
                "agreement" | "accuracy" => format!("{name} {:.0}%", 100.0 * value),
                _ => format!("{name} {value:.3}"),
            })
        };
        self.names.iter().filter_map(part).collect::<Vec<_>>().join("  ")
    }
}

impl MetricsRendererTraining for ConsoleRenderer {
    fn update_train(&mut self, state: MetricState) {
        if let MetricState::Numeric(entry, Some(value)) = state
            && let Some(name) = self.names.iter().find(|name| id(name) == entry.metric_id)
        {
            self.latest.insert(name.clone(), value.current());
        }
    }

    fn update_valid(&mut self, _: MetricState) {}

    fn on_train_end(&mut self, _: Option<LearnerSummary>) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl TrainingProgressLogger for ConsoleRenderer {
    fn start(&mut self, _: usize, _: usize, _: Option<usize>, _: Option<&str>) {
        self.started = Instant::now();
    }

    fn update_epoch(&mut self, _: usize) {}

    fn start_split(&mut self, _: &str, _: usize) {}

    fn update_split(&mut self, images: usize) {
        self.done = self.first + images;
        self.step += 1;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done as u64);
            bar.set_message(self.message());
        } else if self.step.is_multiple_of(self.every) && !self.quiet {
            let rate = images as f64 / self.started.elapsed().as_secs_f64().max(1e-9);
            let left = self.total.saturating_sub(self.done) as f64 / rate.max(1e-9);
            let (done, total, message) = (self.done, self.total, self.message());
            // A closed standard error does not end the run.
            let _ =
                writeln!(std::io::stderr(), "{done}/{total} images  {message}  {rate:.1} images/s  {left:.0} s left");
        }
    }

    fn end_split(&mut self) {}

    fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn log_event_training(&mut self, _: String) {}
}

impl MetricsRendererEvaluation for ConsoleRenderer {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl EvaluationProgressLogger for ConsoleRenderer {
    fn start_global_progress(&mut self, _: usize) {}
    fn start_test(&mut self, _: &str, _: usize) {}
    fn update_test_progress(&mut self, _: usize) {}
    fn end_test(&mut self) {}
    fn end_global_progress(&mut self) {}
    fn log_event_evaluation(&mut self, _: String) {}
}

impl MetricsRenderer for ConsoleRenderer {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names.push(definition.name.to_string());
    }
}
