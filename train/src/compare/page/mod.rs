//! A comparison as one HTML page without any other file: style, script, plots and images are inside it. Without its
//! script the page shows the same content, unsorted and with every plot.

mod gallery;
mod parts;
mod plot;
mod scale;
mod tables;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::report::{digits, interval, number};
use super::{ExplainerReport, Report};
use explainer_metrics::{Direction, MetricSpec};
use parts::badge;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Report {
    /// The comparison as one HTML page.
    #[must_use]
    pub fn html(&self) -> String {
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (self.title()) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        (self.summary())
                        (self.figures_section())
                        (self.differences_section())
                        (self.cost_section())
                        (self.curves_section())
                        (self.gallery_section())
                        (self.about_section())
                    }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        printable(&page.into_string())
    }

    fn summary(&self) -> Markup {
        html! {
            header {
                h1 { (self.title()) }
                p {
                    (self.metrics.len()) " metrics, compared image by image with " b { (self.reference) }
                    @if !self.broken.is_empty() { "; " (self.broken.len()) " more could not be read" }
                    "."
                }
            }
        }
    }

    /// The badge and the name of the explainer at a place.
    fn labelled(&self, place: usize) -> Markup {
        html! { (badge(place)) span { (self.name(place)) } }
    }

    fn name(&self, place: usize) -> &str {
        self.explainers.get(place).map_or("", |one| &one.name)
    }

    fn legend(&self, shown: impl Fn(&ExplainerReport) -> bool) -> Markup {
        html! {
            ul.legend {
                @for (place, _) in self.explainers.iter().enumerate().filter(|(_, one)| shown(one)) {
                    li { (self.labelled(place)) }
                }
            }
        }
    }

    fn cost_section(&self) -> Markup {
        html! {
            section id="quality" {
                h2 { "Quality and cost" }
                p {
                    "Passes through classifiers for one explanation, forward and backward together. Lines are 95% intervals \
                     of the mean. Points that would overlap stand side by side."
                }
                (self.legend(|_| true))
                div.plots {
                    @for (place, spec) in self.metrics.iter().enumerate() {
                        figure data-metric=(spec.name) {
                            (plot::quality_and_cost(spec, place, &self.explainers))
                            (caption(spec))
                        }
                    }
                }
            }
        }
    }

    fn curves_section(&self) -> Markup {
        let curves_of = |spec: &MetricSpec| -> Vec<(usize, &str, &[f64])> {
            let curves =
                self.explainers.iter().enumerate().filter_map(|(place, one)| {
                    Some((place, one.name.as_str(), one.curves.get(&spec.name)?.as_slice()))
                });
            curves.filter(|(.., curve)| curve.len() > 1).collect()
        };
        let plots: Vec<_> = self.metrics.iter().map(|spec| (spec, curves_of(spec))).collect();
        html! {
            @if plots.iter().any(|(_, curves)| !curves.is_empty()) {
                section {
                    h2 { "Curves" }
                    p { "Mean score of the explained class, over the images that each explainer was measured on." }
                    (self.legend(|one| !one.curves.is_empty()))
                    div.plots {
                        @for (spec, curves) in plots.iter().filter(|(_, curves)| !curves.is_empty()) {
                            @let done = if spec.name.starts_with("insertion") { "shown" } else { "removed" };
                            figure {
                                (plot::curves(&format!("pixels {done}, the most important first, percent"), curves))
                                (caption(spec))
                            }
                        }
                    }
                }
            }
        }
    }

    fn about_section(&self) -> Markup {
        html! {
            section {
                h2 { "How this was made" }
                dl {
                    @for (key, value) in self.settings() { dt { (key) } dd { (value) } }
                }
                h3 { "Explainers" }
                dl {
                    @for (place, one) in self.explainers.iter().enumerate() {
                        dt { (self.labelled(place)) }
                        dd { (one.what) small { (one.identity) } }
                    }
                }
                h3 { "Notes" }
                ul {
                    @for note in self.notes() { li { (note) } }
                }
                @if !self.broken.is_empty() {
                    h3 { "Images that could not be read" }
                    ul {
                        @for one in &self.broken { li { (one.reason) } }
                    }
                }
            }
        }
    }
}

/// A plot's caption: the metric, what it is and its better direction.
fn caption(spec: &MetricSpec) -> Markup {
    html! { figcaption { b { (spec.name) } ": " (spec.title) "; " (direction(spec).0) " is better" } }
}

/// The better direction in a word, and the sort order that puts the better values first.
fn direction(spec: &MetricSpec) -> (&'static str, &'static str) {
    match spec.better {
        Direction::Higher => ("higher", "down"),
        Direction::Lower => ("lower", "up"),
    }
}

/// An explainer's figure for a tooltip.
fn tooltip(spec: &MetricSpec, one: &ExplainerReport, place: usize) -> String {
    let figure = one.figures.get(place);
    let text = figure.map(|figure| format!("{} {}", number(spec, figure.mean), interval(spec, figure)));
    format!("{}: {}, passes {}", one.name, text.unwrap_or_default().trim_end(), one.cost.text())
}

/// The number of decimals on an axis: at least as many as distinguish its ticks.
fn axis_digits(spec: &MetricSpec, step: f64) -> usize {
    digits(spec).min((-step.log10()).ceil().max(0.0) as usize)
}

/// The page without the control characters that file names may hold; line breaks stay.
fn printable(page: &str) -> String {
    page.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_taken_for_html() {
        let text = "<b a='1' c=\"2\">&\u{1b}";
        let page = printable(&html! { i title=(text) { (text) } }.into_string());
        let escaped = "&lt;b a='1' c=&quot;2&quot;&gt;&amp; ";
        assert_eq!(page, format!("<i title=\"{escaped}\">{escaped}</i>"));
    }
}
