//! Noisy linear imputation, the linear part: a sparse, symmetric, positive definite system of equations.
//!
//! Each removed pixel is the weighted mean of its neighbours, 1/6 for those beside it and 1/12 for those across a corner;
//! at the image's edge the weights of the neighbours there are count, and are made to sum to 1. With the removed pixels
//! as unknowns x, and the sums of the weights on the diagonal, A x = b, where A has -w for a removed neighbour and b the
//! weighted sum of the pixels that are left.
//!
//! Solved by conjugate gradients with a modified incomplete Cholesky factorisation (Gustafsson, 1978) as the
//! preconditioner, for the three colours side by side: some tens of iterations on a hole of half the image.
//!
//! Why no library: faer 0.24 would add more than 66 seconds of processor time to a clean build (at `opt-level` 1, without
//! its own crate: nano-gemm alone 59); sprs 0.11 takes 2, but its one solver, BiCGSTAB on sparse vectors without
//! preconditioner, needs half a minute for one colour of 5017 pixels, for which this one takes 0.02 seconds for all three;
//! its Cholesky factorisation is under the LGPL, and so is the C program that rsparse is a translation of.

use super::super::MetricError;

/// A pixel's neighbours that come after it in reading order, as rows and columns away, with their weights. The others
/// are these the other way round.
const LATER: [(usize, isize, f64); 4] = [(0, 1, 1.0 / 6.0), (1, -1, 1.0 / 12.0), (1, 0, 1.0 / 6.0), (1, 1, 1.0 / 12.0)];
/// No unknown.
const NONE: u32 = u32::MAX;
/// The residual's norm, relative to that of b, at which a solution is good enough: far below a grey level.
const TOLERANCE: f64 = 1e-8;
/// More iterations than any hole takes.
const ITERATIONS: usize = 5000;
/// Share of the entries dropped by the factorisation that goes to the diagonal.
const MODIFIED: f64 = 0.97;

/// A value for each of the three colours.
type Colours = [f64; 3];

/// Fills the holes of an image `[3,H,W]`; `hole` says of each pixel whether it is removed. At least one must be left.
///
/// # Errors
/// [`MetricError::Unsolved`].
pub(super) fn impute(image: &[f32], hole: &[bool], size: [usize; 2]) -> Result<Vec<f32>, MetricError> {
    let system = System::new(image, hole, size);
    let solution = system.solve()?;
    let mut filled = image.to_vec();
    let plane = hole.len();
    for (pixel, colours) in system.pixels.iter().zip(solution) {
        for (channel, value) in colours.into_iter().enumerate() {
            filled[channel * plane + pixel] = value as f32;
        }
    }
    Ok(filled)
}

/// A x = b; the unknowns are the removed pixels in reading order.
struct System {
    /// The pixel of each unknown.
    pixels: Vec<usize>,
    /// The unknowns that are its [`LATER`] neighbours.
    later: Vec<[u32; 4]>,
    diagonal: Vec<f64>,
    right: Vec<Colours>,
}

impl System {
    fn new(image: &[f32], hole: &[bool], [height, width]: [usize; 2]) -> Self {
        let plane = height * width;
        let pixels: Vec<usize> = (0..plane).filter(|pixel| hole[*pixel]).collect();
        let mut unknown = vec![NONE; plane];
        pixels.iter().zip(0..).for_each(|(pixel, number)| unknown[*pixel] = number);
        let count = pixels.len();
        let mut system =
            Self { pixels, later: vec![[NONE; 4]; count], diagonal: vec![0.0; count], right: vec![[0.0; 3]; count] };
        // Every pair of neighbours once, from the first of the two.
        for pixel in 0..plane {
            for (slot, (down, right, weight)) in LATER.into_iter().enumerate() {
                let (row, column) = (pixel / width + down, (pixel % width).checked_add_signed(right));
                let Some(column) = column.filter(|column| *column < width && row < height) else { continue };
                let other = row * width + column;
                for (here, there) in [(pixel, other), (other, pixel)] {
                    let Some(at) = index(unknown[here]) else { continue };
                    system.diagonal[at] += weight;
                    if unknown[there] == NONE {
                        for (channel, sum) in system.right[at].iter_mut().enumerate() {
                            *sum += weight * f64::from(image[channel * plane + there]);
                        }
                    }
                }
                if let Some(at) = index(unknown[pixel]) {
                    system.later[at][slot] = unknown[other];
                }
            }
        }
        system
    }

    /// A x.
    fn times(&self, x: &[Colours]) -> Vec<Colours> {
        let mut product: Vec<Colours> = x.iter().zip(&self.diagonal).map(|(x, d)| x.map(|x| d * x)).collect();
        for (at, later) in self.later.iter().enumerate() {
            for (other, (_, _, weight)) in later.iter().zip(LATER) {
                let Some(other) = index(*other) else { continue };
                for channel in 0..3 {
                    product[at][channel] -= weight * x[other][channel];
                    product[other][channel] -= weight * x[at][channel];
                }
            }
        }
        product
    }

    fn solve(&self) -> Result<Vec<Colours>, MetricError> {
        let factors = Factors::of(self);
        let mut x = vec![[0.0; 3]; self.right.len()];
        let mut residual = self.right.clone();
        let goal = dot(&residual, &residual).map(|norm| norm * TOLERANCE * TOLERANCE);
        let mut direction = factors.solve(&residual);
        let mut fit = dot(&residual, &direction);
        for _ in 0..ITERATIONS {
            let norm = dot(&residual, &residual);
            if norm.iter().zip(goal).all(|(norm, goal)| *norm <= goal) {
                return Ok(x);
            }
            let image = self.times(&direction);
            let step = quotient(fit, dot(&direction, &image));
            add(&mut x, step, &direction);
            add(&mut residual, step.map(|step| -step), &image);
            let steepest = factors.solve(&residual);
            let better = dot(&residual, &steepest);
            let turn = quotient(better, fit);
            fit = better;
            for (direction, steepest) in direction.iter_mut().zip(&steepest) {
                for channel in 0..3 {
                    direction[channel] = steepest[channel] + turn[channel] * direction[channel];
                }
            }
        }
        Err(MetricError::Unsolved { pixels: self.pixels.len(), iterations: ITERATIONS })
    }
}

/// L D L^T, L with ones on the diagonal and, in the places of A's entries, what `below` holds by columns.
struct Factors {
    later: Vec<[u32; 4]>,
    below: Vec<[f64; 4]>,
    inverse: Vec<f64>,
}

impl Factors {
    fn of(system: &System) -> Self {
        let later = &system.later;
        let mut diagonal = system.diagonal.clone();
        let entry = |other: u32, weight: f64| if other == NONE { 0.0 } else { -weight };
        let mut below: Vec<[f64; 4]> =
            later.iter().map(|row| [0, 1, 2, 3].map(|slot| entry(row[slot], LATER[slot].2))).collect();
        let mut inverse = Vec::with_capacity(diagonal.len());
        for column in 0..diagonal.len() {
            let (row, entries) = (later[column], below[column]);
            // A pivot that rounding has made too small would spoil the rest.
            let pivot = if diagonal[column] > 0.1 * system.diagonal[column] {
                diagonal[column]
            } else {
                system.diagonal[column]
            };
            for first in 0..4 {
                let Some(i) = index(row[first]) else { continue };
                diagonal[i] -= entries[first] * entries[first] / pivot;
                for second in first + 1..4 {
                    let Some(j) = index(row[second]) else { continue };
                    let update = entries[first] * entries[second] / pivot;
                    match later[i].iter().position(|other| *other == row[second]) {
                        Some(slot) => below[i][slot] -= update,
                        None => {
                            diagonal[i] -= MODIFIED * update;
                            diagonal[j] -= MODIFIED * update;
                        }
                    }
                }
            }
            below[column] = entries.map(|entry| entry / pivot);
            inverse.push(1.0 / pivot);
        }
        Self { later: later.clone(), below, inverse }
    }

    fn solve(&self, right: &[Colours]) -> Vec<Colours> {
        let mut x = right.to_vec();
        for (column, (row, below)) in self.later.iter().zip(&self.below).enumerate() {
            let value = x[column];
            for (other, factor) in row.iter().zip(below) {
                let Some(other) = index(*other) else { continue };
                for channel in 0..3 {
                    x[other][channel] -= factor * value[channel];
                }
            }
        }
        for column in (0..x.len()).rev() {
            let mut value = x[column].map(|value| value * self.inverse[column]);
            for (other, factor) in self.later[column].iter().zip(self.below[column]) {
                let Some(other) = index(*other) else { continue };
                for channel in 0..3 {
                    value[channel] -= factor * x[other][channel];
                }
            }
            x[column] = value;
        }
        x
    }
}

fn index(unknown: u32) -> Option<usize> {
    (unknown != NONE).then_some(unknown as usize)
}

fn dot(a: &[Colours], b: &[Colours]) -> Colours {
    let mut sum = [0.0; 3];
    for (a, b) in a.iter().zip(b) {
        for channel in 0..3 {
            sum[channel] += a[channel] * b[channel];
        }
    }
    sum
}

/// 0 / 0 is 0: a colour that is solved already stays as it is.
fn quotient(a: Colours, b: Colours) -> Colours {
    [0, 1, 2].map(|channel| if b[channel] == 0.0 { 0.0 } else { a[channel] / b[channel] })
}

fn add(to: &mut [Colours], factor: Colours, other: &[Colours]) {
    for (to, other) in to.iter_mut().zip(other) {
        for channel in 0..3 {
            to[channel] += factor[channel] * other[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: usize) -> f32 {
        f32::from((i.wrapping_mul(2_654_435_761) >> 11) as u8) / 255.0
    }

    /// The same by Gaussian elimination with pivoting on the full matrix, written from the definition anew.
    fn dense(image: &[f32], hole: &[bool], [height, width]: [usize; 2]) -> Vec<f32> {
        let plane = height * width;
        let unknowns: Vec<usize> = (0..plane).filter(|pixel| hole[*pixel]).collect();
        let mut filled = image.to_vec();
        for channel in 0..3 {
            let count = unknowns.len();
            let mut rows = vec![vec![0.0f64; count + 1]; count];
            for (row, pixel) in rows.iter_mut().zip(&unknowns) {
                let (r, c) = ((pixel / width) as isize, (pixel % width) as isize);
                for (dr, dc) in [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)] {
                    let (y, x) = (r + dr, c + dc);
                    if y < 0 || x < 0 || y >= height as isize || x >= width as isize {
                        continue;
                    }
                    let weight = if dr == 0 || dc == 0 { 1.0 / 6.0 } else { 1.0 / 12.0 };
                    let other = y as usize * width + x as usize;
                    let own = unknowns.iter().position(|p| p == pixel).unwrap();
                    row[own] += weight;
                    match unknowns.iter().position(|p| *p == other) {
                        Some(at) => row[at] -= weight,
                        None => row[count] += weight * f64::from(image[channel * plane + other]),
                    }
                }
            }
            for column in 0..count {
                let best = (column..count).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()));
                rows.swap(column, best.unwrap());
                let (above, below) = rows.split_at_mut(column + 1);
                let pivot = &above[column];
                for row in below {
                    let factor = row[column] / pivot[column];
                    row.iter_mut().zip(pivot).for_each(|(value, above)| *value -= factor * above);
                }
            }
            let mut solution = vec![0.0; count];
            for row in (0..count).rev() {
                let known: f64 = (row + 1..count).map(|at| rows[row][at] * solution[at]).sum();
                solution[row] = (rows[row][count] - known) / rows[row][row];
            }
            for (pixel, value) in unknowns.iter().zip(solution) {
                filled[channel * plane + pixel] = value as f32;
            }
        }
        filled
    }

    #[test]
    fn the_sparse_solution_is_the_dense_one() {
        for ([height, width], share) in
            [([9, 7], 30), ([7, 9], 128), ([12, 12], 230), ([1, 8], 128), ([8, 1], 200), ([5, 2], 150)]
        {
            let image: Vec<f32> = (0..3 * height * width).map(noise).collect();
            let mut hole: Vec<bool> = (0..height * width).map(|i| noise(i + 7777) * 256.0 < share as f32).collect();
            hole[0] = true; // a corner of the image
            hole[height * width / 2] = false;
            let found = impute(&image, &hole, [height, width]).unwrap();
            let expected = dense(&image, &hole, [height, width]);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-6, "{height} x {width}, {i}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_large_hole_is_solved_and_keeps_to_the_values_around_it() {
        let side = 96;
        let image: Vec<f32> = (0..3 * side * side).map(noise).collect();
        let hole: Vec<bool> = (0..side * side).map(|i| i / side > 5).collect();
        let filled = impute(&image, &hole, [side, side]).unwrap();
        assert!(filled.iter().all(|value| (-1e-6..=1.000_001).contains(value)), "a mean lies between what it is of");
        let ramp: Vec<f32> = (0..3 * side * side).map(|i| (i % side) as f32 / side as f32).collect();
        let hole: Vec<bool> =
            (0..side * side).map(|i| (20..76).contains(&(i % side)) && (20..76).contains(&(i / side))).collect();
        let filled = impute(&ramp, &hole, [side, side]).unwrap();
        for (found, expected) in filled.iter().zip(&ramp) {
            assert!((found - expected).abs() < 1e-5, "a plane is the mean of its neighbours: {found}, {expected}");
        }
    }

    #[test]
    fn nothing_removed_changes_nothing() {
        let image: Vec<f32> = (0..27).map(noise).collect();
        assert_eq!(impute(&image, &[false; 9], [3, 3]).unwrap(), image);
    }
}
