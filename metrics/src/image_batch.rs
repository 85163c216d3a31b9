//! A batch of images with its target classes, and the classifier's predictions for the images and perturbed versions.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use burn::tensor::{Device, Int, Tensor, TensorData, activation::softmax};
use explainer_zoo::backbone::Backbone;
use explainer_zoo::image::{Preprocessing, gaussian_blur};

use crate::{Cache, GroundTruth, MetricError};

/// Perturbed images in one forward pass, unless [`ImageBatch::with_batch_size`] sets another number.
const BATCH_SIZE: NonZeroUsize = match NonZeroUsize::new(32) {
    Some(images) => images,
    None => NonZeroUsize::MIN,
};

/// A batch of B images, the target class of each, and the classifier.
///
/// Explainers that are compared should share one batch: the clean predictions and everything else that does not depend on
/// the heat maps are computed once.
#[derive(Debug)]
pub struct ImageBatch<'a> {
    backbone: &'a dyn Backbone,
    preprocessing: &'a Preprocessing,
    images: Tensor<4>,
    classes: Vec<usize>,
    probabilities: Vec<f32>,
    class_count: usize,
    batch_size: NonZeroUsize,
    ground_truth: Vec<GroundTruth>,
    cache: Cache,
}

/// The classifier's prediction for one image, as far as metrics use it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Softmax score of the target class, in 0..=1.
    pub score: f32,
    /// Whether the target class has the highest score (of equal scores the lower index wins).
    pub top: bool,
}

impl<'a> ImageBatch<'a> {
    /// Images `[B,3,H,W]`, normalised by `preprocessing`; their logits `[B,K]` from the clean forward pass; and the target
    /// class of each image, below K.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for shapes that do not match, [`MetricError::Class`] for a class not below K.
    pub fn new(
        backbone: &'a dyn Backbone,
        preprocessing: &'a Preprocessing,
        images: Tensor<4>,
        logits: Tensor<2>,
        classes: Vec<usize>,
    ) -> Result<Self, MetricError> {
        check_images(&images)?;
        let ([batch, ..], [rows, class_count]) = (images.dims(), logits.dims());
        let expected = || format!("{batch}, one for each image");
        if rows != batch {
            let what = "the number of rows of logits";
            return Err(MetricError::Shape { what, found: rows.to_string(), expected: expected() });
        }
        if classes.len() != batch {
            let what = "the number of target classes";
            return Err(MetricError::Shape { what, found: classes.len().to_string(), expected: expected() });
        }
        if let Some((image, class)) = classes.iter().copied().enumerate().find(|(_, class)| *class >= class_count) {
            return Err(MetricError::Class { image, class, classes: class_count });
        }
        Ok(Self::unchecked(backbone, preprocessing, images, logits, classes))
    }

    /// Images `[B,3,H,W]`, normalised as the backbone's spec says. The clean forward pass is made here; the target class of
    /// each image is the predicted one.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for images of another shape.
    pub fn from_images(backbone: &'a dyn Backbone, images: Tensor<4>) -> Result<Self, MetricError> {
        check_images(&images)?;
        let logits = backbone.forward(images.clone(), &[]).logits;
        let [batch, _] = logits.dims();
        let preprocessing = &backbone.spec().preprocessing;
        let mut found = Self::unchecked(backbone, preprocessing, images, logits, vec![0; batch]);
        found.classes = (0..batch).map(|image| found.top_classes(image, 1).first().copied().unwrap_or(0)).collect();
        Ok(found)
    }

    /// [`ImageBatch::new`] without checks, for images, logits and classes of one clean pass.
    pub(crate) fn unchecked(
        backbone: &'a dyn Backbone,
        preprocessing: &'a Preprocessing,
        images: Tensor<4>,
        logits: Tensor<2>,
        classes: Vec<usize>,
    ) -> Self {
        let [_, class_count] = logits.dims();
        Self {
            backbone,
            preprocessing,
            images,
            classes,
            probabilities: softmax(logits, 1).into_data().iter::<f32>().collect(),
            class_count,
            batch_size: BATCH_SIZE,
            ground_truth: Vec::new(),
            cache: Cache::default(),
        }
    }

    /// Classifies at most `images` perturbed images in one forward pass, by default 32. Values do not depend on it; the
    /// memory needed does.
    #[must_use]
    pub fn with_batch_size(self, images: NonZeroUsize) -> Self {
        Self { batch_size: images, ..self }
    }

    /// Adds the ground truth of each image: objects and fixations.
    ///
    /// # Errors
    /// [`MetricError::Shape`] for another number than that of the images, or a mask of another size.
    pub fn with_ground_truth(self, ground_truth: Vec<GroundTruth>) -> Result<Self, MetricError> {
        let [height, width] = self.size();
        if ground_truth.len() != self.len() {
            let (found, expected) = (ground_truth.len().to_string(), format!("{}, one for each image", self.len()));
            return Err(MetricError::Shape { what: "the number of annotated images", found, expected });
        }
        let mut masks = ground_truth.iter().filter_map(|truth| truth.mask.as_ref());
        if let Some(mask) = masks.find(|mask| mask.len() != height * width) {
            let (found, expected) = (mask.len().to_string(), (height * width).to_string());
            return Err(MetricError::Shape { what: "the number of pixels of an object mask", found, expected });
        }
        Ok(Self { ground_truth, ..self })
    }

    /// Ground truth of an image, if any was given.
    #[must_use]
    pub fn ground_truth(&self, image: usize) -> Option<&GroundTruth> {
        self.ground_truth.get(image)
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

    /// Height and width of the images in pixels.
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

    /// The preprocessing that normalised the images.
    #[must_use]
    pub fn preprocessing(&self) -> &Preprocessing {
        self.preprocessing
    }

    /// Device of the images.
    #[must_use]
    pub fn device(&self) -> Device {
        self.images.device()
    }

    /// Target class of each image.
    #[must_use]
    pub fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// The classifier's prediction for the clean image; `None` where its scores are not finite.
    #[must_use]
    pub fn clean(&self, image: usize) -> Option<Prediction> {
        prediction(self.probabilities(image), self.class(image))
    }

    /// The classifier's score of any class for the clean image, in 0..=1; `None` where it is not finite.
    #[must_use]
    pub fn score(&self, image: usize, class: usize) -> Option<f32> {
        score(self.probabilities(image), class)
    }

    /// The `count` classes with the highest scores for the clean image, or all if there are fewer, highest first; of equal
    /// scores the lower index first.
    #[must_use]
    pub fn top_classes(&self, image: usize, count: usize) -> Vec<usize> {
        let probabilities = self.probabilities(image);
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        order.truncate(count);
        order
    }

    fn probabilities(&self, image: usize) -> &[f32] {
        self.probabilities.chunks(self.class_count.max(1)).nth(image).unwrap_or_default()
    }

    /// Cache of intermediate results that do not depend on a heat map.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Black images, normalised: `[B,3,H,W]`.
    #[must_use]
    pub fn black(&self) -> Tensor<4> {
        self.preprocessing.normalise(self.images.zeros_like())
    }

    /// Normalised images `[B,3,H,W]` after a Gaussian blur with a kernel of `taps` pixels a side and standard deviation
    /// `sigma` pixels.
    #[must_use]
    pub fn blurred(&self, taps: usize, sigma: f64) -> Rc<Tensor<4>> {
        let key = format!("blur {taps} {sigma}");
        self.cache.get_or_compute(&key, || gaussian_blur(self.images.clone(), taps, sigma))
    }

    /// Normalised images of these indices, in this order, repeats allowed: `[n,3,H,W]`.
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Tensor<4> {
        select(&self.images, indices)
    }

    /// Predictions for perturbed images; entry n is for a version of image `indices[n]`, and `None` where its scores are not
    /// finite. `make` returns the normalised images `[n,3,H,W]` of a range of entries; it is called for one batch at a
    /// time.
    pub fn predict(&self, indices: &[usize], make: impl FnMut(Range<usize>) -> Tensor<4>) -> Vec<Option<Prediction>> {
        self.classify(indices, make, |probabilities, image| prediction(probabilities, self.class(*image)))
    }

    /// Scores of chosen classes, `classes[n]` for entry n; otherwise as [`ImageBatch::predict`].
    pub fn scores(&self, classes: &[usize], make: impl FnMut(Range<usize>) -> Tensor<4>) -> Vec<Option<f32>> {
        self.classify(classes, make, |probabilities, class| score(probabilities, *class))
    }

    /// `read` of the softmax scores of each perturbed image and its entry.
    fn classify<T>(
        &self,
        entries: &[usize],
        mut make: impl FnMut(Range<usize>) -> Tensor<4>,
        read: impl Fn(&[f32], &usize) -> T,
    ) -> Vec<T> {
        let mut found = Vec::with_capacity(entries.len());
        for range in self.batches(entries.len()) {
            let logits = self.backbone.forward(make(range.clone()), &[]).logits;
            let probabilities: Vec<f32> = softmax(logits, 1).into_data().iter::<f32>().collect();
            let rows = probabilities.chunks(self.class_count.max(1)).zip(&entries[range]);
            found.extend(rows.map(|(row, entry)| read(row, entry)));
        }
        found
    }

    /// The ranges of `count` entries that make up one forward pass each.
    pub(crate) fn batches(&self, count: usize) -> impl Iterator<Item = Range<usize>> {
        let size = self.batch_size.get();
        (0..count).step_by(size).map(move |start| start..count.min(start + size))
    }

    fn class(&self, image: usize) -> usize {
        self.classes.get(image).copied().unwrap_or(usize::MAX)
    }
}

fn check_images(images: &Tensor<4>) -> Result<(), MetricError> {
    let [_, channels, height, width] = images.dims();
    if channels == 3 && height * width > 0 {
        return Ok(());
    }
    let (found, expected) = (format!("{:?}", images.dims()), "[B, 3, H, W]".to_owned());
    Err(MetricError::Shape { what: "the shape of the images", found, expected })
}

/// Rows of `images` `[B,3,H,W]`, in any order and number.
pub(crate) fn select(images: &Tensor<4>, indices: &[usize]) -> Tensor<4> {
    let rows: Vec<i64> = indices.iter().map(|image| *image as i64).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [indices.len()]), &images.device());
    images.clone().select(0, rows)
}

/// `None` where any score is not finite: the highest one is then not known.
fn prediction(probabilities: &[f32], class: usize) -> Option<Prediction> {
    let score = score(probabilities, class)?;
    let before = probabilities.iter().take(class).all(|other| *other < score);
    let behind = probabilities.iter().skip(class + 1).all(|other| *other <= score);
    Some(Prediction { score, top: before && behind })
}

fn score(probabilities: &[f32], class: usize) -> Option<f32> {
    let finite = probabilities.iter().all(|score| score.is_finite());
    probabilities.get(class).copied().filter(|_| finite)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{brightness, image, plain};

    #[test]
    fn of_equal_classes_the_lower_index_is_predicted() {
        assert_eq!(prediction(&[0.4, 0.4, 0.2], 0), Some(Prediction { score: 0.4, top: true }));
        assert_eq!(prediction(&[0.4, 0.4, 0.2], 1), Some(Prediction { score: 0.4, top: false }));
        assert_eq!(prediction(&[0.4, 0.6], 2), None);
    }

    #[test]
    fn a_prediction_with_scores_that_are_not_finite_is_undefined() {
        assert_eq!((prediction(&[0.4, f32::NAN], 0), prediction(&[f32::NAN; 2], 1)), (None, None));
        assert_eq!(score(&[f32::NAN, 0.4], 1), None);
        let backbone = brightness();
        let batch = ImageBatch::from_images(&backbone, image(&[f32::NAN; 4], [2, 2])).unwrap();
        assert_eq!((batch.clean(0), batch.score(0, 1)), (None, None));
        assert_eq!(batch.predict(&[0], |_| batch.images().clone()), [None]);
        assert_eq!(batch.scores(&[1], |_| batch.images().clone()), [None]);
    }

    #[test]
    fn the_target_is_the_predicted_class() {
        let backbone = brightness();
        let images = Tensor::cat(vec![image(&[0.8; 4], [2, 2]), image(&[0.2; 4], [2, 2])], 0);
        let batch = ImageBatch::from_images(&backbone, images).unwrap();
        assert_eq!(batch.classes(), [0, 1]);
        assert!(batch.clean(1).is_some_and(|clean| clean.top && (clean.score - 0.8).abs() < 1e-5));
    }

    #[test]
    fn values_do_not_depend_on_the_batch_size() {
        let (backbone, preprocessing) = (brightness(), plain());
        let images = image(&[0.0, 1.0, 0.5, 0.25], [2, 2]);
        let logits = backbone.forward(images.clone(), &[]).logits;
        let indices = [0; 5];
        let mut found = Vec::new();
        for batch_size in [1, 2, 32] {
            let batch = ImageBatch::new(&backbone, &preprocessing, images.clone(), logits.clone(), vec![0]).unwrap();
            let batch = batch.with_batch_size(NonZeroUsize::new(batch_size).unwrap());
            let mut largest = 0;
            let predictions = batch.predict(&indices, |range| {
                largest = largest.max(range.len());
                let shades = range.clone().map(|i| batch.images().clone() * (i as f32 / 4.0));
                Tensor::cat(shades.collect(), 0)
            });
            assert_eq!(largest, batch_size.min(5));
            found.push(predictions);
        }
        assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{found:?}");
        assert_eq!(found[0].len(), 5);
    }

    #[test]
    fn shapes_that_do_not_match_are_refused() {
        let (backbone, preprocessing) = (brightness(), plain());
        let images = image(&[0.0; 4], [2, 2]);
        let logits = backbone.forward(images.clone(), &[]).logits;
        let problem = |images: &Tensor<4>, logits: &Tensor<2>, classes: Vec<usize>| {
            let batch = ImageBatch::new(&backbone, &preprocessing, images.clone(), logits.clone(), classes);
            batch.unwrap_err().to_string()
        };
        let outside = problem(&images, &logits, vec![2]);
        assert_eq!(outside, "image 0 is explained for class 2, but the classifier has 2, 0 to 1");
        assert!(problem(&images, &logits, vec![0, 1]).contains("2, expected 1, one for each image"));
        let two = Tensor::cat(vec![logits.clone(), logits.clone()], 0);
        assert!(problem(&images, &two, vec![0]).contains("rows of logits is 2, expected 1"));
        let grey = images.narrow(1, 0, 1);
        assert!(problem(&grey, &logits, vec![0]).contains("[1, 1, 2, 2], expected [B, 3, H, W]"));
    }
}
