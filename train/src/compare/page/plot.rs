//! The plots of the page, as SVG.

use std::fmt::Write;

use maud::{Markup, html};

use super::parts::{colour, dashes};
use super::scale::{Labels, Scale};
use super::{ExplainerReport, MetricSpec, axis_digits, tooltip};

/// Width and height of a plot, in its own units.
const SIZE: [f64; 2] = [520.0, 340.0];
/// Margins: left, right, top, bottom.
const MARGIN: [f64; 4] = [58.0, 14.0, 14.0, 48.0];
/// Radius of a point with its number.
const RADIUS: f64 = 9.0;
/// Distance from the left edge to explanations of no pass.
const NO_PASS: f64 = 24.0;
/// Distance from the left edge to explanations of one pass.
const ONE_PASS: f64 = 62.0;

/// A metric's means against the passes of an explanation, on a logarithmic axis with a separate place for no pass.
pub(super) fn quality_and_cost(spec: &MetricSpec, place: usize, explainers: &[ExplainerReport]) -> Markup {
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
    let (first, last) = (left + ONE_PASS, width - right - 2.0 * RADIUS);
    let x = |passes: f64| match passes {
        passes if passes <= 0.0 => left + NO_PASS,
        passes => first + passes.log10().max(0.0) / decades * (last - first),
    };
    let ticks =
        (0..=decades as i32).map(|decade| (x(10_f64.powi(decade)), thousands(10_u64.pow(decade.max(0) as u32))));
    let ticks = [(x(0.0), "0".to_owned())].into_iter().chain(ticks);
    let middle = left + (NO_PASS + ONE_PASS) / 2.0;
    let mut labels = Labels::default();
    let points = figures.into_iter().map(|(number, one, mean, ends)| {
        // Points that would overlap move sideways, but never so far that they seem to cost something else.
        let room = if one.cost.passes() > 0.0 { 60.0 } else { NO_PASS };
        let at = labels.beside([x(one.cost.passes()), y.at(mean)], 2.0 * RADIUS + 1.0, room);
        html! {
            g {
                title { (tooltip(spec, one, place)) }
                @if let Some([low, high]) = ends {
                    @let line = format!("M{:.1} {:.1}V{:.1}", at[0], y.at(low), y.at(high));
                    path stroke=(colour(number)) stroke-width="2" d=(line) {}
                }
                (point(number, at))
            }
        }
    });
    let points: Vec<Markup> = points.collect();
    svg(
        &format!("{} against passes", spec.name),
        &html! {
            (grid(&y, |value| format!("{value:.*}", axis_digits(spec, y.step))))
            @for (at, text) in ticks { (tick(at, &text)) }
            path.break d=(format!("M{middle:.1} {top:.1}v{:.1}", height - bottom - top)) {}
            (titles("passes an explanation", &format!("{}, {}", spec.name, spec.unit)))
            @for point in &points { (point) }
        },
    )
}

/// Mean scores over the share of the pixels. A curve is an explainer's place, its name and two or more values.
pub(super) fn curves(axis: &str, curves: &[(usize, &str, &[f64])]) -> Markup {
    let [width, height] = SIZE;
    let [left, right, top, bottom] = MARGIN;
    let y =
        Scale::new(curves.iter().flat_map(|(.., curve)| curve.iter().copied()).chain([0.0]), [height - bottom, top]);
    let x = |share: f64| left + share * (width - right - left);
    let point_of = |curve: &[f64], step: usize| {
        let share = step as f64 / (curve.len() - 1).max(1) as f64;
        [x(share), y.at(curve.get(step).copied().unwrap_or(0.0))]
    };
    let line = |curve: &[f64]| {
        (0..curve.len()).fold(String::new(), |mut path, step| {
            let [x, y] = point_of(curve, step);
            let _ = write!(path, "{}{x:.1} {y:.1}", if step == 0 { 'M' } else { 'L' });
            path
        })
    };
    // Curves begin and end together: each has its number where it is farthest from the others.
    let mut labels = Labels::default();
    let mut label_of = |number: usize, curve: &[f64]| {
        let others = curves.iter().filter(|(other, ..)| *other != number);
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
        at
    };
    let points: Vec<Markup> =
        curves.iter().map(|(number, _, curve)| point(*number, label_of(*number, curve))).collect();
    let digits = (-y.step.log10()).ceil().max(0.0) as usize;
    svg(
        "mean curves",
        &html! {
            (grid(&y, |value| format!("{value:.digits$}")))
            @for percent in [0_u32, 20, 40, 60, 80, 100] {
                (tick(x(f64::from(percent) / 100.0), &percent.to_string()))
            }
            (titles(axis, "mean score"))
            @for (number, name, curve) in curves {
                path.curve stroke=(colour(*number)) stroke-dasharray=(dashes(*number)) d=(line(curve)) {
                    title { (name) }
                }
            }
            @for point in &points { (point) }
        },
    )
}

fn svg(label: &str, content: &Markup) -> Markup {
    let [width, height] = SIZE;
    html! { svg viewBox={ "0 0 " (width) " " (height) } role="img" aria-label=(label) { (content) } }
}

/// The horizontal grid lines with their values.
fn grid(y: &Scale, text: impl Fn(f64) -> String) -> Markup {
    let ([width, _], [left, right, ..]) = (SIZE, MARGIN);
    html! {
        @for value in &y.ticks {
            @let level = y.at(*value);
            path.grid d=(format!("M{left} {level:.1}H{:.1}", width - right)) {}
            text.end x=(decimal(left - 8.0)) y=(decimal(level + 4.5)) { (text(*value)) }
        }
    }
}

/// A tick of the horizontal axis with its value.
fn tick(at: f64, text: &str) -> Markup {
    let base = SIZE[1] - MARGIN[3];
    html! {
        path.grid d=(format!("M{at:.1} {base:.1}v5")) {}
        text.middle x=(decimal(at)) y=(decimal(base + 19.0)) { (text) }
    }
}

/// The titles of the axes.
fn titles(x: &str, y: &str) -> Markup {
    let [width, height] = SIZE;
    let [left, right, top, bottom] = MARGIN;
    let (middle, centre) = ((left + width - right) / 2.0, (top + height - bottom) / 2.0);
    html! {
        text.middle.axis x=(decimal(middle)) y=(decimal(height - 8.0)) { (x) }
        text.middle.axis transform=(format!("translate(14 {centre:.1}) rotate(-90)")) { (y) }
    }
}

/// An explainer's number on a disc of its colour.
fn point(number: usize, [x, y]: [f64; 2]) -> Markup {
    html! {
        circle cx=(decimal(x)) cy=(decimal(y)) r=(RADIUS) fill=(colour(number)) {}
        text.number x=(decimal(x)) y=(decimal(y + 3.8)) { (number + 1) }
    }
}

fn decimal(value: f64) -> String {
    format!("{value:.1}")
}

/// A number with its thousands or millions abbreviated, as 10k for 10000.
fn thousands(count: u64) -> String {
    match count {
        count if count >= 1_000_000 => format!("{}M", count / 1_000_000),
        count if count >= 10_000 => format!("{}k", count / 1000),
        count => count.to_string(),
    }
}
