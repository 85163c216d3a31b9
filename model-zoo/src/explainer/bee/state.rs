//! The mixtures of a run as one file of tensors, exact to the last bit.
//!
//! For each metric, by its name: `INS.theta` `[D,F]`, `INS.mean` and `INS.precision` `[5,D]`, `INS.centre` `[F]`,
//! `INS.history` `[n]`, all f64; `INS.plays` and `INS.wins` `[5]`, i64. Rows are in the order of
//! [`BaselineDistribution::ALL`]. The shape that no tensor has is in the file's metadata. JSON is not used: it may round numbers.

use std::collections::{BTreeMap, HashMap};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::BeeError;
use super::family::BaselineDistribution;
use super::history::History;
use super::metric::RewardMetric;
use super::mixture::{Mixture, MixtureConfig};
use super::posterior::Arm;

/// Key of the metadata; its value is a JSON object with the three keys below.
const ABOUT: &str = "mixtures";
const METRICS: &str = "metrics";
const THETA_PRECISION: &str = "theta_precision";
const HISTORY: &str = "history";

/// A tensor of a file: name, type, shape, bytes.
pub(crate) type Stored = (String, Dtype, Vec<usize>, Vec<u8>);

/// The mixtures of a run: one for each metric, all of one shape.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixtures(Vec<Mixture>);

impl Mixtures {
    /// The priors of these metrics, each counted once.
    pub fn prior(metrics: &[RewardMetric], config: &MixtureConfig, seed: u64) -> Self {
        let mut metrics = metrics.to_vec();
        metrics.sort_unstable();
        metrics.dedup();
        Self(metrics.into_iter().map(|metric| Mixture::prior(metric, config.clone(), seed)).collect())
    }

    /// One after the other, in the order of [`RewardMetric::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = &Mixture> {
        self.0.iter()
    }

    /// The same, to learn.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Mixture> {
        self.0.iter_mut()
    }

    /// The metrics that there are mixtures for.
    pub fn metrics(&self) -> Vec<RewardMetric> {
        self.0.iter().map(Mixture::metric).collect()
    }

    /// The mixture of a metric.
    ///
    /// # Errors
    /// [`BeeError::NoMixture`] lists those that there are.
    pub fn of(&self, metric: RewardMetric) -> Result<&Mixture, BeeError> {
        let found = self.0.iter().find(|mixture| mixture.metric() == metric);
        found.ok_or_else(|| BeeError::NoMixture { metric, known: self.metrics() })
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`BeeError::State`] if there is no mixture, or if the tensors cannot be written.
    pub fn to_bytes(&self) -> Result<Vec<u8>, BeeError> {
        self.to_bytes_with(Vec::new())
    }

    /// The bytes of a file that holds other tensors, too.
    pub(crate) fn to_bytes_with(&self, others: Vec<Stored>) -> Result<Vec<u8>, BeeError> {
        let failed = |reason: String| BeeError::State { origin: "mixtures to be saved".into(), reason };
        let Some(config) = self.0.first().map(Mixture::config) else { return Err(failed("there is none".into())) };
        let mut tensors = others;
        for mixture in &self.0 {
            let (dimensions, features) = (mixture.config.dimensions, mixture.config.features);
            let arms = |of: fn(&Arm) -> &[f64]| mixture.arms.iter().flat_map(of).copied().collect::<Vec<f64>>();
            let counts = |of: fn(&Arm) -> u64| mixture.arms.iter().map(of).collect::<Vec<u64>>();
            let f64s = [
                ("theta", vec![dimensions, features], mixture.theta.clone()),
                ("mean", vec![BaselineDistribution::COUNT, dimensions], arms(|arm| &arm.mean)),
                ("precision", vec![BaselineDistribution::COUNT, dimensions], arms(|arm| &arm.precision)),
                ("centre", vec![features], mixture.centre.clone()),
                ("history", vec![mixture.history.kept().len()], mixture.history.kept().to_vec()),
            ];
            for (name, shape, values) in f64s {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                tensors.push((format!("{}.{name}", mixture.metric), Dtype::F64, shape, bytes));
            }
            for (name, values) in [("plays", counts(|arm| arm.plays)), ("wins", counts(|arm| arm.wins))] {
                let bytes = values.iter().flat_map(|value| (*value as i64).to_le_bytes()).collect();
                tensors.push((
                    format!("{}.{name}", mixture.metric),
                    Dtype::I64,
                    vec![BaselineDistribution::COUNT],
                    bytes,
                ));
            }
        }
        let names: Vec<&str> = self.0.iter().map(|mixture| mixture.metric.name()).collect();
        let about = BTreeMap::from([
            (METRICS, names.join(",")),
            (THETA_PRECISION, config.theta_precision.to_string()),
            (HISTORY, config.history.to_string()),
        ]);
        let about = serde_json::to_string(&about).map_err(|error| failed(error.to_string()))?;
        // One entry: those of a hash map are written in any order, and equal mixtures must be equal files.
        let metadata = HashMap::from([(ABOUT.to_owned(), about)]);
        let views = tensors
            .iter()
            .map(|(name, dtype, shape, bytes)| Ok((name, TensorView::new(*dtype, shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views.and_then(|views| safetensors::serialize(views, Some(metadata)));
        bytes.map_err(|error| failed(error.to_string()))
    }

    /// Reads what [`Mixtures::to_bytes`] wrote; `origin` names it in messages. Every shape and value is checked.
    ///
    /// # Errors
    /// [`BeeError::State`] names the tensor and what is wrong with it.
    pub fn from_bytes(bytes: &[u8], origin: &str) -> Result<Self, BeeError> {
        read(bytes).map(Self).map_err(|reason| BeeError::State { origin: origin.into(), reason })
    }
}

/// The mixtures in a file, or what is wrong with it.
fn read(bytes: &[u8]) -> Result<Vec<Mixture>, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|error| error.to_string())?;
    let about = header.metadata().as_ref().and_then(|metadata| metadata.get(ABOUT));
    let about = about.ok_or_else(|| format!("its metadata lack {ABOUT:?}"))?;
    let metadata: BTreeMap<String, String> =
        serde_json::from_str(about).map_err(|error| format!("{ABOUT:?} of its metadata: {error}"))?;
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let about = |key: &str| metadata.get(key).ok_or_else(|| format!("its metadata lack {key:?}"));
    let theta_precision: f64 = number(about(THETA_PRECISION)?, THETA_PRECISION)?;
    let history: usize = number(about(HISTORY)?, HISTORY)?;
    if !theta_precision.is_finite() || theta_precision <= 1.0 {
        return Err(format!("{THETA_PRECISION} is {theta_precision}, expected a number above 1"));
    }
    let mut mixtures: Vec<Mixture> = Vec::new();
    for name in about(METRICS)?.split(',') {
        let metric: RewardMetric = name.parse().map_err(|error: super::UnknownMetric| error.to_string())?;
        if mixtures.iter().any(|other| other.metric >= metric) {
            return Err(format!("{METRICS} names {metric} twice or out of order"));
        }
        mixtures.push(mixture(&file, metric, theta_precision, history)?);
    }
    let shape = |mixture: &Mixture| (mixture.config.dimensions, mixture.config.features);
    match mixtures.windows(2).all(|pair| matches!(pair, [a, b] if shape(a) == shape(b))) {
        true => Ok(mixtures),
        false => Err("its mixtures are not of one shape".into()),
    }
}

fn number<T: std::str::FromStr>(text: &str, key: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{key} is {text:?}, expected a number"))
}

fn mixture(
    file: &SafeTensors<'_>,
    metric: RewardMetric,
    theta_precision: f64,
    history: usize,
) -> Result<Mixture, String> {
    let theta = format!("{metric}.theta");
    let (shape, theta_values) = f64s(file, &theta)?;
    let [dimensions, features] = shape[..] else {
        return Err(format!("{theta} has shape {shape:?}, expected two axes"));
    };
    if dimensions == 0 || features == 0 {
        return Err(format!("{theta} has shape {shape:?}, expected no axis of 0"));
    }
    let of = |name: &str, expected: &[usize]| {
        let name = format!("{metric}.{name}");
        let (shape, values) = f64s(file, &name)?;
        match shape == expected {
            true => Ok(values),
            false => Err(format!("{name} has shape {shape:?}, expected {expected:?}")),
        }
    };
    let (mean, precision) = (
        of("mean", &[BaselineDistribution::COUNT, dimensions])?,
        of("precision", &[BaselineDistribution::COUNT, dimensions])?,
    );
    if precision.iter().any(|q| *q <= 0.0) {
        return Err(format!("{metric}.precision has values that are not above 0"));
    }
    let (plays, wins) = (counts(file, &format!("{metric}.plays"))?, counts(file, &format!("{metric}.wins"))?);
    if plays.iter().zip(&wins).any(|(plays, wins)| wins > plays) {
        return Err(format!("{metric}.wins are {wins:?}, more than {metric}.plays, {plays:?}"));
    }
    let name = format!("{metric}.history");
    let (shape, kept) = f64s(file, &name)?;
    let seen = plays.iter().fold(0_u64, |sum, plays| sum.saturating_add(*plays));
    let kept = History::restored(kept, history, seen)
        .ok_or_else(|| format!("{name} has shape {shape:?}, expected the smaller of {seen} plays and {history}"))?;
    let arms = std::array::from_fn(|i| {
        let row = |values: &[f64]| values.iter().skip(i * dimensions).take(dimensions).copied().collect();
        Arm { mean: row(&mean), precision: row(&precision), plays: plays[i], wins: wins[i] }
    });
    let config = MixtureConfig { dimensions, features, theta_precision, history };
    Ok(Mixture { metric, config, theta: theta_values, arms, history: kept, centre: of("centre", &[features])? })
}

/// Shape and values of a tensor of finite f64.
fn f64s(file: &SafeTensors<'_>, name: &str) -> Result<(Vec<usize>, Vec<f64>), String> {
    let (shape, values) = values(file, name, Dtype::F64, f64::from_le_bytes)?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok((shape, values)),
        false => Err(format!("{name} has values that are not finite")),
    }
}

/// Counts of the arms.
fn counts(file: &SafeTensors<'_>, name: &str) -> Result<[u64; BaselineDistribution::COUNT], String> {
    let (shape, values) = values(file, name, Dtype::I64, i64::from_le_bytes)?;
    let counts: Option<Vec<u64>> = values.iter().map(|value| u64::try_from(*value).ok()).collect();
    let counts = counts.and_then(|counts| <[u64; BaselineDistribution::COUNT]>::try_from(counts).ok());
    counts.ok_or_else(|| {
        format!("{name} has shape {shape:?} and values {values:?}, expected {} counts", BaselineDistribution::COUNT)
    })
}

fn values<T>(
    file: &SafeTensors<'_>,
    name: &str,
    dtype: Dtype,
    value: fn([u8; 8]) -> T,
) -> Result<(Vec<usize>, Vec<T>), String> {
    let tensor = file.tensor(name).map_err(|error| format!("{name}: {error}"))?;
    if tensor.dtype() != dtype {
        return Err(format!("{name} is of type {:?}, expected {dtype:?}", tensor.dtype()));
    }
    let (values, _) = tensor.data().as_chunks::<8>();
    Ok((tensor.shape().to_vec(), values.iter().copied().map(value).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explainer::bee::SplitMix64;

    fn learned() -> Mixtures {
        let config = MixtureConfig { dimensions: 7, features: 4, theta_precision: 12.5, history: 10 };
        let mut mixtures = Mixtures::prior(&[RewardMetric::Ins, RewardMetric::Adp, RewardMetric::Ins], &config, 3);
        let mut stream = SplitMix64::new(0, "world", &[]);
        for mixture in mixtures.iter_mut() {
            for round in 0..25 {
                let features: Vec<f64> = (0..4).map(|_| stream.unit()).collect();
                let family = mixture.choose(&features, &mut SplitMix64::new(0, "choice", &[round])).unwrap();
                mixture.learn(&features, family, stream.normal(), 0).unwrap();
            }
        }
        mixtures
    }

    #[test]
    fn what_is_read_is_what_was_written_to_the_last_bit() {
        let mixtures = learned();
        let bytes = mixtures.to_bytes().unwrap();
        let read = Mixtures::from_bytes(&bytes, "f").unwrap();
        assert_eq!(read, mixtures);
        assert_eq!(read.metrics(), [RewardMetric::Adp, RewardMetric::Ins], "each once, in order");
        let fresh = Mixtures::prior(&[RewardMetric::Sic], &MixtureConfig::new(3), 0);
        assert_eq!(Mixtures::from_bytes(&fresh.to_bytes().unwrap(), "f").unwrap(), fresh);
    }

    /// A mixture that went through a file goes on as the one that did not.
    #[test]
    fn learning_goes_on_where_it_was() {
        let mut straight = learned();
        let mut resumed = Mixtures::from_bytes(&straight.to_bytes().unwrap(), "f").unwrap();
        for mixtures in [&mut straight, &mut resumed] {
            for mixture in mixtures.iter_mut() {
                for round in 0..25 {
                    let mut stream = SplitMix64::new(1, "later", &[round]);
                    let features: Vec<f64> = (0..4).map(|_| stream.unit()).collect();
                    let family = mixture.choose(&features, &mut stream).unwrap();
                    mixture.learn(&features, family, stream.normal(), 0).unwrap();
                }
            }
        }
        assert_eq!(straight, resumed);
    }

    #[test]
    fn a_metric_without_a_mixture_is_a_clear_error() {
        let error = learned().of(RewardMetric::Del).unwrap_err();
        assert_eq!(
            error,
            BeeError::NoMixture { metric: RewardMetric::Del, known: vec![RewardMetric::Adp, RewardMetric::Ins] }
        );
        let text = error.to_string();
        assert!(text.contains("DEL") && text.contains("ADP, INS") && text.contains("explainer.metrics"), "{text}");
        assert_eq!(learned().of(RewardMetric::Ins).unwrap().lessons(), 25);
    }

    #[test]
    fn damage_is_found_and_named() {
        let refused = |change: &dyn Fn(&mut Mixture)| {
            let mut mixtures = learned();
            mixtures.iter_mut().take(1).for_each(change);
            Mixtures::from_bytes(&mixtures.to_bytes().unwrap(), "some/file").unwrap_err().to_string()
        };
        for (message, part) in [
            (refused(&|m| m.arms[2].precision[1] = -1.0), "ADP.precision"),
            (refused(&|m| m.arms[2].mean[1] = f64::NAN), "ADP.mean"),
            (refused(&|m| m.theta[0] = f64::INFINITY), "ADP.theta"),
            (refused(&|m| m.arms[0].wins = m.arms[0].plays + 1), "ADP.wins"),
            (refused(&|m| m.arms[0].plays = u64::MAX), "ADP.plays"),
        ] {
            assert!(message.starts_with("some/file: ") && message.contains(part), "{message}");
        }
        let bytes = learned().to_bytes().unwrap();
        for end in [0, 5, 100, bytes.len() - 1] {
            assert!(Mixtures::from_bytes(&bytes[..end], "f").is_err(), "{end} bytes");
        }
        assert!(Mixtures(Vec::new()).to_bytes().is_err());
    }
}
