//! The tables of the page: figures of each explainer, and differences to the reference.

use maud::{Markup, html};

use super::super::Report;
use super::super::report::{interval, number, verdict};
use super::direction;
use explainer_metrics::MetricSpec;

impl Report {
    pub(super) fn figures_section(&self) -> Markup {
        // The cost comes first: on a narrow page the last columns are out of sight.
        let costs = [("images", "measured", "down"), ("passes", "forward / backward", "up"), ("ms", "an image", "up")];
        html! {
            section {
                h2 { "Figures" }
                p {
                    "Means with 95% intervals (bootstrap over the images). The best mean of a column is marked, among the \
                     explainers that were measured on all images and whose maps depend on the classifier."
                }
                div.scroll {
                    table id="figures" class="numbers" {
                        thead {
                            tr {
                                (name_column())
                                @for (name, what, sort) in costs { (column(name, what, sort, None)) }
                                @for spec in &self.metrics {
                                    @let word = direction(spec).0;
                                    @let title =
                                        format!("{}, in {}, {word} is better ({})", spec.title, spec.unit, spec.source);
                                    (metric_column(spec, Some(&title)))
                                }
                            }
                        }
                        tbody {
                            @for place in 0..self.explainers.len() { (self.figures_row(place)) }
                        }
                    }
                }
            }
        }
    }

    fn figures_row(&self, place: usize) -> Markup {
        let one = &self.explainers[place];
        let incomplete = (one.images < self.measured()).then_some("few");
        html! {
            tr {
                th scope="row" { (self.labelled(place)) }
                td class=[incomplete] data-value=(one.images) { (one.images) }
                td data-value=(one.cost.passes()) { (one.cost.text()) }
                td data-value=(one.cost.milliseconds) { (format!("{:.1}", one.cost.milliseconds)) }
                @for ((spec, figure), best) in self.metrics.iter().zip(&one.figures).zip(&one.best) {
                    td class=[best.then_some("best")] data-value=(optional(figure.mean)) {
                        (number(spec, figure.mean))
                        small { (interval(spec, figure)) }
                    }
                }
            }
        }
    }

    pub(super) fn differences_section(&self) -> Markup {
        let compared: Vec<usize> =
            (0..self.explainers.len()).filter(|place| !self.explainers[*place].differences.is_empty()).collect();
        html! {
            @if !compared.is_empty() {
                section {
                    h2 { "Differences to " (self.reference) }
                    p {
                        "Each explainer less " (self.reference) ", image by image, on the images that both have. It is called \
                         better or worse where the 95% interval lies on one side of 0."
                    }
                    div.scroll {
                        table class="numbers" {
                            thead {
                                tr {
                                    (name_column())
                                    @for spec in &self.metrics { (metric_column(spec, None)) }
                                    (column("images", "in common", "down", None))
                                }
                            }
                            tbody {
                                @for place in compared { (self.differences_row(place)) }
                            }
                        }
                    }
                }
            }
        }
    }

    fn differences_row(&self, place: usize) -> Markup {
        let differences = &self.explainers[place].differences;
        let images = differences.iter().map(|one| one.estimate.defined).max().unwrap_or(0);
        html! {
            tr {
                th scope="row" { (self.labelled(place)) }
                @for (spec, difference) in self.metrics.iter().zip(differences) {
                    @let estimate = &difference.estimate;
                    @let (class, word) = match verdict(spec, estimate) {
                        Some(true) => ("better", Some("better")),
                        Some(false) => ("worse", Some("worse")),
                        None => ("open", None),
                    };
                    td class=(class) data-value=(optional(estimate.mean)) {
                        @if let Some(word) = word { i { (word) } " " }
                        (number(spec, estimate.mean))
                        small { (interval(spec, estimate)) }
                    }
                }
                td data-value=(images) { (images) }
            }
        }
    }
}

/// A value by which the script sorts: empty if undefined.
fn optional(value: Option<f64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn name_column() -> Markup {
    html! { th scope="col" data-sort="text" { span.title { "explainer" } } }
}

fn metric_column(spec: &MetricSpec, title: Option<&str>) -> Markup {
    let (word, sort) = direction(spec);
    column(&spec.name, &format!("{word} is better"), sort, title)
}

/// A column's header; `sort` is the order that the first click gives.
fn column(name: &str, note: &str, sort: &str, title: Option<&str>) -> Markup {
    html! {
        th scope="col" data-sort=(sort) title=[title] {
            span.title { (name) }
            small { (note) }
        }
    }
}
