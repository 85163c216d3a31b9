//! Telea's in-painting ("An image inpainting technique based on the fast marching method", 2004), radius 3.
//!
//! Removed pixels are filled in by their distance T from the edge of the hole, the nearest first. A pixel p becomes the
//! weighted mean, over the pixels q within the radius that are known or filled in, of I(q) + grad I(q) (p - q). The
//! weight is the product of three: |(p - q) . grad T(p)| / |p - q| (along the way that the front moves), 1 / |p - q|^2
//! (nearness) and 1 / (1 + |T(p) - T(q)|) (the same distance from the edge). Outside the hole T is negative. Gradients
//! are differences to the neighbours there are: central ones, one-sided ones, or 0. Values are limited to 0..1, as those
//! of 8-bit pictures are.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Radius of the neighbourhood in pixels.
const RADIUS: isize = 3;
/// The weight of a direction that the front does not move along.
const ACROSS: f32 = 1e-6;

/// Fills the holes of an image `[3,H,W]` in 0..1; `hole` says of each pixel whether it is removed. An image without any
/// other pixel stays as it is.
pub(super) fn inpaint(image: &[f32], hole: &[bool], [height, width]: [usize; 2]) -> Vec<f32> {
    let plane = height * width;
    let pixels = (0..plane).map(|pixel| [0, 1, 2].map(|channel| image[channel * plane + pixel])).collect();
    let grid = Grid { height: height as isize, width: width as isize };
    let mut painting =
        Painting { grid, pixels, known: hole.iter().map(|gone| !gone).collect(), time: vec![0.0; plane] };

    // The edge: known pixels beside a removed one.
    let edge: Vec<usize> = (0..plane).filter(|at| !hole[*at] && grid.beside(*at).any(|other| hole[other])).collect();
    // As far as the neighbours of a removed pixel, and theirs, may be.
    let limit = (RADIUS + 2) as f32;
    march(grid, &edge, hole, |at, time| {
        painting.time[at] = -time;
        time < limit
    });
    let whole: Vec<bool> = hole.iter().map(|gone| !gone).collect();
    march(grid, &edge, &whole, |at, time| {
        painting.time[at] = time;
        if !painting.known[at] {
            painting.fill(at);
        }
        true
    });
    (0..3).flat_map(|channel| painting.pixels.iter().map(move |pixel| pixel[channel])).collect()
}

#[derive(Clone, Copy)]
struct Grid {
    height: isize,
    width: isize,
}

impl Grid {
    /// The pixel so many rows and columns away.
    fn at(self, from: usize, down: isize, right: isize) -> Option<usize> {
        let (row, column) = (from as isize / self.width + down, from as isize % self.width + right);
        let within = (0..self.height).contains(&row) && (0..self.width).contains(&column);
        within.then_some((row * self.width + column) as usize)
    }

    /// The up to four pixels beside it.
    fn beside(self, from: usize) -> impl Iterator<Item = usize> {
        [(-1, 0), (0, -1), (1, 0), (0, 1)].into_iter().filter_map(move |(down, right)| self.at(from, down, right))
    }
}

/// The fast marching method from `start`, where the time is 0, through the pixels that are not `closed`. `arrive` is told
/// a pixel's time of arrival when the front first comes near, and again if it turns out to come sooner by another way;
/// it says whether to go on from there.
fn march(grid: Grid, start: &[usize], closed: &[bool], mut arrive: impl FnMut(usize, f32) -> bool) {
    let mut times = vec![f32::INFINITY; closed.len()];
    let mut passed = vec![false; closed.len()];
    let mut front = BinaryHeap::new();
    let mut order = 0_u32; // of equal times the first in comes first
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
                front.push(Reverse((time.to_bits(), order, at))); // bits of positive numbers are ordered as they are
                order += 1;
            }
        }
    }
}

/// The time at which a front of speed 1 gets to a pixel: |grad T| = 1 in the quadrant in which that is first.
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

struct Painting {
    grid: Grid,
    pixels: Vec<[f32; 3]>,
    /// What is known or filled in.
    known: Vec<bool>,
    time: Vec<f32>,
}

impl Painting {
    fn fill(&mut self, at: usize) {
        self.known[at] = true; // for the gradient of its time; it is no neighbour of itself
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
                // From the neighbour to the pixel.
                let way = [-down as f32, -right as f32];
                let square = square as f32;
                let along = ((way[0] * slope[0] + way[1] * slope[1]) / square.sqrt()).abs().max(ACROSS);
                let weight = along / square / (1.0 + (self.time[at] - self.time[other]).abs());
                let value = self.pixels[other];
                let [rows, columns] =
                    [(1, 0), (0, 1)].map(|(down, right)| {
                        self.difference(other, down, right, |pixel| {
                            if pixel == at { [f32::NAN; 3] } else { self.pixels[pixel] }
                        })
                    });
                for channel in 0..3 {
                    let carried = value[channel] + rows[channel] * way[0] + columns[channel] * way[1];
                    sum[channel] += weight * carried;
                }
                weights += weight;
            }
        }
        if weights > 0.0 {
            self.pixels[at] = sum.map(|sum| (sum / weights).clamp(0.0, 1.0));
        }
    }

    /// The slope of `value` at a pixel in one direction, from its known neighbours there.
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
    fn a_plane_goes_on_through_a_hole() {
        for hole in [vec![77], vec![77, 78, 79, 93, 94, 95, 109, 110, 111], (66..78).collect(), vec![0, 1, 16]] {
            let image = ramp(16, 16);
            let gone: Vec<bool> = (0..256).map(|i| hole.contains(&i)).collect();
            let mut damaged = image.clone();
            for (value, gone) in damaged.iter_mut().zip(gone.iter().cycle()) {
                *value = if *gone { 9.0 } else { *value };
            }
            for (i, (found, expected)) in inpaint(&damaged, &gone, [16, 16]).iter().zip(&image).enumerate() {
                assert!((found - expected).abs() < 1e-4, "{hole:?} at {i}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn the_front_arrives_after_the_distance() {
        // A hole of rows 4 and on: time is the number of rows from the edge.
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
    fn values_stay_in_range_and_what_is_known_stays() {
        let noise = |i: usize| f32::from((i.wrapping_mul(2_654_435_761) >> 11) as u8) / 255.0;
        let image: Vec<f32> = (0..3 * 400).map(noise).collect();
        let hole: Vec<bool> = (0..400).map(|i| noise(i + 5000) < 0.9).collect();
        let filled = inpaint(&image, &hole, [20, 20]);
        for ((found, given), gone) in filled.iter().zip(&image).zip(hole.iter().cycle()) {
            assert!((0.0..=1.0).contains(found) && (*gone || found == given));
        }
        assert_ne!(filled, image);
        assert_eq!(inpaint(&image, &[true; 400], [20, 20]), image, "nothing to go by");
    }
}
