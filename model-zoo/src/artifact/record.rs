//! The classifier that an artifact records: loading it, and its randomised versions.

use std::sync::Arc;

use super::BackboneRecord;
use crate::backbone::{self, Backbone, BackboneError};
use crate::device::Compute;
use crate::image::Preprocessing;
use crate::weights::source::{Progress, WeightSource};

impl BackboneRecord {
    /// The same classifier with its weights at another place.
    #[must_use]
    pub fn with_weights(self, weights: Option<&str>) -> Self {
        match weights {
            Some(weights) => Self { weights: weights.to_owned(), ..self },
            None => self,
        }
    }

    /// The SHA-256 that the file of weights must have. `None` if it is not recorded, and for weights that are no file
    /// (`embedded`, `random:SEED`).
    #[must_use]
    pub fn file_sha256(&self) -> Option<&str> {
        let no_file = matches!(self.weights.parse(), Ok(WeightSource::Embedded | WeightSource::Random { .. }));
        self.sha256.as_deref().filter(|_| !no_file)
    }

    /// Loads the classifier. `preprocessing` is for a TorchScript file that does not state its own; `progress` receives
    /// the bytes of a download.
    ///
    /// # Errors
    /// As [`backbone::open`].
    pub fn load(
        &self,
        preprocessing: Option<&Preprocessing>,
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Arc<dyn Backbone>, BackboneError> {
        backbone::open(&self.name, &self.weights, self.file_sha256(), preprocessing, compute, progress)
    }

    /// Loads the classifier once for each of `shares` in 0..=1, with at least this share of its tensors randomised, from
    /// the logits to the image (cascading randomisation, Adebayo et al., 2018).
    ///
    /// # Errors
    /// As [`backbone::cascade`].
    pub fn cascade(
        &self,
        shares: &[f64],
        compute: &Compute,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<Arc<dyn Backbone>>, BackboneError> {
        let networks = backbone::cascade(&self.name, &self.weights, self.file_sha256(), shares, compute, progress)?;
        Ok(networks.into_iter().map(|network| Arc::new(network) as Arc<dyn Backbone>).collect())
    }
}
