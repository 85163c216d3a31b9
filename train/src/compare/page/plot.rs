//! Plots as SVG inside the page.

use std::fmt::Write;

use super::parts::{colour, dashes, escape};
use super::scale::{Labels, Scale};
use super::{Explainer, MetricSpec, axis_digits, cell_text};

/// Sides of a plot, in its own units.
const SIZE: [f64; 2] = [520.0, 340.0];
/// Its margins: left, right, top, bottom.
const MARGIN: [f64; 4] = [58.0, 14.0, 14.0, 48.0];
/// Radius of a point with its number.
const RADIUS: f64 = 9.0;
/// From the left edge to the explanations that cost no pass, and to those that cost one.
const NOTHING: f64 = 24.0;
const ONE: f64 = 62.0;

/// A metric's means against the passes of an explanation, which have a logarithmic scale with a place for none.
pub(super) fn quality_and_cost(spec: &MetricSpec, place: usize, explainers: &[Explainer]) -> String {
    let [width, height] = SIZE;
    let [left, right, top, bottom] = MARGIN;
    let figures = explainers.iter().enumerate().filter_map(|(number, one)| {
        let figure = one.figures.get(place)?;
        Some((number, one, figure.mean?, figure.interval))
    });
    let figures: Vec<_> = figures.collect();
    let values = figures.iter().flat_map(|(_, _, mean, ends)| ends.unwrap_or([*mean; 2]).into_iter().chain([*mean]));
    let y = Scale::new(values, [height - bottom, top]);
    let most = figures.iter().map(|(_, one, ..)| one.cost.passes()).fold(1.0, f64::max);
    let decades = most.log10().ceil().max(1.0);
    let (first, last) = (left + ONE, width - right - 2.0 * RADIUS);
    let x = |passes: f64| match passes {
        passes if passes <= 0.0 => left + NOTHING,
        passes => first + passes.log10().max(0.0) / decades * (last - first),
    };
    let mut svg = opening(&format!("{} against passes", spec.name));
    frame(&mut svg, &y, |value| format!("{value:.*}", axis_digits(spec, y.step)));
    let ticks =
        (0..=decades as i32).map(|decade| (x(10_f64.powi(decade)), thousands(10_u64.pow(decade.max(0) as u32))));
    for (at, text) in [(x(0.0), "0".to_owned())].into_iter().chain(ticks) {
        tick(&mut svg, at, &text);
    }
    let _ = writeln!(
        svg,
        "<path class=\"break\" d=\"M{0:.1} {1:.1}v{2:.1}\"/>",
        left + (NOTHING + ONE) / 2.0,
        top,
        height - bottom - top
    );
    titles(&mut svg, "passes an explanation", &format!("{}, {}", spec.name, spec.unit));
    let mut labels = Labels::default();
    for (number, one, mean, ends) in figures {
        let wanted = [x(one.cost.passes()), y.at(mean)];
        // Beside it, where another lies there already: never so far that it seems to cost something else.
        let room = if one.cost.passes() > 0.0 { 60.0 } else { NOTHING };
        let [at, level] = labels.beside(wanted, 2.0 * RADIUS + 1.0, room);
        let colour = colour(number);
        let _ = write!(svg, "<g><title>{}</title>", escape(&cell_text(spec, one, place)));
        if let Some([low, high]) = ends {
            let (low, high) = (y.at(low), y.at(high));
            let _ = write!(svg, "<path stroke=\"{colour}\" stroke-width=\"2\" d=\"M{at:.1} {low:.1}V{high:.1}\"/>");
        }
        point(&mut svg, number, [at, level]);
        svg += "</g>\n";
    }
    svg + "</svg>\n"
}

/// Mean scores over the share of the pixels: for each explainer its place, name and curve of two or more steps.
pub(super) fn curves(axis: &str, curves: &[(usize, &str, &[f64])]) -> String {
    let [width, height] = SIZE;
    let [left, right, top, bottom] = MARGIN;
    let y =
        Scale::new(curves.iter().flat_map(|(.., curve)| curve.iter().copied()).chain([0.0]), [height - bottom, top]);
    let x = |share: f64| left + share * (width - right - left);
    let point_of = |curve: &[f64], step: usize| {
        let share = step as f64 / (curve.len() - 1).max(1) as f64;
        [x(share), y.at(curve.get(step).copied().unwrap_or(0.0))]
    };
    let mut svg = opening("mean curves");
    let digits = (-y.step.log10()).ceil().max(0.0) as usize;
    frame(&mut svg, &y, |value| format!("{value:.digits$}"));
    for percent in [0, 20, 40, 60, 80, 100] {
        tick(&mut svg, x(f64::from(percent) / 100.0), &percent.to_string());
    }
    titles(&mut svg, axis, "mean score");
    for (number, name, curve) in curves {
        let mut path = String::new();
        for step in 0..curve.len() {
            let [x, y] = point_of(curve, step);
            let _ = write!(path, "{}{x:.1} {y:.1}", if step == 0 { 'M' } else { 'L' });
        }
        let (colour, dashes, name) = (colour(*number), dashes(*number), escape(name));
        let _ = writeln!(
            svg,
            "<path class=\"curve\" stroke=\"{colour}\" stroke-dasharray=\"{dashes}\" d=\"{path}\"><title>{name}</title></path>"
        );
    }
    // Curves begin and end together: each has its number where it is farthest from the others.
    let mut labels = Labels::default();
    for (number, _, curve) in curves {
        let others = curves.iter().filter(|(other, ..)| other != number);
        let free = |step: usize| {
            let [at, level] = point_of(curve, step);
            let share = step as f64 / (curve.len() - 1).max(1) as f64;
            let apart = |(.., other): &(usize, &str, &[f64])| {
                let step = (share * (other.len() - 1) as f64).round() as usize;
                (point_of(other, step)[1] - level).abs()
            };
            let room = others.clone().map(apart).fold(3.0 * RADIUS, f64::min);
            let taken = labels.taken([at, level], 2.0 * RADIUS + 1.0);
            room - if taken { 100.0 } else { 0.0 }
        };
        let steps = (curve.len() / 20).max(1)..curve.len() - (curve.len() / 20).max(1);
        let best = steps.max_by(|a, b| free(*a).total_cmp(&free(*b))).unwrap_or(curve.len() / 2);
        let at = point_of(curve, best);
        labels.take(at);
        point(&mut svg, *number, at);
        svg.push('\n');
    }
    svg + "</svg>\n"
}

fn opening(label: &str) -> String {
    let [width, height] = SIZE;
    format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\n", escape(label))
}

/// The horizontal lines with their values.
fn frame(svg: &mut String, y: &Scale, text: impl Fn(f64) -> String) {
    let ([width, _], [left, right, ..]) = (SIZE, MARGIN);
    for value in &y.ticks {
        let level = y.at(*value);
        let _ = writeln!(
            svg,
            "<path class=\"grid\" d=\"M{left} {level:.1}H{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" class=\"end\">{}</text>",
            width - right,
            left - 8.0,
            level + 4.5,
            text(*value)
        );
    }
}

/// A value of the horizontal axis.
fn tick(svg: &mut String, at: f64, text: &str) {
    let base = SIZE[1] - MARGIN[3];
    let _ = writeln!(
        svg,
        "<path class=\"grid\" d=\"M{at:.1} {base:.1}v5\"/><text x=\"{at:.1}\" y=\"{:.1}\" class=\"middle\">{text}</text>",
        base + 19.0
    );
}

/// What the axes are.
fn titles(svg: &mut String, x: &str, y: &str) {
    let [width, height] = SIZE;
    let [left, right, top, bottom] = MARGIN;
    let (middle, centre) = ((left + width - right) / 2.0, (top + height - bottom) / 2.0);
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" class=\"middle axis\">{}</text>\
         <text transform=\"translate(14 {centre:.1}) rotate(-90)\" class=\"middle axis\">{}</text>",
        height - 8.0,
        escape(x),
        escape(y)
    );
}

/// An explainer's number on its colour.
fn point(svg: &mut String, number: usize, [x, y]: [f64; 2]) {
    let _ = write!(
        svg,
        "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{RADIUS}\" fill=\"{}\"/><text x=\"{x:.1}\" y=\"{:.1}\" \
         class=\"number\">{}</text>",
        colour(number),
        y + 3.8,
        number + 1
    );
}

/// 10000 as 10k.
fn thousands(count: u64) -> String {
    match count {
        count if count >= 1_000_000 => format!("{}M", count / 1_000_000),
        count if count >= 10_000 => format!("{}k", count / 1000),
        count => count.to_string(),
    }
}
