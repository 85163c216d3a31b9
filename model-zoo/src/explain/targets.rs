//! Which classes of an image are explained.

use burn::tensor::{Tensor, activation::softmax};

use super::error::ExplainError;

/// The classes to explain. Every image gets the same number of maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets<'a> {
    /// The most probable classes of each image, this many (or all, if there are fewer), best first; of equals the lower
    /// index first.
    Top(usize),
    /// This class, for every image.
    Class(usize),
    /// These classes of each image: one list per image, all of the same length.
    Each(&'a [Vec<usize>]),
}

/// The classes of each image, and their probabilities.
type Resolved = (Vec<Vec<usize>>, Vec<Vec<f32>>);

impl Targets<'_> {
    /// For `B` images with logits `[B,K]`: `B` lists of the `k` classes to explain, and their softmax probabilities in 0..=1.
    ///
    /// # Errors
    /// [`ExplainError::NoClass`], [`ExplainError::Targets`].
    pub(super) fn resolve(self, logits: Tensor<2>) -> Result<Resolved, ExplainError> {
        let [batch, count] = logits.dims();
        let scores: Vec<f32> = softmax(logits, 1).into_data().iter::<f32>().collect();
        let rows = || scores.chunks(count.max(1));
        let classes: Vec<Vec<usize>> = match self {
            Self::Top(most) => rows().map(|row| top(row, most)).collect(),
            Self::Class(class) => vec![vec![class]; batch],
            Self::Each(classes) => classes.to_vec(),
        };
        check(&classes, batch, count)?;
        let of = |(row, classes): (&[f32], &Vec<usize>)| classes.iter().map(|class| row[*class]).collect();
        let probabilities = rows().zip(&classes).map(of).collect();
        Ok((classes, probabilities))
    }
}

/// Checks `B` lists of equally many classes below `count`.
///
/// # Errors
/// [`ExplainError::NoClass`], [`ExplainError::Targets`].
pub(super) fn check(classes: &[Vec<usize>], batch: usize, count: usize) -> Result<(), ExplainError> {
    let each = classes.first().map_or(0, Vec::len);
    if classes.len() != batch || classes.iter().any(|list| list.len() != each) {
        let lengths = classes.iter().map(Vec::len).collect();
        return Err(ExplainError::Targets { lengths, images: batch });
    }
    match classes.iter().flatten().find(|class| **class >= count) {
        Some(class) => Err(ExplainError::NoClass { class: *class, classes: count }),
        None => Ok(()),
    }
}

/// The `most` most probable classes, best first; of equals the lower index first.
fn top(probabilities: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    order.truncate(most);
    order
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn the_most_probable_come_first_and_of_equals_the_lower_index() {
        let logits = Tensor::<2>::from_floats([[0.2, 0.3, 0.2, 0.3]], &Device::default());
        let classes = |targets: Targets<'_>| targets.resolve(logits.clone()).unwrap().0;
        assert_eq!(classes(Targets::Top(3)), [[1, 3, 0]]);
        assert_eq!(classes(Targets::Top(9)), [[1, 3, 0, 2]]);
        assert_eq!(classes(Targets::Class(2)), [[2]]);
    }

    #[test]
    fn classes_that_do_not_fit_are_refused() {
        let logits = Tensor::<2>::zeros([2, 4], &Device::default());
        let problem = |targets: Targets<'_>| targets.resolve(logits.clone()).unwrap_err().to_string();
        assert!(problem(Targets::Class(4)).contains("no class 4; the classifier has 4, 0 to 3"));
        assert!(problem(Targets::Each(&[vec![1]])).contains("2 images"));
        assert!(problem(Targets::Each(&[vec![1], vec![1, 2]])).contains("[1, 2]"));
    }
}
