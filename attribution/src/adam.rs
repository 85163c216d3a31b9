//! Adam, which optimises masks and channel weights.

use burn::tensor::Tensor;

/// Adam (Kingma and Ba, 2015) with its authors' decay rates, 0.9 and 0.999, and epsilon, 1e-8.
#[derive(Clone, Debug)]
pub(crate) struct Adam<const D: usize> {
    learning_rate: f32,
    steps: i32,
    moments: Option<(Tensor<D>, Tensor<D>)>,
}

impl<const D: usize> Adam<D> {
    /// An optimiser without moments.
    pub fn new(learning_rate: f32) -> Self {
        Self { learning_rate, steps: 0, moments: None }
    }

    /// `x` after a step of descent along `gradient`.
    pub fn step(&mut self, x: Tensor<D>, gradient: Tensor<D>) -> Tensor<D> {
        const MEAN: f32 = 0.9;
        const SQUARE: f32 = 0.999;
        self.steps += 1;
        let zeros = || (gradient.zeros_like(), gradient.zeros_like());
        let (mean, square) = self.moments.take().unwrap_or_else(zeros);
        let mean = mean * MEAN + gradient.clone() * (1.0 - MEAN);
        let square = square * SQUARE + gradient.powi_scalar(2) * (1.0 - SQUARE);
        let corrected = square.clone() / (1.0 - SQUARE.powi(self.steps));
        let update = mean.clone() / (1.0 - MEAN.powi(self.steps)) / (corrected.sqrt() + 1e-8);
        self.moments = Some((mean, square));
        x - update * self.learning_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::{from_values, values};
    use burn::tensor::Device;

    #[test]
    fn it_finds_the_minimum_and_its_first_step_is_the_learning_rate() {
        let start = from_values(vec![3.0, -2.0, 0.5], [3], &Device::default());
        let goal = from_values(vec![1.0, 1.0, 0.6], [3], &Device::default());
        let mut adam = Adam::<1>::new(0.1);
        let mut x = adam.step(start.clone(), (start - goal.clone()) * 2.0);
        for (found, expected) in values(x.clone()).iter().zip([2.9, -1.9, 0.6]) {
            assert!((found - expected).abs() < 1e-5, "{found} {expected}");
        }
        for _ in 0..400 {
            let gradient = (x.clone() - goal.clone()) * 2.0;
            x = adam.step(x, gradient);
        }
        assert!(values((x - goal).abs()).iter().all(|off| *off < 1e-2));
    }
}
