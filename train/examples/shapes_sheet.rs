//! Draws a contact sheet of the procedural image set: scenes above, the same scenes with their mask outlined below.
//!
//! ```sh
//! cargo run --release -p explainer-train --example shapes_sheet -- /tmp/shapes.png
//! ```

use std::error::Error;
use std::time::Instant;

use explainer_train::data::shapes::{SIDE, Scene, ShapesSet, Split};
use image::{Rgb, RgbImage};

const COLUMNS: usize = 10;
const ROWS: usize = 4;
const ZOOM: usize = 2;
const GAP: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "shapes.png".into());
    let set = ShapesSet::new(Split::Train, 1000, 0);
    let cell = ZOOM * SIDE + GAP;
    let mut sheet = RgbImage::from_pixel((COLUMNS * cell + GAP) as u32, (2 * ROWS * cell + GAP) as u32, Rgb([255; 3]));
    for i in 0..COLUMNS * ROWS {
        let scene = set.scene(i);
        for (outlined, below) in [(false, 0), (true, 1)] {
            let (left, top) = (GAP + i % COLUMNS * cell, GAP + (2 * (i / COLUMNS) + below) * cell);
            draw(&mut sheet, &scene, left, top, outlined);
        }
    }
    sheet.save(&path)?;

    let start = Instant::now();
    let inside: usize = (0..set.len()).map(|i| set.scene(i).mask.iter().filter(|&&own| own).count()).sum();
    let seconds = start.elapsed().as_secs_f64();
    let share = inside as f64 / (set.len() * SIDE * SIDE) as f64;
    println!(
        "{path}: {} scenes a second on one core, the object fills {:.1}%",
        set.len() as f64 / seconds,
        100.0 * share
    );
    Ok(())
}

fn draw(sheet: &mut RgbImage, scene: &Scene, left: usize, top: usize, outlined: bool) {
    let own = |x: usize, y: usize| scene.mask[y * SIDE + x];
    for y in 0..SIDE {
        for x in 0..SIDE {
            let edge = own(x, y) && (!own(x - 1, y) || !own(x + 1, y) || !own(x, y - 1) || !own(x, y + 1));
            let at = 3 * (y * SIDE + x);
            let colour = [scene.image[at], scene.image[at + 1], scene.image[at + 2]];
            let pixel = Rgb(if outlined && edge { [255, 0, 255] } else { colour });
            for (dx, dy) in (0..ZOOM).flat_map(|dy| (0..ZOOM).map(move |dx| (dx, dy))) {
                sheet.put_pixel((left + ZOOM * x + dx) as u32, (top + ZOOM * y + dy) as u32, pixel);
            }
        }
    }
}
