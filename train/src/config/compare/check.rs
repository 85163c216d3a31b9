//! Rules across the keys of a comparison.

use super::{CompareConfig, ExplainerEntry, Source};
use explainer_attribution::MethodSpec;
use explainer_metrics::{Requirement, metric};

impl CompareConfig {
    /// Rules across keys. One message for each that is broken.
    pub(in crate::config) fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.check_explainers(&mut found);
        self.check_metrics(&mut found);
        let names: Vec<String> = self.explainers.iter().map(ExplainerEntry::name).collect();
        if let Some(reference) = &self.reference
            && !names.contains(reference)
        {
            found.push(format!("reference: found `{reference}`, expected one of the explainers: {}", names.join(", ")));
        }
        found
    }

    fn check_explainers(&self, found: &mut Vec<String>) {
        let count = self.explainers.len();
        if count < 2 {
            found.push(format!("explainers: found {count}, expected two or more"));
        }
        let mut names: Vec<String> = Vec::new();
        for (place, explainer) in self.explainers.iter().enumerate() {
            let key = format!("explainers[{place}]");
            match explainer.source() {
                None => found.push(format!("{key}: expected exactly one of the keys artifact, train and method")),
                Some(Source::Method(method)) => {
                    if let Err(error) = method.parse::<MethodSpec>() {
                        found.push(format!("{key}.method: {error}"));
                    }
                    let learned = [
                        ("auxiliary_weights", explainer.auxiliary_weights.is_some()),
                        ("metric", explainer.metric.is_some()),
                        ("draws", explainer.draws.is_some()),
                        ("family", explainer.family.is_some()),
                    ];
                    for (name, _) in learned.iter().filter(|(_, given)| *given) {
                        found.push(format!("{key}.{name}: not allowed for a method without training; remove it"));
                    }
                }
                Some(_) => {}
            }
            let name = explainer.name();
            if names.contains(&name) {
                found.push(format!("{key}.name: `{name}` is listed twice; give one of them another `name`"));
            }
            names.push(name);
        }
        let learned = |one: &ExplainerEntry| matches!(one.source(), Some(Source::Artifact(_) | Source::Train(_)));
        if self.backbone.is_none() && !self.explainers.iter().any(learned) {
            found.push(
                "backbone: required, since no explainer is a trained one, whose artifact names the classifier".into(),
            );
        }
    }

    fn check_metrics(&self, found: &mut Vec<String>) {
        let mut known = Vec::new();
        for (place, name) in self.metrics.iter().enumerate() {
            let spec = match metric(name) {
                Ok(metric) => metric.spec(),
                Err(error) => {
                    found.push(format!("metrics[{place}]: {error}"));
                    continue;
                }
            };
            let scenes = self.images.split(':').next() == Some("shapes");
            match spec.needs {
                Requirement::Objects if self.objects.is_none() && !scenes => {
                    found.push(format!("metrics[{place}]: {name} requires the key `objects`"));
                }
                Requirement::Fixations if self.fixations.is_none() => {
                    found.push(format!("metrics[{place}]: {name} requires the key `fixations`"));
                }
                _ if known.contains(&spec.name) => {
                    found.push(format!("metrics[{place}]: {name} is listed twice"));
                }
                _ => {}
            }
            known.push(spec.name);
        }
        let worst = self.gallery.metric.as_ref().and_then(|name| Some((name, metric(name).ok()?.spec().name)));
        match (&self.gallery.metric, worst) {
            (Some(name), None) => found.push(format!("gallery.metric: there is no metric `{name}`")),
            (_, Some((name, own))) if !known.contains(&own) => {
                found.push(format!("gallery.metric: found `{name}`, expected one of metrics: {}", known.join(", ")));
            }
            _ => {}
        }
    }
}
