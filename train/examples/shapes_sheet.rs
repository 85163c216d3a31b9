//! Draws a contact sheet of the procedural image set: scenes, and the same scenes with their mask outlined.
//!
//! ```sh
//! cargo run --release -p explainer-train --example shapes_sheet -- shapes.png
//! ```

#![allow(clippy::print_stdout)] // an example talks to the terminal

use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

use explainer_train::data::shapes::{SIDE, Scene, ShapesSet, Split};
use explainer_train::report::sheet::Sheet;
use image::{Rgb, RgbImage};

const ROWS: usize = 4;

fn main() -> Result<(), Box<dyn Error>> {
    let path = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "shapes.png".into()));
    let set = ShapesSet::new(Split::Train, 1000, 0);
    let start = Instant::now();
    let scenes: Vec<Scene> = (0..set.len()).map(|i| set.scene(i)).collect();
    let rate = scenes.len() as f64 / start.elapsed().as_secs_f64();
    let inside = scenes.iter().flat_map(|scene| &scene.mask).filter(|&&own| own).count();
    let share = inside as f64 / (scenes.len() * SIDE * SIDE) as f64;

    let mut sheet = Sheet::new(ShapesSet::CLASSES);
    for row in scenes.chunks(ShapesSet::CLASSES.len()).take(ROWS) {
        sheet.row("", row.iter().map(|scene| draw(scene, false)));
        sheet.row("", row.iter().map(|scene| draw(scene, true)));
    }
    sheet.write(&path)?;
    println!("{}: {rate:.0} scenes a second, the object fills {:.1}% on average", path.display(), 100.0 * share);
    Ok(())
}

/// The scene, with the pixels along the rim of the mask in magenta if `outlined`.
fn draw(scene: &Scene, outlined: bool) -> RgbImage {
    let own = |x: usize, y: usize| scene.mask[y * SIDE + x];
    RgbImage::from_fn(SIDE as u32, SIDE as u32, |x, y| {
        let (x, y) = (x as usize, y as usize);
        // Objects keep a pixel away from the border, so an own pixel has four neighbours.
        let rim = own(x, y) && !(own(x - 1, y) && own(x + 1, y) && own(x, y - 1) && own(x, y + 1));
        let at = 3 * (y * SIDE + x);
        if outlined && rim { Rgb([255, 0, 255]) } else { Rgb([0, 1, 2].map(|c| scene.image[at + c])) }
    })
}
