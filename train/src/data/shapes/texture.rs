//! Textures: what backgrounds and objects are filled with.

use std::f32::consts::TAU;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::sdf::{Point, length};

/// Red, green and blue, each 0..1.
pub(super) type Rgb = [f32; 3];

/// The colours of one texture; the first one dominates.
pub(super) type Palette = [Rgb; 3];

/// A coloured pattern defined on the whole plane, in pixels.
#[derive(Debug, Clone)]
pub(super) struct Texture {
    pattern: Pattern,
    palette: Palette,
    /// Cosine and sine of the pattern's rotation.
    rotation: [f32; 2],
    /// How far noise displaces the pattern, in pixels.
    warp: f32,
    /// Seeds every lattice of this texture.
    salt: u32,
}

#[derive(Debug, Clone)]
enum Pattern {
    /// Fractal value noise.
    Clouds { period: f32 },
    /// Parallel bands; `hardness` from a sine wave (1) to sharp edges.
    Stripes { period: f32, hardness: f32 },
    /// A chessboard.
    Checks { period: f32 },
    /// A linear change of colour across `extent` pixels.
    Gradient { middle: Point, extent: f32 },
    /// Round spots, one at most in each cell of a grid.
    Spots { period: f32 },
    /// Cells around scattered points, each of one colour (a Voronoi diagram).
    Cells { period: f32 },
}

impl Texture {
    /// A random texture whose details are about `scale` times 1/8 of the picture; `middle` anchors gradients.
    pub(super) fn random(rng: &mut ChaCha8Rng, palette: Palette, middle: Point, scale: f32) -> Self {
        let period = scale * rng.random_range(8.0..24.0);
        let pattern = match rng.random_range(0..6) {
            0 => Pattern::Clouds { period: 1.5 * period },
            1 => Pattern::Stripes { period, hardness: rng.random_range(1.0..5.0) },
            2 => Pattern::Checks { period },
            3 => Pattern::Gradient { middle, extent: scale * rng.random_range(50.0..110.0) },
            4 => Pattern::Spots { period },
            _ => Pattern::Cells { period: 1.2 * period },
        };
        let (sin, cos) = rng.random_range(0.0..TAU).sin_cos();
        let warp = if rng.random_bool(0.5) { period * rng.random_range(0.1..0.5) } else { 0.0 };
        Self { pattern, palette, rotation: [cos, sin], warp, salt: rng.random() }
    }

    /// The colour at `p`.
    pub(super) fn at(&self, p: Point) -> Rgb {
        let p = self.place(p);
        let [first, second, third] = self.palette;
        match self.pattern {
            Pattern::Clouds { period } => {
                let cloud = noise(p, period, self.salt) + 0.5 * noise(p, period / 2.0, self.salt ^ 1);
                let wash = noise(p, 2.0 * period, self.salt ^ 2);
                mix(mix(first, second, step(cloud / 1.5)), third, 0.6 * step(wash))
            }
            Pattern::Stripes { period, hardness } => {
                let wave = (TAU * p[0] / period).sin();
                mix(first, second, 0.5 + 0.5 * (hardness * wave).clamp(-1.0, 1.0))
            }
            Pattern::Checks { period } => {
                let ([x, y], _) = cell_of(p, period);
                if (x + y) % 2 == 0 { first } else { second }
            }
            Pattern::Gradient { middle, extent } => {
                let middle = self.turn(middle);
                let across = ((p[0] - middle[0]) / extent + 0.5).clamp(0.0, 1.0);
                if across < 0.5 { mix(first, second, 2.0 * across) } else { mix(second, third, 2.0 * across - 1.0) }
            }
            Pattern::Spots { period } => {
                let (cell, within) = cell_of(p, period);
                let radius = 0.18 + 0.22 * lattice(cell, self.salt);
                let slack = 0.5 - radius;
                let x = 0.5 + slack * (2.0 * lattice(cell, self.salt ^ 1) - 1.0);
                let y = 0.5 + slack * (2.0 * lattice(cell, self.salt ^ 2) - 1.0);
                let depth = (radius - length([within[0] - x, within[1] - y])) * period;
                let spot = if lattice(cell, self.salt ^ 3) < 0.7 { second } else { third };
                mix(first, spot, (depth + 0.5).clamp(0.0, 1.0))
            }
            Pattern::Cells { period } => {
                let owner = nearest_site(p, period, self.salt);
                let base = if lattice(owner, self.salt ^ 4) < 0.6 { first } else { second };
                mix(base, third, 0.5 * lattice(owner, self.salt ^ 5))
            }
        }
    }

    fn place(&self, p: Point) -> Point {
        let q = self.turn(p);
        if self.warp == 0.0 {
            return q;
        }
        let period = 4.0 * self.warp + 6.0;
        [
            q[0] + self.warp * (2.0 * noise(q, period, self.salt ^ 6) - 1.0),
            q[1] + self.warp * (2.0 * noise(q, period, self.salt ^ 7) - 1.0),
        ]
    }

    fn turn(&self, p: Point) -> Point {
        let [cos, sin] = self.rotation;
        [cos * p[0] + sin * p[1], cos * p[1] - sin * p[0]]
    }
}

/// `from` at 0, `to` at 1.
pub(super) fn mix(from: Rgb, to: Rgb, share: f32) -> Rgb {
    std::array::from_fn(|c| from[c] + share * (to[c] - from[c]))
}

/// Smooth value noise, 0..1, whose lattice has `period` pixels.
pub(super) fn noise(p: Point, period: f32, salt: u32) -> f32 {
    let ([x, y], within) = cell_of(p, period);
    let [u, v] = within.map(|t| t * t * (3.0 - 2.0 * t));
    let top = lattice([x, y], salt) * (1.0 - u) + lattice([x + 1, y], salt) * u;
    let bottom = lattice([x, y + 1], salt) * (1.0 - u) + lattice([x + 1, y + 1], salt) * u;
    top + v * (bottom - top)
}

/// A random number 0..1 for each integer place: the finaliser of MurmurHash3 on the mixed coordinates.
pub(super) fn lattice([x, y]: [i32; 2], salt: u32) -> f32 {
    let mut h = salt ^ (x as u32).wrapping_mul(0x9E37_79B1) ^ (y as u32).wrapping_mul(0x85EB_CA77).rotate_left(13);
    h = (h ^ (h >> 16)).wrapping_mul(0x85EB_CA6B);
    h = (h ^ (h >> 13)).wrapping_mul(0xC2B2_AE35);
    h ^= h >> 16;
    (h >> 8) as f32 / (1 << 24) as f32
}

/// The grid cell that holds `p`, and the place inside it, 0..1.
fn cell_of(p: Point, period: f32) -> ([i32; 2], Point) {
    let q = [p[0] / period, p[1] / period];
    let cell = q.map(floor);
    (cell, [q[0] - cell[0] as f32, q[1] - cell[1] as f32])
}

/// `f32::floor` is a library call unless the build targets SSE4.1.
fn floor(t: f32) -> i32 {
    let toward_zero = t as i32;
    toward_zero - i32::from(t < toward_zero as f32)
}

/// The cell whose scattered point is the nearest one.
fn nearest_site(p: Point, period: f32, salt: u32) -> [i32; 2] {
    let ([x, y], within) = cell_of(p, period);
    let mut best = ([x, y], f32::INFINITY);
    for dy in -1..=1 {
        for dx in -1..=1 {
            let cell = [x + dx, y + dy];
            let site = [dx as f32 + lattice(cell, salt), dy as f32 + lattice(cell, salt ^ 1)];
            let distance = (site[0] - within[0]).powi(2) + (site[1] - within[1]).powi(2);
            if distance < best.1 {
                best = (cell, distance);
            }
        }
    }
    best.0
}

/// Steepens the middle of 0..1, where noise has most of its values.
fn step(t: f32) -> f32 {
    let t = (2.0 * t - 0.5).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
