//! Where an item of a scene is, how large it is and how it is rotated.

use std::f32::consts::TAU;
use std::ops::Range;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SIDE;
use super::sdf::Point;

/// The position, size and rotation of an item: a similarity from its own frame to the image.
#[derive(Debug, Clone, Copy)]
pub(super) struct Placement {
    pub(super) centre: Point,
    /// Pixels per unit of the frame: the radius of the circle around the item.
    pub(super) radius: f32,
    /// Cosine and sine of the rotation.
    pub(super) rotation: [f32; 2],
}

impl Placement {
    /// A random rotation and a random centre at least `margin` pixels from every border.
    pub(super) fn random(rng: &mut ChaCha8Rng, radius: f32, margin: f32) -> Self {
        let free = margin..SIDE as f32 - margin;
        let centre = [rng.random_range(free.clone()), rng.random_range(free)];
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        Self { centre, radius, rotation: [cos, sin] }
    }

    /// The signed distance in pixels from `p` to an outline that is given in the item's own frame.
    pub(super) fn distance(&self, p: Point, outline: impl Fn(Point) -> f32) -> f32 {
        let offset = [(p[0] - self.centre[0]) / self.radius, (p[1] - self.centre[1]) / self.radius];
        let [cos, sin] = self.rotation;
        self.radius * outline([cos * offset[0] + sin * offset[1], cos * offset[1] - sin * offset[0]])
    }

    /// The pixel columns and rows that the item and its antialiased edge can reach.
    pub(super) fn window(&self) -> [Range<usize>; 2] {
        self.centre.map(|c| {
            let [low, high] =
                [c - self.radius - 1.0, c + self.radius + 2.0].map(|t| t.clamp(0.0, SIDE as f32) as usize);
            low..high
        })
    }
}
