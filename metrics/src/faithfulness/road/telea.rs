//! Telea's in-painting ("An image inpainting technique based on the fast marching method", 2004), radius 3.
//!
//! Removed pixels are filled in order of their distance T from the edge of the removed region, the nearest first. A pixel p
//! becomes the weighted mean, over the known or filled pixels q within the radius, of I(q) + grad I(q) (p - q). The
//! weight is the product of three terms: |(p - q) . grad T(p)| / |p - q| (direction), 1 / |p - q|^2 (distance) and
//! 1 / (1 + |T(p) - T(q)|) (level). Outside the removed region T is negative. Gradients are central differences, one-sided
//! ones where a neighbour is missing, or 0. Values are limited to 0..1, as those of 8-bit images are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Radius of the neighbourhood in pixels.
const RADIUS: isize = 3;
/// Smallest value of the direction term.
const SMALLEST_DIRECTION: f32 = 1e-6;

/// Fills the removed pixels of an image `[3,H,W]` in 0..=1. `removed` has one entry for each pixel. An image without a known
/// pixel stays as it is.
pub(super) fn inpaint(image: &[f32], removed: &[bool], [height, width]: [usize; 2]) -> Vec<f32> {
    let plane = height * width;
    let pixels = (0..plane).map(|pixel| [0, 1, 2].map(|channel| image[channel * plane + pixel])).collect();
    let grid = Grid { height: height as isize, width: width as isize };
    let mut inpainting =
        Inpainting { grid, pixels, known: removed.iter().map(|removed| !removed).collect(), time: vec![0.0; plane] };

    // The edge: known pixels beside a removed one.
    let edge: Vec<usize> =
        (0..plane).filter(|at| !removed[*at] && grid.beside(*at).any(|other| removed[other])).collect();
    // The neighbourhoods of removed pixels, and the differences at their edges, reach this far.
    let limit = (RADIUS + 2) as f32;
    march(grid, &edge, removed, |at, time| {
        inpainting.time[at] = -time;
        time < limit
    });
    let whole: Vec<bool> = removed.iter().map(|removed| !removed).collect();
    march(grid, &edge, &whole, |at, time| {
        inpainting.time[at] = time;
        if !inpainting.known[at] {
            inpainting.fill(at);
        }
        true
    });
    (0..3).flat_map(|channel| inpainting.pixels.iter().map(move |pixel| pixel[channel])).collect()
}

#[derive(Clone, Copy)]
struct Grid {
    height: isize,
    width: isize,
}

impl Grid {
    /// The pixel `down` rows and `right` columns away, if it lies in the image.
    fn at(self, from: usize, down: isize, right: isize) -> Option<usize> {
        let (row, column) = (from as isize / self.width + down, from as isize % self.width + right);
        let within = (0..self.height).contains(&row) && (0..self.width).contains(&column);
        within.then_some((row * self.width + column) as usize)
    }

    /// The up to four direct neighbours.
    fn beside(self, from: usize) -> impl Iterator<Item = usize> {
        [(-1, 0), (0, -1), (1, 0), (0, 1)].into_iter().filter_map(move |(down, right)| self.at(from, down, right))
    }
}

/// The fast marching method from the pixels `start`, at time 0, through the pixels that are not `closed`. `arrive` is called
/// with a pixel and its arrival time, and again if an earlier time is found; it returns whether to continue from there.
fn march(grid: Grid, start: &[usize], closed: &[bool], mut arrive: impl FnMut(usize, f32) -> bool) {
    let mut times = vec![f32::INFINITY; closed.len()];
    let mut passed = vec![false; closed.len()];
    let mut front = BinaryHeap::new();
    let mut order = 0_u32; // breaks ties of the time: first in, first out
    for at in start {
        times[*at] = 0.0;
        front.push(Reverse((0, order, *at)));
        order += 1;
    }
    while let Some(Reverse((_, _, from))) = front.pop() {
        if std::mem::replace(&mut passed[from], true) {
            continue;
        }
        for at in grid.beside(from) {
            if closed[at] || passed[at] {
                continue;
            }
            let time = arrival(grid, &times, at);
            if time >= times[at] {
                continue;
            }
            times[at] = time;
            if arrive(at, time) {
                front.push(Reverse((time.to_bits(), order, at))); // the bits of positive floats have the order of their values
                order += 1;
            }
        }
    }
}

/// Arrival time of a front of speed 1 at a pixel: the solution of |grad T| = 1 in the quadrant with the earliest one.
fn arrival(grid: Grid, times: &[f32], at: usize) -> f32 {
    let time = |down, right| grid.at(at, down, right).map_or(f32::INFINITY, |other| times[other]);
    let mut first = f32::INFINITY;
    for (down, right) in [(-1, -1), (-1, 1), (1, -1), (1, 1)] {
        let (a, b) = (time(down, 0), time(0, right));
        let near = a.min(b);
        let apart = a - b;
        let both = if apart.abs() < 1.0 { (a + b + (2.0 - apart * apart).sqrt()) / 2.0 } else { near + 1.0 };
        first = first.min(both);
    }
    first
}

struct Inpainting {
    grid: Grid,
    pixels: Vec<[f32; 3]>,
    /// Whether a pixel is known or filled.
    known: Vec<bool>,
    time: Vec<f32>,
}

impl Inpainting {
    fn fill(&mut self, at: usize) {
        self.known[at] = true; // for the gradient of T; the pixel is no neighbour of itself
        let slope = [(1, 0), (0, 1)]
            .map(|(down, right)| self.difference(at, down, right, |other| [self.time[other], 0.0, 0.0])[0]);
        let (mut sum, mut weights) = ([0.0; 3], 0.0);
        for down in -RADIUS..=RADIUS {
            for right in -RADIUS..=RADIUS {
                let square = down * down + right * right;
                let Some(other) = self.grid.at(at, down, right).filter(|_| square > 0 && square <= RADIUS * RADIUS)
                else {
                    continue;
                };
                if !self.known[other] {
                    continue;
                }
                // The vector p - q.
                let offset = [-down as f32, -right as f32];
                let square = square as f32;
                let direction =
                    ((offset[0] * slope[0] + offset[1] * slope[1]) / square.sqrt()).abs().max(SMALLEST_DIRECTION);
                let weight = direction / square / (1.0 + (self.time[at] - self.time[other]).abs());
                let value = self.pixels[other];
                let [rows, columns] =
                    [(1, 0), (0, 1)].map(|(down, right)| {
                        self.difference(other, down, right, |pixel| {
                            if pixel == at { [f32::NAN; 3] } else { self.pixels[pixel] }
                        })
                    });
                for channel in 0..3 {
                    let extrapolated = value[channel] + rows[channel] * offset[0] + columns[channel] * offset[1];
                    sum[channel] += weight * extrapolated;
                }
                weights += weight;
            }
        }
        if weights > 0.0 {
            self.pixels[at] = sum.map(|sum| (sum / weights).clamp(0.0, 1.0));
        }
    }

    /// Difference quotient of `value` at a pixel in one direction, from its known neighbours.
    fn difference(&self, at: usize, down: isize, right: isize, value: impl Fn(usize) -> [f32; 3]) -> [f32; 3] {
        let neighbour = |sign: isize| {
            let other = self.grid.at(at, sign * down, sign * right).filter(|other| self.known[*other])?;
            Some(value(other)).filter(|value| !value[0].is_nan())
        };
        let (before, behind, here) = (neighbour(-1), neighbour(1), value(at));
        let less = |a: [f32; 3], b: [f32; 3], by: f32| [0, 1, 2].map(|channel| (a[channel] - b[channel]) / by);
        match (before, behind) {
            (Some(before), Some(behind)) => less(behind, before, 2.0),
            (Some(before), None) => less(here, before, 1.0),
            (None, Some(behind)) => less(behind, here, 1.0),
            (None, None) => [0.0; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(height: usize, width: usize) -> Vec<f32> {
        let value = |i: usize| 0.2 + 0.02 * (i / width % height) as f32 + 0.01 * (i % width) as f32;
        (0..3 * height * width).map(value).collect()
    }

    #[test]
    fn a_plane_is_continued_through_the_removed_region() {
        for region in [vec![77], vec![77, 78, 79, 93, 94, 95, 109, 110, 111], (66..78).collect(), vec![0, 1, 16]] {
            let image = ramp(16, 16);
            let removed: Vec<bool> = (0..256).map(|i| region.contains(&i)).collect();
            let mut damaged = image.clone();
            for (value, removed) in damaged.iter_mut().zip(removed.iter().cycle()) {
                *value = if *removed { 9.0 } else { *value };
            }
            for (i, (found, expected)) in inpaint(&damaged, &removed, [16, 16]).iter().zip(&image).enumerate() {
                assert!((found - expected).abs() < 1e-4, "{region:?} at {i}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn the_arrival_time_is_the_distance() {
        // Rows 4 and on are removed: the time is the number of rows from the edge.
        let grid = Grid { height: 12, width: 9 };
        let edge: Vec<usize> = (27..36).collect();
        let closed: Vec<bool> = (0..108).map(|i| i < 36).collect();
        let mut times = vec![0.0; 108];
        march(grid, &edge, &closed, |at, time| {
            times[at] = time;
            true
        });
        for (i, time) in times.iter().enumerate().skip(36) {
            assert!((time - (i / 9 - 3) as f32).abs() < 0.3, "{i}: {time}");
        }
    }

    #[test]
    fn values_stay_in_range_and_known_pixels_stay() {
        let noise = |i: usize| f32::from((i.wrapping_mul(2_654_435_761) >> 11) as u8) / 255.0;
        let image: Vec<f32> = (0..3 * 400).map(noise).collect();
        let removed: Vec<bool> = (0..400).map(|i| noise(i + 5000) < 0.9).collect();
        let filled = inpaint(&image, &removed, [20, 20]);
        for ((found, given), removed) in filled.iter().zip(&image).zip(removed.iter().cycle()) {
            assert!((0.0..=1.0).contains(found) && (*removed || found == given));
        }
        assert_ne!(filled, image);
        assert_eq!(inpaint(&image, &[true; 400], [20, 20]), image, "no pixel is known");
    }
}
