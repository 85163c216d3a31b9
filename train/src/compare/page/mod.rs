//! A comparison as one HTML page that needs nothing else: style, script, plots and pictures are in it. Without its script
//! it shows the same, unsorted and with every plot.

mod parts;
mod plot;
mod scale;

use std::fmt::Write;

use super::report::{digits, interval, number, verdict};
use super::{Explainer, Report};
use explainer_metrics::{Better, MetricSpec};
use parts::{badge, data_uri, escape};

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

impl Report {
    /// As one HTML page.
    #[must_use]
    pub fn html(&self) -> String {
        let title = escape(&self.title());
        let sections = [
            self.summary(),
            self.figures_section(),
            self.differences_section(),
            self.cost_section(),
            self.curves_section(),
            self.gallery_section(),
            self.about_section(),
        ];
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n<script>\n{SCRIPT}</script>\n</body>\n</html>\n",
            sections.concat()
        )
    }

    fn summary(&self) -> String {
        let broken = match self.broken.len() {
            0 => String::new(),
            count => format!("; {count} more could not be read"),
        };
        format!(
            "<header>\n<h1>{}</h1>\n<p>{} metrics, compared image by image with <b>{}</b>{broken}.</p>\n</header>\n",
            escape(&self.title()),
            self.metrics.len(),
            escape(&self.reference)
        )
    }

    /// The name of the explainer at a place, with its number.
    fn labelled(&self, place: usize) -> String {
        let name = self.explainers.get(place).map(|one| escape(&one.name)).unwrap_or_default();
        format!("{}<span>{name}</span>", badge(place))
    }

    fn figures_section(&self) -> String {
        let mut head = String::from("<th scope=\"col\" data-sort=\"text\"><span class=\"title\">explainer</span></th>");
        // What an explanation costs comes first: on a narrow page the last columns have to be scrolled to.
        for (name, what) in [("images", "measured"), ("passes", "forward / backward"), ("ms", "an image")] {
            let sort = if name == "images" { "down" } else { "up" };
            let _ = write!(
                head,
                "<th scope=\"col\" data-sort=\"{sort}\"><span class=\"title\">{name}</span><small>{what}</small></th>"
            );
        }
        for spec in &self.metrics {
            let (word, better) = direction(spec);
            let title = escape(&format!("{}, in {}, {word} is better ({})", spec.title, spec.unit, spec.source));
            let name = escape(&spec.name);
            let _ = write!(
                head,
                "<th scope=\"col\" data-sort=\"{better}\" title=\"{title}\"><span class=\"title\">{name}</span>\
                 <small>{word} is better</small></th>"
            );
        }
        let mut rows = String::new();
        for (place, one) in self.explainers.iter().enumerate() {
            let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", self.labelled(place));
            let (passes, time) = (one.cost.passes(), one.cost.milliseconds);
            let few = if one.images < self.measured() { " class=\"few\"" } else { "" };
            let _ = write!(
                rows,
                "<td{few} data-value=\"{0}\">{0}</td><td data-value=\"{passes}\">{1}</td>\
                 <td data-value=\"{time}\">{time:.1}</td>",
                one.images,
                escape(&one.cost.text())
            );
            for ((spec, figure), best) in self.metrics.iter().zip(&one.figures).zip(&one.best) {
                let class = if *best { " class=\"best\"" } else { "" };
                let value = figure.mean.map_or(String::new(), |mean| mean.to_string());
                let (mean, ends) = (number(spec, figure.mean), interval(spec, figure));
                let _ = write!(rows, "<td{class} data-value=\"{value}\">{mean}<small>{ends}</small></td>");
            }
            rows += "</tr>\n";
        }
        format!(
            "<section>\n<h2>Figures</h2>\n<p>Means with 95% intervals (bootstrap over the images). The best mean of a column \
             is marked, among the explainers that were measured on all images and look at the classifier at all.</p>\n\
             <div class=\"scroll\"><table id=\"figures\" class=\"numbers\">\n<thead><tr>{head}</tr></thead>\n\
             <tbody>\n{rows}</tbody>\n</table></div>\n</section>\n"
        )
    }

    fn differences_section(&self) -> String {
        if self.explainers.iter().all(|one| one.differences.is_empty()) {
            return String::new();
        }
        let reference = escape(&self.reference);
        let mut head = String::from("<th scope=\"col\" data-sort=\"text\"><span class=\"title\">explainer</span></th>");
        for spec in &self.metrics {
            let (word, better) = direction(spec);
            let name = escape(&spec.name);
            let _ = write!(
                head,
                "<th scope=\"col\" data-sort=\"{better}\"><span class=\"title\">{name}</span><small>{word} is better</small></th>"
            );
        }
        head += "<th scope=\"col\" data-sort=\"down\"><span class=\"title\">images</span><small>in common</small></th>";
        let mut rows = String::new();
        for (place, one) in self.explainers.iter().enumerate().filter(|(_, one)| !one.differences.is_empty()) {
            let _ = write!(rows, "<tr><th scope=\"row\">{}</th>", self.labelled(place));
            for (spec, difference) in self.metrics.iter().zip(&one.differences) {
                let (class, word) = match verdict(spec, &difference.estimate) {
                    Some(true) => ("better", "<i>better</i> "),
                    Some(false) => ("worse", "<i>worse</i> "),
                    None => ("open", ""),
                };
                let value = difference.estimate.mean.map_or(String::new(), |mean| mean.to_string());
                let mean = number(spec, difference.estimate.mean);
                let ends = interval(spec, &difference.estimate);
                let _ =
                    write!(rows, "<td class=\"{class}\" data-value=\"{value}\">{word}{mean}<small>{ends}</small></td>");
            }
            let images = one.differences.iter().map(|one| one.estimate.defined).max().unwrap_or(0);
            let _ = writeln!(rows, "<td data-value=\"{images}\">{images}</td></tr>");
        }
        format!(
            "<section>\n<h2>Differences to {reference}</h2>\n<p>Each explainer less {reference}, image by image, on the \
             images that both have. It is called better or worse where the 95% interval lies on one side of 0.</p>\n\
             <div class=\"scroll\"><table class=\"numbers\">\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
             </table></div>\n</section>\n"
        )
    }

    fn cost_section(&self) -> String {
        let mut plots = String::new();
        for (place, spec) in self.metrics.iter().enumerate() {
            let (word, _) = direction(spec);
            let (name, title) = (escape(&spec.name), escape(&spec.title));
            let _ = writeln!(
                plots,
                "<figure data-metric=\"{name}\">\n{}<figcaption><b>{name}</b>: {title}; {word} is better</figcaption>\n\
                 </figure>",
                plot::quality_and_cost(spec, place, &self.explainers)
            );
        }
        format!(
            "<section id=\"quality\">\n<h2>Quality and cost</h2>\n<p>Passes through classifiers for one explanation, \
             forward and backward together. Lines are 95% intervals of the mean. Points that would lie on each other stand side by side.</p>\n{}<div class=\"plots\">\n{plots}</div>\n\
             </section>\n",
            self.legend(|_| true)
        )
    }

    fn curves_section(&self) -> String {
        let mut plots = String::new();
        for spec in &self.metrics {
            let curves: Vec<(usize, &str, &[f64])> = self
                .explainers
                .iter()
                .enumerate()
                .filter_map(|(place, one)| Some((place, one.name.as_str(), one.curves.get(&spec.name)?.as_slice())))
                .filter(|(.., curve)| curve.len() > 1)
                .collect();
            if curves.is_empty() {
                continue;
            }
            let (name, title, (word, _)) = (escape(&spec.name), escape(&spec.title), direction(spec));
            let what = if spec.name.starts_with("insertion") { "shown" } else { "removed" };
            let _ = writeln!(
                plots,
                "<figure>\n{}<figcaption><b>{name}</b>: {title}; {word} is better</figcaption>\n</figure>",
                plot::curves(&format!("pixels {what}, the most important first, percent"), &curves)
            );
        }
        if plots.is_empty() {
            return String::new();
        }
        format!(
            "<section>\n<h2>Curves</h2>\n<p>Mean score of the explained class, over the images that each explainer was measured on.</p>\n{}<div class=\"plots\">\n{plots}</div>\n\
             </section>\n",
            self.legend(|one| !one.curves.is_empty())
        )
    }

    fn legend(&self, shown: impl Fn(&Explainer) -> bool) -> String {
        let items = self.explainers.iter().enumerate().filter(|(_, one)| shown(one));
        let items: String = items.map(|(place, _)| format!("<li>{}</li>", self.labelled(place))).collect();
        format!("<ul class=\"legend\">{items}</ul>\n")
    }

    fn gallery_section(&self) -> String {
        let gallery = &self.gallery;
        let Some(spec) = self.metrics.iter().find(|spec| spec.name == gallery.metric) else { return String::new() };
        if gallery.cases.is_empty() {
            return String::new();
        }
        let (shown, left_out): (Vec<usize>, Vec<usize>) = (0..self.explainers.len())
            .partition(|place| gallery.cases.iter().any(|case| matches!(case.maps.get(*place), Some(Some(_)))));
        let mut head = String::from("<th scope=\"col\">image</th>");
        for place in &shown {
            let _ = write!(head, "<th scope=\"col\">{}</th>", self.labelled(*place));
        }
        let mut rows = String::new();
        for case in &gallery.cases {
            let (image, class) = (escape(&case.image), escape(&case.class));
            let _ = write!(
                rows,
                "<tr><th scope=\"row\"><img src=\"{}\" alt=\"{image}\"><b>{class}</b><small>{image}</small></th>",
                data_uri(&case.picture)
            );
            for place in &shown {
                let name = self.explainers.get(*place).map(|one| escape(&one.name)).unwrap_or_default();
                match case.maps.get(*place) {
                    Some(Some(picture)) => {
                        let value = number(spec, case.values.get(*place).copied().flatten());
                        let uri = data_uri(picture);
                        let _ = write!(
                            rows,
                            "<td><img src=\"{uri}\" alt=\"map of {name}\"><span>{} {value}</span></td>",
                            badge(*place)
                        );
                    }
                    _ => rows += "<td class=\"none\">not measured</td>",
                }
            }
            rows += "</tr>\n";
        }
        let mut text = format!(
            "The {} worst images of <b>{}</b> by {}, the worst first ({} is better), with the map of every explainer for the \
             predicted class and its value.",
            gallery.cases.len(),
            escape(&self.reference),
            escape(&spec.name),
            direction(spec).0
        );
        if !left_out.is_empty() {
            let names: Vec<String> =
                left_out.iter().filter_map(|place| Some(escape(&self.explainers.get(*place)?.name))).collect();
            let _ = write!(text, " Not measured on any of them: {}.", names.join(", "));
        }
        format!(
            "<section>\n<h2>Gallery</h2>\n<p>{text}</p>\n<div class=\"scroll\"><table class=\"gallery\">\n\
             <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n</section>\n"
        )
    }

    fn about_section(&self) -> String {
        let facts: String = self
            .settings()
            .into_iter()
            .map(|(key, value)| format!("<dt>{key}</dt><dd>{}</dd>", escape(&value)))
            .collect();
        let mut rows = String::new();
        for (place, one) in self.explainers.iter().enumerate() {
            let (what, identity) = (escape(&one.what), escape(&one.identity));
            let _ = writeln!(rows, "<dt>{}</dt><dd>{what}<small>{identity}</small></dd>", self.labelled(place));
        }
        let notes: String = self.notes().iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
        let broken: String = self.broken.iter().map(|one| format!("<li>{}</li>", escape(&one.reason))).collect();
        let broken = match broken.as_str() {
            "" => String::new(),
            list => format!("<h3>Images that could not be read</h3>\n<ul>{list}</ul>\n"),
        };
        format!(
            "<section>\n<h2>How this was made</h2>\n<dl>{facts}</dl>\n<h3>Explainers</h3>\n<dl>{rows}</dl>\n\
             <h3>Notes</h3>\n<ul>{notes}</ul>\n{broken}</section>\n"
        )
    }
}

/// The better direction in a word, and as the order in which the better come first.
fn direction(spec: &MetricSpec) -> (&'static str, &'static str) {
    match spec.better {
        Better::Higher => ("higher", "down"),
        Better::Lower => ("lower", "up"),
    }
}

/// A value for a tooltip.
fn cell_text(spec: &MetricSpec, one: &Explainer, place: usize) -> String {
    let figure = one.figures.get(place);
    let text = figure.map(|figure| format!("{} {}", number(spec, figure.mean), interval(spec, figure)));
    format!("{}: {}, passes {}", one.name, text.unwrap_or_default().trim_end(), one.cost.text())
}

/// Digits behind the point of an axis, at least those that tell its ticks apart.
fn axis_digits(spec: &MetricSpec, step: f64) -> usize {
    digits(spec).min((-step.log10()).ceil().max(0.0) as usize)
}
