//! Distractors: small items that belong to no class.

use std::f32::consts::TAU;

use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;

use super::placement::Placement;
use super::sdf::{Point, Shape, length, segment};
use super::texture::{Rgb, noise};

/// One distractor, of one colour.
#[derive(Debug, Clone)]
pub(super) struct Distractor {
    pub(super) outline: Outline,
    pub(super) placement: Placement,
    pub(super) colour: Rgb,
}

/// The form of a distractor, in a frame like a shape's: inside the unit circle.
#[derive(Debug, Clone)]
pub(super) enum Outline {
    /// A straight line of this half thickness.
    Stroke(f32),
    /// A bent line through three points.
    Bend([Point; 3]),
    /// One half of a shape, cut through its middle.
    Half(Shape),
    /// An irregular blob.
    Blob(u32),
}

impl Outline {
    /// A random small distractor.
    pub(super) fn random(rng: &mut ChaCha8Rng) -> Self {
        // The others are left out: half of them is a triangle, or looks too much like the whole.
        const CUT: [Shape; 6] = [Shape::Disc, Shape::Ring, Shape::Square, Shape::Star, Shape::Cross, Shape::Heart];
        match rng.random_range(0..5) {
            0 => Self::Stroke(rng.random_range(0.12..0.3)),
            1 => {
                let start: f32 = rng.random_range(0.0..TAU);
                let end = start + rng.random_range(0.3..0.7) * TAU;
                let [start, end] = [start, end].map(|turn| [0.8 * turn.cos(), 0.8 * turn.sin()]);
                Self::Bend([start, [0.0, 0.0], end])
            }
            2 | 3 => Self::Half(*CUT.choose(rng).unwrap_or(&Shape::Disc)),
            _ => Self::Blob(rng.random()),
        }
    }

    /// The signed distance from `p` to the outline (a lower bound of it for blobs).
    pub(super) fn distance(&self, p: Point) -> f32 {
        match *self {
            Self::Stroke(half_thickness) => {
                segment(p, [half_thickness - 1.0, 0.0], [1.0 - half_thickness, 0.0]) - half_thickness
            }
            Self::Bend([a, b, c]) => segment(p, a, b).min(segment(p, b, c)) - 0.18,
            Self::Half(shape) => shape.distance(p).max(p[0]),
            Self::Blob(salt) => length(p) - 0.4 - 0.6 * noise(p, 0.7, salt),
        }
    }
}
