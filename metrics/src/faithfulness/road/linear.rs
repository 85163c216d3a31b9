//! The linear part of noisy linear imputation: a sparse, symmetric, positive definite linear system.
//!
//! Each removed pixel is the weighted mean of its neighbours: 1/6 for those in the same row or column, 1/12 for the diagonal
//! ones; at the image's edge the weights of the existing neighbours are normalised to sum to 1. With the removed pixels
//! as unknowns x, and the sums of the weights on the diagonal, A x = b, where A has -w for a removed neighbour and b is the
//! weighted sum of the known neighbours.
//!
//! Solved by conjugate gradients for the three colours side by side, preconditioned by a modified incomplete Cholesky
//! factorisation (Gustafsson, 1978): some tens of iterations where half of the image is removed.
//!
//! No library is used. faer 0.24 would add more than 66 seconds of processor time to a clean build (at `opt-level` 1, without
//! its own crate: nano-gemm alone 59). sprs 0.11 adds 2, but its only solver, BiCGSTAB on sparse vectors without
//! preconditioner, takes half a minute for one colour of 5017 pixels; this one takes 0.02 seconds for all three. The Cholesky
//! factorisation of sprs is under the LGPL, and so is the C program that rsparse is a translation of.

use crate::MetricError;

/// Neighbours that come after a pixel in reading order: rows down, columns right, weight. The other four are their mirror
/// images.
const LATER: [(usize, isize, f64); 4] = [(0, 1, 1.0 / 6.0), (1, -1, 1.0 / 12.0), (1, 0, 1.0 / 6.0), (1, 1, 1.0 / 12.0)];
/// In place of the index of an unknown: the pixel is known.
const NONE: u32 = u32::MAX;
/// Convergence: the norm of the residual relative to that of b. Far below a grey level.
const TOLERANCE: f64 = 1e-8;
/// Largest number of iterations; far more than needed.
const ITERATIONS: usize = 5000;
/// Share of the dropped fill-in that is moved to the diagonal (Gustafsson's modification).
const MODIFIED: f64 = 0.97;

/// A value for each of the three colours.
type Colours = [f64; 3];

/// Imputes the removed pixels of an image `[3,H,W]`. `removed` has one entry for each pixel, at least one of them false.
///
/// # Errors
/// [`MetricError::Unsolved`] if the solver does not converge.
pub(super) fn impute(image: &[f32], removed: &[bool], size: [usize; 2]) -> Result<Vec<f32>, MetricError> {
    let system = System::new(image, removed, size);
    let solution = system.solve()?;
    let mut imputed = image.to_vec();
    let plane = removed.len();
    for (pixel, colours) in system.pixels.iter().zip(solution) {
        for (channel, value) in colours.into_iter().enumerate() {
            imputed[channel * plane + pixel] = value as f32;
        }
    }
    Ok(imputed)
}

/// The linear system A x = b; the unknowns are the removed pixels in reading order.
struct System {
    /// Pixel of each unknown.
    pixels: Vec<usize>,
    /// Unknowns that are its [`LATER`] neighbours.
    later: Vec<[u32; 4]>,
    diagonal: Vec<f64>,
    right: Vec<Colours>,
}

impl System {
    fn new(image: &[f32], removed: &[bool], [height, width]: [usize; 2]) -> Self {
        let plane = height * width;
        let pixels: Vec<usize> = (0..plane).filter(|pixel| removed[*pixel]).collect();
        let mut unknown = vec![NONE; plane];
        pixels.iter().zip(0..).for_each(|(pixel, number)| unknown[*pixel] = number);
        let count = pixels.len();
        let mut system =
            Self { pixels, later: vec![[NONE; 4]; count], diagonal: vec![0.0; count], right: vec![[0.0; 3]; count] };
        // Visits each pair of neighbours once, from the earlier one.
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

    /// The product A x.
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
        let factors = Factors::new(self);
        let mut x = vec![[0.0; 3]; self.right.len()];
        let mut residual = self.right.clone();
        let goal = dot(&residual, &residual).map(|norm| norm * TOLERANCE * TOLERANCE);
        let mut direction = factors.solve(&residual);
        let mut product_of_residuals = dot(&residual, &direction);
        for _ in 0..ITERATIONS {
            let norm = dot(&residual, &residual);
            if norm.iter().zip(goal).all(|(norm, goal)| *norm <= goal) {
                return Ok(x);
            }
            let product = self.times(&direction);
            let alpha = quotient(product_of_residuals, dot(&direction, &product));
            add(&mut x, alpha, &direction);
            add(&mut residual, alpha.map(|alpha| -alpha), &product);
            let preconditioned = factors.solve(&residual);
            let next = dot(&residual, &preconditioned);
            let beta = quotient(next, product_of_residuals);
            product_of_residuals = next;
            for (direction, preconditioned) in direction.iter_mut().zip(&preconditioned) {
                for channel in 0..3 {
                    direction[channel] = preconditioned[channel] + beta[channel] * direction[channel];
                }
            }
        }
        Err(MetricError::Unsolved { pixels: self.pixels.len(), iterations: ITERATIONS })
    }
}

/// The incomplete factorisation L D L^T. L has ones on the diagonal and the pattern of A; `below` has its columns.
struct Factors {
    later: Vec<[u32; 4]>,
    below: Vec<[f64; 4]>,
    inverse: Vec<f64>,
}

impl Factors {
    fn new(system: &System) -> Self {
        let later = &system.later;
        let mut diagonal = system.diagonal.clone();
        let entry = |other: u32, weight: f64| if other == NONE { 0.0 } else { -weight };
        let mut below: Vec<[f64; 4]> =
            later.iter().map(|row| [0, 1, 2, 3].map(|slot| entry(row[slot], LATER[slot].2))).collect();
        let mut inverse = Vec::with_capacity(diagonal.len());
        for column in 0..diagonal.len() {
            let (row, entries) = (later[column], below[column]);
            // A pivot that became too small by rounding would spoil all later columns.
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

/// a / b, where x / 0 is 0: a colour that has converged stays as it is.
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

    /// The same by Gaussian elimination with pivoting on the full matrix, an independent implementation.
    fn dense(image: &[f32], removed: &[bool], [height, width]: [usize; 2]) -> Vec<f32> {
        let plane = height * width;
        let unknowns: Vec<usize> = (0..plane).filter(|pixel| removed[*pixel]).collect();
        let mut imputed = image.to_vec();
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
                imputed[channel * plane + pixel] = value as f32;
            }
        }
        imputed
    }

    #[test]
    fn the_sparse_solution_is_the_dense_one() {
        for ([height, width], share) in
            [([9, 7], 30), ([7, 9], 128), ([12, 12], 230), ([1, 8], 128), ([8, 1], 200), ([5, 2], 150)]
        {
            let image: Vec<f32> = (0..3 * height * width).map(noise).collect();
            let mut removed: Vec<bool> = (0..height * width).map(|i| noise(i + 7777) * 256.0 < share as f32).collect();
            removed[0] = true; // a corner of the image
            removed[height * width / 2] = false;
            let found = impute(&image, &removed, [height, width]).unwrap();
            let expected = dense(&image, &removed, [height, width]);
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() < 1e-6, "{height} x {width}, {i}: {found} instead of {expected}");
            }
        }
    }

    #[test]
    fn a_large_region_is_imputed_within_the_range_of_its_surroundings() {
        let side = 96;
        let image: Vec<f32> = (0..3 * side * side).map(noise).collect();
        let removed: Vec<bool> = (0..side * side).map(|i| i / side > 5).collect();
        let imputed = impute(&image, &removed, [side, side]).unwrap();
        assert!(
            imputed.iter().all(|value| (-1e-6..=1.000_001).contains(value)),
            "a mean lies within the range of its values"
        );
        let ramp: Vec<f32> = (0..3 * side * side).map(|i| (i % side) as f32 / side as f32).collect();
        let removed: Vec<bool> =
            (0..side * side).map(|i| (20..76).contains(&(i % side)) && (20..76).contains(&(i / side))).collect();
        let imputed = impute(&ramp, &removed, [side, side]).unwrap();
        for (found, expected) in imputed.iter().zip(&ramp) {
            assert!((found - expected).abs() < 1e-5, "a plane is the mean of its neighbours: {found}, {expected}");
        }
    }

    #[test]
    fn nothing_removed_changes_nothing() {
        let image: Vec<f32> = (0..27).map(noise).collect();
        assert_eq!(impute(&image, &[false; 9], [3, 3]).unwrap(), image);
    }
}
