//! One scene: its content and its rendering.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::SIDE;
use super::clutter::{Distractor, Outline};
use super::placement::Placement;
use super::sdf::{Point, Shape};
use super::texture::{Palette, Rgb, Texture, lattice, mix};

/// A rendered scene with the exact mask of its object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// `SIDE * SIDE` pixels, row by row, each red, green, blue.
    pub image: Vec<u8>,
    /// `SIDE * SIDE` flags, row by row: true where at least half of the pixel belongs to the object.
    pub mask: Vec<bool>,
    /// Index into [`ShapesSet::CLASSES`](super::ShapesSet::CLASSES).
    pub class: usize,
    /// The smallest box around the mask.
    pub bbox: BoundingBox,
}

/// A bounding box in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundingBox {
    /// First column inside.
    pub left: usize,
    /// First row inside.
    pub top: usize,
    /// Columns inside.
    pub width: usize,
    /// Rows inside.
    pub height: usize,
}

/// The object of a scene.
#[derive(Debug, Clone)]
struct Object {
    shape: Shape,
    placement: Placement,
    texture: Texture,
    /// Colour and width in pixels of a rim along the inner side of the outline.
    rim: Option<(Rgb, f32)>,
}

/// The content of a scene before it is rendered.
#[derive(Debug, Clone)]
pub(super) struct Content {
    background: Texture,
    distractors: Vec<Distractor>,
    object: Object,
    /// Change of brightness from the centre to the right border and to the lower border.
    shading: [f32; 2],
    /// Amplitude of the noise of each pixel.
    grain: f32,
    salt: u32,
}

impl Content {
    /// A random scene around an object of class `shape`.
    pub(super) fn random(rng: &mut ChaCha8Rng, shape: Shape) -> Self {
        let side = SIDE as f32;
        let ground = muted_palette(rng);
        let background = Texture::random(rng, ground, [side / 2.0; 2], 1.0);

        let radius = side * rng.random_range(0.29..0.57) / 2.0;
        let placement = Placement::random(rng, radius, radius + 1.0);
        let paint = contrasting_palette(rng, &ground);
        let texture = Texture::random(rng, paint, placement.centre, 0.4);
        let rim = rng.random_bool(0.4).then(|| {
            let shade = if rng.random_bool(0.5) { [0.05; 3] } else { [0.97; 3] };
            (mix(paint[0], shade, 0.75), rng.random_range(1.0..2.0))
        });
        let object = Object { shape, placement, texture, rim };

        let lines = (0..rng.random_range(0..=2)).map(|_| long_line(rng, &ground)).collect::<Vec<_>>();
        let wanted = rng.random_range(3..=9);
        let small = (0..4 * wanted).filter_map(|_| small_distractor(rng, &object, paint[0])).take(wanted);
        let distractors = lines.into_iter().chain(small.collect::<Vec<_>>()).collect();

        let shading = [rng.random_range(-0.25..0.25), rng.random_range(-0.25..0.25)];
        let grain = rng.random_range(0.01..0.06);
        Self { background, distractors, object, shading, grain, salt: rng.random() }
    }

    /// Renders the scene.
    pub(super) fn render(&self) -> Scene {
        let mut canvas: Vec<Rgb> = (0..SIDE * SIDE).map(|i| self.background.at(centre_of(i))).collect();
        for distractor in &self.distractors {
            paint(&mut canvas, &distractor.placement, |p| distractor.outline.distance(p), |_, _| distractor.colour);
        }
        let Object { shape, placement, texture, rim } = &self.object;
        let inside = paint(
            &mut canvas,
            placement,
            |p| shape.distance(p),
            |p, distance| {
                let fill = texture.at(p);
                rim.map_or(fill, |(colour, width)| mix(fill, colour, (distance + width + 0.5).clamp(0.0, 1.0)))
            },
        );
        let mut mask = vec![false; SIDE * SIDE];
        inside.iter().for_each(|&i| mask[i] = true);
        Scene { image: self.develop(&canvas), mask, class: shape.index(), bbox: bounding_box(&inside) }
    }

    /// Applies shading and noise, then rounds to eight bits a channel.
    fn develop(&self, canvas: &[Rgb]) -> Vec<u8> {
        let mut image = Vec::with_capacity(3 * canvas.len());
        for (i, colour) in canvas.iter().enumerate() {
            let [x, y] = centre_of(i).map(|t| t / (SIDE as f32 / 2.0) - 1.0);
            let light = 1.0 + self.shading[0] * x + self.shading[1] * y;
            let grain = self.grain * (2.0 * lattice([i as i32, 0], self.salt) - 1.0);
            image.extend(colour.map(|c| (255.0 * (light * c + grain) + 0.5) as u8)); // the cast saturates
        }
        image
    }
}

/// Draws one item with edges antialiased over a pixel. Returns the pixels that it covers by half or more.
///
/// `colour` gets the position in the image and the signed distance to the outline, both in pixels.
fn paint(
    canvas: &mut [Rgb],
    placement: &Placement,
    outline: impl Fn(Point) -> f32,
    colour: impl Fn(Point, f32) -> Rgb,
) -> Vec<usize> {
    let mut covered = Vec::new();
    let [columns, rows] = placement.window();
    for y in rows {
        for x in columns.clone() {
            let i = y * SIDE + x;
            let p = centre_of(i);
            let distance = placement.distance(p, &outline);
            let coverage = (0.5 - distance).clamp(0.0, 1.0);
            if coverage > 0.0 {
                canvas[i] = mix(canvas[i], colour(p, distance), coverage);
            }
            if coverage >= 0.5 {
                covered.push(i);
            }
        }
    }
    covered
}

/// The centre of pixel `i` of the image.
fn centre_of(i: usize) -> Point {
    [(i % SIDE) as f32 + 0.5, (i / SIDE) as f32 + 0.5]
}

fn bounding_box(inside: &[usize]) -> BoundingBox {
    let (mut left, mut top, mut right, mut bottom) = (SIDE, SIDE, 0, 0);
    for &i in inside {
        left = left.min(i % SIDE);
        right = right.max(i % SIDE + 1);
        top = top.min(i / SIDE);
        bottom = bottom.max(i / SIDE + 1);
    }
    BoundingBox { left, top, width: right.saturating_sub(left), height: bottom.saturating_sub(top) }
}

/// A thin line across much of the image, in front of the background only and close to its colours.
fn long_line(rng: &mut ChaCha8Rng, ground: &Palette) -> Distractor {
    let radius = SIDE as f32 * rng.random_range(0.3..0.8);
    let placement = Placement::random(rng, radius, 0.0);
    let half_thickness = rng.random_range(0.5..1.3) / radius;
    let colour = mix(ground[0], colour(rng), 0.4);
    Distractor { outline: Outline::Stroke(half_thickness), placement, colour }
}

/// A small distractor that does not touch the object's surroundings, or `None` if this attempt did.
///
/// Some distractors have the object's colour, so that colour alone does not identify the object.
fn small_distractor(rng: &mut ChaCha8Rng, object: &Object, paint: Rgb) -> Option<Distractor> {
    let radius = rng.random_range(3.5..10.0);
    let placement = Placement::random(rng, radius, 0.0);
    let outline = Outline::random(rng);
    let colour = if rng.random_bool(0.35) { paint } else { colour(rng) };
    let [dx, dy] = [0, 1].map(|axis| placement.centre[axis] - object.placement.centre[axis]);
    let clear = dx.hypot(dy) > object.placement.radius + radius + 1.5;
    clear.then_some(Distractor { outline, placement, colour })
}

/// Three related colours for a background.
fn muted_palette(rng: &mut ChaCha8Rng) -> Palette {
    let base = colour(rng);
    let mut relative = || mix(base, colour(rng), rng.random_range(0.15..0.5));
    [base, relative(), relative()]
}

/// Three related colours for an object, visibly different from all colours of `ground`.
fn contrasting_palette(rng: &mut ChaCha8Rng, ground: &Palette) -> Palette {
    const ENOUGH: f32 = 0.38;
    let contrast = |c: Rgb| ground.iter().map(|&g| distance(c, g)).fold(f32::INFINITY, f32::min);
    let mut base = colour(rng);
    for _ in 0..30 {
        if contrast(base) >= ENOUGH {
            break;
        }
        let other = colour(rng);
        if contrast(other) > contrast(base) {
            base = other;
        }
    }
    let mut relative = || {
        let other = mix(base, colour(rng), rng.random_range(0.1..0.4));
        if contrast(other) >= 0.75 * ENOUGH { other } else { base }
    };
    [base, relative(), relative()]
}

/// A random colour of any saturation.
fn colour(rng: &mut ChaCha8Rng) -> Rgb {
    let hue = rng.random_range(0.0..6.0_f32);
    let saturation = rng.random_range(0.05..0.9_f32);
    let value = rng.random_range(0.1..1.0_f32);
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue) % 6.0;
        value * (1.0 - saturation * k.min(4.0 - k).clamp(0.0, 1.0))
    })
}

/// Perceived difference of two colours, 0..1: channels weighted by their luma coefficients, and luma counted twice.
fn distance(a: Rgb, b: Rgb) -> f32 {
    const WEIGHTS: Rgb = [0.299, 0.587, 0.114];
    let change: Rgb = std::array::from_fn(|c| a[c] - b[c]);
    let squares: f32 = change.iter().zip(WEIGHTS).map(|(d, w)| w * d * d).sum();
    let luma: f32 = change.iter().zip(WEIGHTS).map(|(d, w)| w * d).sum();
    (0.5 * (squares + luma * luma)).sqrt()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn contents() -> impl Iterator<Item = (Content, ChaCha8Rng)> {
        (0..40).map(|i| {
            let mut rng = ChaCha8Rng::seed_from_u64(i);
            (Content::random(&mut rng, Shape::ALL[i as usize % 10]), rng)
        })
    }

    /// The mask grown by one pixel in all eight directions.
    fn grown(mask: &[bool]) -> Vec<bool> {
        let near = |at: usize| at.saturating_sub(1)..(at + 2).min(SIDE);
        (0..SIDE * SIDE).map(|i| near(i / SIDE).any(|y| near(i % SIDE).any(|x| mask[y * SIDE + x]))).collect()
    }

    fn changed(a: &Scene, b: &Scene) -> Vec<bool> {
        a.image.chunks(3).zip(b.image.chunks(3)).map(|(a, b)| a != b).collect()
    }

    #[test]
    fn another_colour_changes_the_mask_and_nothing_beyond_its_soft_edge() {
        for (content, mut rng) in contents() {
            let before = content.render();
            let mut repainted = content.clone();
            repainted.object.rim = None;
            let opposite = content.object.texture.at(content.object.placement.centre).map(|c| (c + 0.5) % 1.0);
            repainted.object.texture = Texture::random(&mut rng, [opposite; 3], [0.0; 2], 1.0);
            let after = repainted.render();
            assert_eq!(before.mask, after.mask);
            let changed = changed(&before, &after);
            let reach = grown(&before.mask);
            assert!((0..SIDE * SIDE).all(|i| reach[i] || !changed[i]), "{:?}", content.object);
            let inside = (0..SIDE * SIDE).filter(|&i| before.mask[i]);
            let (hit, all) = inside.fold((0, 0), |(hit, all), i| (hit + i32::from(changed[i]), all + 1));
            assert!(hit * 100 > all * 95, "{hit} of {all} pixels of the mask changed: {:?}", content.object);
        }
    }

    #[test]
    fn another_shape_changes_nothing_beyond_both_soft_edges() {
        for (content, _) in contents() {
            let mut reshaped = content.clone();
            reshaped.object.shape = Shape::ALL[(content.object.shape.index() + 1) % 10];
            let (before, after) = (content.render(), reshaped.render());
            assert_ne!(before.class, after.class);
            let reach: Vec<bool> = grown(&before.mask).iter().zip(grown(&after.mask)).map(|(a, b)| *a || b).collect();
            let changed = changed(&before, &after);
            assert!(changed.contains(&true));
            assert!((0..SIDE * SIDE).all(|i| reach[i] || !changed[i]), "{:?}", content.object);
        }
    }

    #[test]
    fn pieces_keep_away_from_the_object() {
        for (content, _) in contents() {
            let Object { placement, .. } = content.object;
            for distractor in content.distractors.iter().filter(|distractor| distractor.placement.radius <= 10.0) {
                let [dx, dy] = [0, 1].map(|axis| distractor.placement.centre[axis] - placement.centre[axis]);
                assert!(dx.hypot(dy) > distractor.placement.radius + placement.radius);
            }
        }
    }

    #[test]
    fn colours_cover_their_range_and_stay_inside() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let colours: Vec<Rgb> = (0..1000).map(|_| colour(&mut rng)).collect();
        assert!(colours.iter().flatten().all(|c| (0.0..=1.0).contains(c)));
        assert!((0..3).all(|c| colours.iter().any(|colour| colour[c] > 0.9)));
        assert!((0..3).all(|c| colours.iter().any(|colour| colour[c] < 0.1)));
    }

    #[test]
    fn black_and_white_are_the_most_different_colours() {
        assert!((distance([0.0; 3], [1.0; 3]) - 1.0).abs() < 1e-6);
        assert!(distance([1.0, 0.0, 0.0], [0.0, 0.0, 1.0]) < 0.7);
    }
}
