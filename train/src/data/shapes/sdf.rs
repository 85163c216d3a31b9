//! The ten shapes as signed distance functions.
//!
//! A shape lives in its own frame: origin at its middle, y pointing down, inside the unit circle. Distances are in the
//! same unit, negative inside. They are exact on the outside; on the inside a union may report less than the true depth.

/// A point or vector of the plane.
pub(super) type Point = [f32; 2];

/// The object classes, told apart by outline alone: each keeps its identity under any rotation and any colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A filled circle.
    Disc,
    /// A circle with a hole of half its radius.
    Ring,
    /// A square.
    Square,
    /// An equilateral triangle.
    Triangle,
    /// A five-pointed star.
    Star,
    /// A plus sign with four equal arms.
    Cross,
    /// A waxing moon.
    Crescent,
    /// A heart.
    Heart,
    /// An arrow with head and shaft.
    Arrow,
    /// Two triangles meeting at a narrow waist.
    Hourglass,
}

impl Shape {
    /// Every shape, in class order: a shape's position is its class index.
    pub const ALL: [Self; 10] = [
        Self::Disc,
        Self::Ring,
        Self::Square,
        Self::Triangle,
        Self::Star,
        Self::Cross,
        Self::Crescent,
        Self::Heart,
        Self::Arrow,
        Self::Hourglass,
    ];

    /// The class index of the shape.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Signed distance from `p` to the outline, in the shape's own frame.
    pub(super) fn distance(self, p: Point) -> f32 {
        match self {
            Self::Disc => length(p) - 1.0,
            Self::Ring => (length(p) - 0.75).abs() - 0.25,
            Self::Square => polygon(p, &SQUARE) - ROUNDING,
            Self::Triangle => polygon(p, &TRIANGLE) - ROUNDING,
            Self::Star => polygon(p, &STAR) - ROUNDING,
            Self::Cross => polygon(p, &CROSS) - ROUNDING,
            Self::Crescent => crescent(p) - ROUNDING,
            Self::Heart => heart(p),
            Self::Arrow => polygon(p, &ARROW) - ROUNDING,
            Self::Hourglass => polygon(p, &HOURGLASS) - ROUNDING,
        }
    }
}

/// Polygons are grown by this much, which rounds their corners; their vertices keep as far away from the unit circle.
const ROUNDING: f32 = 0.05;

const SQUARE: [Point; 4] = [[-0.67, -0.67], [0.67, -0.67], [0.67, 0.67], [-0.67, 0.67]];
const TRIANGLE: [Point; 3] = [[0.0, -0.95], [0.823, 0.475], [-0.823, 0.475]];
const STAR: [Point; 10] = [
    [0.0, -0.95],
    [0.229, -0.316],
    [0.904, -0.294],
    [0.371, 0.121],
    [0.558, 0.769],
    [0.0, 0.39],
    [-0.558, 0.769],
    [-0.371, 0.121],
    [-0.904, -0.294],
    [-0.229, -0.316],
];
const CROSS: [Point; 12] = [
    [-0.24, -0.9],
    [0.24, -0.9],
    [0.24, -0.24],
    [0.9, -0.24],
    [0.9, 0.24],
    [0.24, 0.24],
    [0.24, 0.9],
    [-0.24, 0.9],
    [-0.24, 0.24],
    [-0.9, 0.24],
    [-0.9, -0.24],
    [-0.24, -0.24],
];
const ARROW: [Point; 7] =
    [[0.0, -0.95], [0.72, -0.1], [0.22, -0.1], [0.22, 0.9], [-0.22, 0.9], [-0.22, -0.1], [-0.72, -0.1]];
const HOURGLASS: [Point; 6] = [[-0.58, -0.75], [0.58, -0.75], [0.08, 0.0], [0.58, 0.75], [-0.58, 0.75], [-0.08, 0.0]];

/// A disc less another disc, to its right.
fn crescent(p: Point) -> f32 {
    const OUTER: f32 = 0.95;
    const INNER: f32 = 0.9;
    const SHIFT: f32 = 0.45;
    let tip_x = (OUTER * OUTER - INNER * INNER + SHIFT * SHIFT) / (2.0 * SHIFT);
    let tip_y = (OUTER * OUTER - tip_x * tip_x).sqrt();
    let (x, y) = (p[0], p[1].abs());
    // Past the ends of both arcs the tip itself is the nearest point.
    let past_outer = x * tip_y > y * tip_x;
    let past_inner = (x - SHIFT) * tip_y > y * (tip_x - SHIFT);
    if past_outer && past_inner {
        return length([x - tip_x, y - tip_y]);
    }
    (length(p) - OUTER).max(INNER - length([x - SHIFT, y]))
}

/// Two half discs on the upper sides of a square that stands on its tip.
fn heart(p: Point) -> f32 {
    const SCALE: f32 = 0.68; // the frame of the construction: square of diagonal 1, tip at the origin, y up
    const DIAMOND: [Point; 4] = [[0.0, 0.0], [0.5, 0.5], [0.0, 1.0], [-0.5, 0.5]];
    let q = [p[0].abs() * SCALE, 0.55 - p[1] * SCALE];
    let lobe = length([q[0] - 0.25, q[1] - 0.75]) - std::f32::consts::SQRT_2 / 4.0;
    polygon(q, &DIAMOND).min(lobe) / SCALE
}

/// Distance to a simple polygon: the nearest edge, the sign by the even-odd rule.
pub(super) fn polygon(p: Point, vertices: &[Point]) -> f32 {
    let mut nearest = f32::INFINITY;
    let mut inside = false;
    for (i, &a) in vertices.iter().enumerate() {
        let b = vertices[(i + 1) % vertices.len()];
        nearest = nearest.min(segment_squared(p, a, b));
        let crosses = (a[1] > p[1]) != (b[1] > p[1]);
        if crosses && p[0] < a[0] + (b[0] - a[0]) * (p[1] - a[1]) / (b[1] - a[1]) {
            inside = !inside;
        }
    }
    if inside { -nearest.sqrt() } else { nearest.sqrt() }
}

/// Distance to the straight line from `a` to `b`, never negative.
pub(super) fn segment(p: Point, a: Point, b: Point) -> f32 {
    segment_squared(p, a, b).sqrt()
}

/// Distance from the origin.
pub(super) fn length(p: Point) -> f32 {
    (p[0] * p[0] + p[1] * p[1]).sqrt() // unlike `hypot` no library call; nothing here overflows
}

fn segment_squared(p: Point, a: Point, b: Point) -> f32 {
    let edge = [b[0] - a[0], b[1] - a[1]];
    let offset = [p[0] - a[0], p[1] - a[1]];
    let along = (offset[0] * edge[0] + offset[1] * edge[1]) / (edge[0] * edge[0] + edge[1] * edge[1]);
    let along = along.clamp(0.0, 1.0);
    let rest = [offset[0] - along * edge[0], offset[1] - along * edge[1]];
    rest[0] * rest[0] + rest[1] * rest[1]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grid over the square around the unit circle and a margin.
    fn grid() -> impl Iterator<Item = Point> {
        (-60..=60).flat_map(|y| (-60..=60).map(move |x| [x as f32 / 50.0, y as f32 / 50.0]))
    }

    #[test]
    fn every_shape_fills_a_fair_part_of_the_unit_circle_and_stays_inside() {
        for shape in Shape::ALL {
            let inside: Vec<Point> = grid().filter(|&p| shape.distance(p) < 0.0).collect();
            let reach = inside.iter().map(|&p| length(p)).fold(0.0, f32::max);
            let share = inside.len() as f32 / (std::f32::consts::PI * 2500.0);
            assert!(reach <= 1.01 && reach > 0.93, "{shape:?} reaches {reach}");
            assert!(share > 0.25, "{shape:?} fills {share}");
        }
    }

    #[test]
    fn distance_never_changes_faster_than_the_place() {
        let step = 0.02_f32;
        for shape in Shape::ALL {
            for p in grid() {
                let change = (shape.distance([p[0] + step, p[1]]) - shape.distance(p)).abs();
                assert!(change <= step * 1.001 + 1e-5, "{shape:?} at {p:?}: {change}");
            }
        }
    }

    #[test]
    fn no_two_shapes_share_their_outline_under_any_rotation() {
        for (i, one) in Shape::ALL.into_iter().enumerate() {
            for other in Shape::ALL.into_iter().skip(i + 1) {
                let best = (0..36)
                    .map(|turn| overlap(one, other, turn as f32 * std::f32::consts::TAU / 36.0))
                    .fold(0.0, f32::max);
                assert!(best < 0.8, "{one:?} and {other:?} overlap by {best}");
            }
        }
    }

    /// Intersection over union with the second shape turned by `angle`.
    fn overlap(one: Shape, other: Shape, angle: f32) -> f32 {
        let (sin, cos) = angle.sin_cos();
        let (mut both, mut either) = (0, 0);
        for p in grid() {
            let a = one.distance(p) < 0.0;
            let b = other.distance([cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]]) < 0.0;
            both += i32::from(a && b);
            either += i32::from(a || b);
        }
        both as f32 / either as f32
    }
}
