//! Images under measurement: what the classifier makes of them, whole and perturbed.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::Preprocessing;

use super::{Memo, MetricError};
use crate::GroundTruth;
use explainer_zoo::image::gaussian_blur;

/// Perturbed images in memory at a time, unless [`ImageBatch::with_budget`] says otherwise.
const BUDGET: NonZeroUsize = match NonZeroUsize::new(32) {
    Some(images) => images,
    None => NonZeroUsize::MIN,
};

/// A batch of B images, the class of each that is explained, and the classifier.
///
/// Explainers that are compared share one: the clean pass and whatever else does not depend on the maps is made once.
#[derive(Debug)]
pub struct ImageBatch<'a> {
    backbone: &'a dyn Backbone,
    preprocessing: &'a Preprocessing,
    images: Tensor<4>,
    classes: Vec<usize>,
    probabilities: Vec<f32>,
    count: usize,
    budget: NonZeroUsize,
    truth: Vec<GroundTruth>,
    memo: Memo,
}

/// What the classifier makes of one perturbed image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Softmax score of the explained class, in 0..=1.
    pub score: f32,
    /// Whether the explained class is the one predicted (of equals the lower index is).
    pub top: bool,
}

impl<'a> ImageBatch<'a> {
    /// Images `[B,3,H,W]` as `preprocessing` normalised them, their logits `[B,K]` from the clean pass, and the class
    /// to explain of each.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for what does not belong together, [`MetricError::Class`] for a class not below K.
    pub fn new(
        backbone: &'a dyn Backbone,
        preprocessing: &'a Preprocessing,
        images: Tensor<4>,
        logits: Tensor<2>,
        classes: Vec<usize>,
    ) -> Result<Self, MetricError> {
        let [batch, channels, height, width] = images.dims();
        let [rows, count] = logits.dims();
        let shape =
            |what, found: String, expected: &str| Err(MetricError::Shape { what, found, expected: expected.into() });
        if channels != 3 || height * width == 0 {
            return shape("the images' shape", format!("{:?}", images.dims()), "[B, 3, H, W]");
        }
        if rows != batch {
            return shape("the number of rows of logits", rows.to_string(), &format!("{batch}, one an image"));
        }
        if classes.len() != batch {
            return shape(
                "the number of classes to explain",
                classes.len().to_string(),
                &format!("{batch}, one an image"),
            );
        }
        if let Some((image, class)) = classes.iter().copied().enumerate().find(|(_, class)| *class >= count) {
            return Err(MetricError::Class { image, class, classes: count });
        }
        Ok(Self::unchecked(backbone, preprocessing, images, logits, classes))
    }

    /// [`ImageBatch::new`] for images, logits and classes that one clean pass has made.
    pub(super) fn unchecked(
        backbone: &'a dyn Backbone,
        preprocessing: &'a Preprocessing,
        images: Tensor<4>,
        logits: Tensor<2>,
        classes: Vec<usize>,
    ) -> Self {
        let [_, count] = logits.dims();
        let probabilities = softmax(logits, 1).into_data().iter::<f32>().collect();
        let memo = Memo::default();
        Self { backbone, preprocessing, images, classes, probabilities, count, budget: BUDGET, truth: Vec::new(), memo }
    }

    /// At most `images` perturbed images are in memory at a time, by default 32. Figures do not depend on it.
    #[must_use]
    pub fn with_budget(self, images: NonZeroUsize) -> Self {
        Self { budget: images, ..self }
    }

    /// What is known of each image apart from its pixels; without it nothing is.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for another number than that of the images, or a mask of another size.
    pub fn with_ground_truth(self, truth: Vec<GroundTruth>) -> Result<Self, MetricError> {
        let [height, width] = self.size();
        if truth.len() != self.len() {
            let (found, expected) = (truth.len().to_string(), format!("{}, one an image", self.len()));
            return Err(MetricError::Shape { what: "the number of annotated images", found, expected });
        }
        if let Some(mask) =
            truth.iter().filter_map(|truth| truth.mask.as_ref()).find(|mask| mask.len() != height * width)
        {
            let (found, expected) = (mask.len().to_string(), (height * width).to_string());
            return Err(MetricError::Shape { what: "the number of an object mask's pixels", found, expected });
        }
        Ok(Self { truth, ..self })
    }

    /// What is known of an image apart from its pixels, if anything was given.
    #[must_use]
    pub fn truth(&self, image: usize) -> Option<&GroundTruth> {
        self.truth.get(image)
    }

    /// Number of images B.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Rows and columns of the images.
    #[must_use]
    pub fn size(&self) -> [usize; 2] {
        let [_, _, height, width] = self.images.dims();
        [height, width]
    }

    /// The classifier.
    #[must_use]
    pub fn backbone(&self) -> &'a dyn Backbone {
        self.backbone
    }

    /// Normalised images `[B,3,H,W]`.
    #[must_use]
    pub fn images(&self) -> &Tensor<4> {
        &self.images
    }

    /// How they were normalised.
    #[must_use]
    pub fn preprocessing(&self) -> &Preprocessing {
        self.preprocessing
    }

    /// Where they lie.
    #[must_use]
    pub fn device(&self) -> Device {
        self.images.device()
    }

    /// The class of each image that is explained.
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The classifier's answer to whole image `image`.
    #[must_use]
    pub fn clean(&self, image: usize) -> Prediction {
        prediction(self.row(image), self.class(image))
    }

    /// The classifier's score of a class for whole image `image`, in 0..=1; NaN where there is no such class or image.
    #[must_use]
    pub fn score(&self, image: usize, class: usize) -> f32 {
        self.row(image).get(class).copied().unwrap_or(f32::NAN)
    }

    /// The `count` most probable classes of whole image `image`, or all if there are fewer, best first; of equals the lower
    /// index first.
    #[must_use]
    pub fn top(&self, image: usize, count: usize) -> Vec<usize> {
        let row = self.row(image);
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        order.truncate(count);
        order
    }

    fn row(&self, image: usize) -> &[f32] {
        self.probabilities.chunks(self.count.max(1)).nth(image).unwrap_or_default()
    }

    /// Results that do not depend on a map, for metrics to share.
    #[must_use]
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// Normalised images of the normalised images' shape that are black.
    #[must_use]
    pub fn black(&self) -> Tensor<4> {
        self.preprocessing.normalise(self.images.zeros_like())
    }

    /// The images after a Gaussian blur of `taps` samples a side and standard deviation `sigma` pixels.
    #[must_use]
    pub fn blurred(&self, taps: usize, sigma: f64) -> Rc<Tensor<4>> {
        self.memo.get(&format!("blur {taps} {sigma}"), || gaussian_blur(self.images.clone(), taps, sigma))
    }

    /// Images `of`, one row for each index, in that order: `[n,3,H,W]`.
    #[must_use]
    pub fn pick(&self, of: &[usize]) -> Tensor<4> {
        pick(&self.images, of)
    }

    /// Classifies one image for each entry of `of`, which says which image it was made from. `make` makes those of a
    /// range of entries, normalised, `[n,3,H,W]`; it is called with as many at a time as the budget allows.
    pub fn predict(&self, of: &[usize], make: impl FnMut(Range<usize>) -> Tensor<4>) -> Vec<Prediction> {
        self.classify(of, make, |row, image| prediction(row, self.class(*image)))
    }

    /// The score of another class for each image: of `classes[n]` for the one that `make` makes of entry n, as
    /// [`ImageBatch::predict`] does.
    pub fn scores(&self, classes: &[usize], make: impl FnMut(Range<usize>) -> Tensor<4>) -> Vec<f32> {
        self.classify(classes, make, |row, class| row.get(*class).copied().unwrap_or(f32::NAN))
    }

    /// What `read` makes of an entry and the scores of the image that was made for it.
    fn classify<T>(
        &self,
        entries: &[usize],
        mut make: impl FnMut(Range<usize>) -> Tensor<4>,
        read: impl Fn(&[f32], &usize) -> T,
    ) -> Vec<T> {
        let mut found = Vec::with_capacity(entries.len());
        for range in self.portions(entries.len()) {
            let logits = self.backbone.forward(make(range.clone()), &[]).logits;
            let probabilities: Vec<f32> = softmax(logits, 1).into_data().iter::<f32>().collect();
            let rows = probabilities.chunks(self.count.max(1)).zip(&entries[range]);
            found.extend(rows.map(|(row, entry)| read(row, entry)));
        }
        found
    }

    /// `count` entries, as many at a time as the budget allows.
    pub(super) fn portions(&self, count: usize) -> impl Iterator<Item = Range<usize>> {
        let budget = self.budget.get();
        (0..count).step_by(budget).map(move |from| from..count.min(from + budget))
    }

    fn class(&self, image: usize) -> usize {
        self.classes.get(image).copied().unwrap_or(usize::MAX)
    }
}

/// Rows of `images` `[B,3,H,W]`, in any order and number.
pub(super) fn pick(images: &Tensor<4>, of: &[usize]) -> Tensor<4> {
    let indices: Vec<i64> = of.iter().map(|image| *image as i64).collect();
    let indices = Tensor::<1, Int>::from_data(TensorData::new(indices, [of.len()]), &images.device());
    images.clone().select(0, indices)
}

fn prediction(probabilities: &[f32], class: usize) -> Prediction {
    let Some(&score) = probabilities.get(class) else { return Prediction { score: f32::NAN, top: false } };
    let before = probabilities.iter().take(class).all(|other| *other < score);
    let behind = probabilities.iter().skip(class + 1).all(|other| *other <= score);
    Prediction { score, top: before && behind }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Brightness, image, plain};
    use super::*;

    #[test]
    fn of_equal_classes_the_lower_index_is_predicted() {
        assert_eq!(prediction(&[0.4, 0.4, 0.2], 0), Prediction { score: 0.4, top: true });
        assert_eq!(prediction(&[0.4, 0.4, 0.2], 1), Prediction { score: 0.4, top: false });
        assert!(prediction(&[0.4, 0.6], 2).score.is_nan());
    }

    #[test]
    fn the_budget_changes_how_many_are_made_at_a_time_and_nothing_else() {
        let (backbone, preprocessing) = (Brightness::new(), plain());
        let images = image(&[0.0, 1.0, 0.5, 0.25], [2, 2]);
        let logits = backbone.forward(images.clone(), &[]).logits;
        let of = [0; 5];
        let mut ways = Vec::new();
        for budget in [1, 2, 32] {
            let subject = ImageBatch::new(&backbone, &preprocessing, images.clone(), logits.clone(), vec![0]).unwrap();
            let subject = subject.with_budget(NonZeroUsize::new(budget).unwrap());
            let mut largest = 0;
            let looks = subject.predict(&of, |range| {
                largest = largest.max(range.len());
                let shades = range.clone().map(|i| subject.images().clone() * (i as f32 / 4.0));
                Tensor::cat(shades.collect(), 0)
            });
            assert_eq!(largest, budget.min(5));
            ways.push(looks);
        }
        assert!(ways.windows(2).all(|pair| pair[0] == pair[1]), "{ways:?}");
        assert_eq!(ways[0].len(), 5);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (backbone, preprocessing) = (Brightness::new(), plain());
        let images = image(&[0.0; 4], [2, 2]);
        let logits = backbone.forward(images.clone(), &[]).logits;
        let problem = |images: &Tensor<4>, logits: &Tensor<2>, classes: Vec<usize>| {
            let subject = ImageBatch::new(&backbone, &preprocessing, images.clone(), logits.clone(), classes);
            subject.unwrap_err().to_string()
        };
        let outside = problem(&images, &logits, vec![2]);
        assert_eq!(outside, "image 0 is explained for class 2, but the classifier has 2, 0 to 1");
        assert!(problem(&images, &logits, vec![0, 1]).contains("2, expected 1, one an image"));
        let two = Tensor::cat(vec![logits.clone(), logits.clone()], 0);
        assert!(problem(&images, &two, vec![0]).contains("rows of logits is 2, expected 1"));
        let grey = images.narrow(1, 0, 1);
        assert!(problem(&grey, &logits, vec![0]).contains("[1, 1, 2, 2], expected [B, 3, H, W]"));
    }
}
