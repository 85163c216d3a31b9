//! A method without training together with the classifier that it explains.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use explainer_zoo::backbone::{Backbone, check_failures};
use explainer_zoo::explain::{Cost, Explain, ExplainBatch, ExplainError, computed};
use explainer_zoo::image::Preprocessing;

use crate::{AttributionMethod, MethodSpec};

/// A method and the classifier that it explains.
#[derive(Clone, Debug)]
pub struct MethodExplainer {
    spec: MethodSpec,
    method: Arc<dyn AttributionMethod>,
    backbone: Arc<dyn Backbone>,
    preprocessing: Preprocessing,
    device: Device,
}

impl MethodExplainer {
    /// `method`, which `spec` has made for `backbone`; the images are normalised by `preprocessing` and live on `device`.
    pub fn new(
        spec: MethodSpec,
        method: impl Into<Arc<dyn AttributionMethod>>,
        backbone: Arc<dyn Backbone>,
        preprocessing: Preprocessing,
        device: Device,
    ) -> Self {
        Self { spec, method: method.into(), backbone, preprocessing, device }
    }

    /// Which method it is.
    pub fn spec(&self) -> &MethodSpec {
        &self.spec
    }
}

impl Explain for MethodExplainer {
    fn name(&self) -> String {
        self.spec.to_string()
    }

    fn backbone(&self) -> &Arc<dyn Backbone> {
        &self.backbone
    }

    fn preprocessing(&self) -> &Preprocessing {
        &self.preprocessing
    }

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn maps(&self, batch: &ExplainBatch, classes: &[Vec<usize>]) -> Result<(Tensor<4>, Cost), ExplainError> {
        let start = std::time::Instant::now();
        // A method explains one class per image: the k-th class of every image, for each k.
        let each = classes.iter().map(Vec::len).min().unwrap_or(0);
        let mut cost = Cost::default();
        let mut maps = Vec::new();
        for place in 0..each {
            let column: Vec<usize> = classes.iter().map(|classes| classes[place]).collect();
            let made = self.method.explain(self.backbone.as_ref(), &batch.images, &column);
            // Where the classifier could not compute, it is the reason for every other error.
            check_failures([&self.backbone])?;
            let made = made.map_err(ExplainError::method)?;
            cost.forward += made.passes.forward;
            cost.backward += made.passes.backward;
            maps.push(made.maps);
        }
        if maps.is_empty() {
            return Err(ExplainError::NoMap);
        }
        let maps = computed(Tensor::cat(maps, 1));
        Ok((maps, Cost { seconds: start.elapsed().as_secs_f64(), ..cost }))
    }

    fn with_backbone(&self, backbone: Arc<dyn Backbone>) -> Option<Arc<dyn Explain>> {
        Some(Arc::new(Self { backbone, ..self.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use explainer_zoo::backbone;
    use explainer_zoo::device::Compute;
    use explainer_zoo::explain::Targets;

    use super::*;
    use crate::MethodContext;

    #[test]
    fn every_class_has_its_map_and_its_passes() {
        let compute = Compute::default();
        let backbone: Arc<dyn Backbone> =
            Arc::new(backbone::load("shapes_resnet", "embedded", None, &compute, &mut |_, _| {}).unwrap());
        let spec: MethodSpec = "grad-cam".parse().unwrap();
        let method = spec.build(&MethodContext::new(backbone.as_ref())).unwrap();
        let preprocessing = backbone.spec().preprocessing.clone();
        let explainer = MethodExplainer::new(spec, method, backbone.clone(), preprocessing.clone(), compute.device);
        let pixels = Tensor::<4>::full([2, 3, 96, 96], 0.4, &explainer.device());
        let batch = ExplainBatch::from_pixels(pixels, &preprocessing);
        let one = explainer.explain_batch(&batch, Targets::Class(3)).unwrap();
        let two = explainer.explain_batch(&batch, Targets::Each(&[vec![5, 3], vec![5, 3]])).unwrap();
        assert_eq!((one.maps.dims()[1], two.maps.dims()[1]), (1, 2));
        assert_eq!(one.maps.into_data(), two.maps.narrow(1, 1, 1).into_data());
        // Grad-CAM: two forward passes and one backward pass per image and class.
        assert_eq!((two.cost.forward, two.cost.backward), (2 * one.cost.forward, 2 * one.cost.backward));
        assert_eq!((one.cost.forward, one.cost.backward), (4, 2));
        assert!(explainer.explain_batch(&batch, Targets::Class(10)).is_err());
    }
}
