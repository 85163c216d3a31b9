//! Clean passes of training images on disk (`data.cache`). Where an image has the same crop in each epoch, the frozen
//! classifier's logits and feature maps are the same too, and later epochs need one forward and one backward pass only.
//!
//! The file has a header and one record for each image, at the image's number: a checksum, the logits as f32, the feature
//! maps as f16. Shapes are not read from the file: each process computes its first batch, which defines them. A record that
//! is missing or damaged is computed again. Feature maps are rounded as in the file whether they come from it or not, so
//! that a run does not depend on the file's content.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::tensor::{Device, Tensor, TensorData};
use half::f16;
use half::slice::HalfFloatSliceExt;
use sha2::{Digest, Sha256};

/// Bytes of the header: a SHA-256 of the run and the shapes.
const HEADER: usize = 32;
/// Bytes of a record's checksum, a SHA-256.
const CHECKSUM: usize = 32;

/// The part of a clean pass over B images that is kept.
#[derive(Clone, Debug)]
pub struct CachedPass {
    /// `[B,K]`
    pub logits: Tensor<2>,
    /// `[B,C,h,w]` each.
    pub features: Vec<Tensor<4>>,
}

/// The clean passes of a run in a file.
#[derive(Debug)]
pub struct CleanCache {
    path: PathBuf,
    /// The fingerprint of the run: a file with another one is replaced.
    run: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
enum State {
    /// Before the first clean pass, which defines the layout.
    #[default]
    Unopened,
    Open(Records),
    /// The file cannot be written.
    Failed(io::Error),
}

#[derive(Debug)]
struct Records {
    file: File,
    layout: Layout,
}

/// The shapes of one image's record.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Layout {
    classes: usize,
    features: Vec<[usize; 3]>,
}

impl CleanCache {
    /// The cache of the run with the fingerprint `run` in the file `path`, which is made at the first clean pass.
    pub fn new(path: PathBuf, run: String) -> Self {
        Self { path, run, state: Mutex::default() }
    }

    /// The clean pass of the images numbered `indices`. `compute` makes it for all of them if the file lacks one; the
    /// records that the file has are used nevertheless.
    pub fn get(&self, indices: &[usize], device: &Device, compute: impl FnOnce() -> CachedPass) -> CachedPass {
        let mut state = self.lock();
        let mut kept = match &mut *state {
            State::Open(records) => records.read(indices),
            _ => vec![None; indices.len()],
        };
        if let State::Open(records) = &*state
            && let Some(kept) = kept.iter().cloned().collect::<Option<Vec<_>>>()
        {
            return records.layout.decode(&kept, device);
        }
        let computed = compute();
        let layout = Layout::of(&computed);
        if matches!(&*state, State::Open(records) if records.layout != layout) {
            return computed;
        }
        let Some(encoded) = layout.encode(&computed) else { return computed };
        if let State::Unopened = *state {
            *state = Records::open(&self.path, &self.run, layout.clone()).map_or_else(State::Failed, State::Open);
            if let State::Open(records) = &mut *state {
                kept = records.read(indices);
            }
        }
        if let State::Open(records) = &mut *state {
            let missing = indices.iter().zip(&encoded).zip(&kept).filter(|(_, kept)| kept.is_none());
            let written = missing.map(|(new, _)| new).try_for_each(|(index, values)| records.write(*index, values));
            if let Err(error) = written {
                // On a full disk the checkpoints need the room.
                let _ = fs::remove_file(&self.path);
                *state = State::Failed(error);
            }
        }
        // An image keeps its first pass, whatever batch it is in later.
        let all: Vec<_> = kept.into_iter().zip(encoded).map(|(kept, new)| kept.unwrap_or(new)).collect();
        layout.decode(&all, device)
    }

    /// The state, also if a thread has panicked while it held the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the cache has stopped, if it has.
    pub fn failure(&self) -> Option<String> {
        match &*self.lock() {
            State::Failed(error) => Some(format!("{}: {error}", self.path.display())),
            _ => None,
        }
    }

    /// Removes the file and stops the cache, to make room for a checkpoint; whether there was a file.
    pub fn make_room(&self) -> bool {
        let mut state = self.lock();
        if let State::Open(_) = *state {
            let reason = "the disk is full, and its room was needed for a checkpoint";
            *state = State::Failed(io::Error::new(io::ErrorKind::StorageFull, reason));
            return fs::remove_file(&self.path).is_ok();
        }
        false
    }

    /// Removes the file; its content can be computed again.
    pub fn remove(&self) {
        *self.lock() = State::Unopened;
        let _ = fs::remove_file(&self.path);
    }
}

impl Records {
    /// Opens the file `path`. A file of another run or layout is emptied.
    fn open(path: &Path, run: &str, layout: Layout) -> io::Result<Self> {
        let own = checksum(format!("{run} {layout:?}").as_bytes());
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut found = [0; HEADER];
        if file.read_exact(&mut found).is_err() || found != own {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&own)?;
        }
        Ok(Self { file, layout })
    }

    fn seek(&mut self, index: usize) -> io::Result<()> {
        let record = (CHECKSUM + self.layout.bytes()) as u64;
        self.file.seek(SeekFrom::Start(HEADER as u64 + index as u64 * record)).map(|_| ())
    }

    /// The values of each of `indices` whose record is there and undamaged.
    fn read(&mut self, indices: &[usize]) -> Vec<Option<Vec<u8>>> {
        let one = |index: &usize| {
            let (mut sum, mut values) = ([0; CHECKSUM], vec![0; self.layout.bytes()]);
            self.seek(*index).ok()?;
            self.file.read_exact(&mut sum).and_then(|()| self.file.read_exact(&mut values)).ok()?;
            (sum == checksum(&values)).then_some(values)
        };
        indices.iter().map(one).collect()
    }

    fn write(&mut self, index: usize, values: &[u8]) -> io::Result<()> {
        self.seek(index)?;
        self.file.write_all(&[&checksum(values)[..], values].concat())
    }
}

impl Layout {
    fn of(computed: &CachedPass) -> Self {
        let [_, classes] = computed.logits.dims();
        let shape = |feature: &Tensor<4>| {
            let [_, channels, height, width] = feature.dims();
            [channels, height, width]
        };
        Self { classes, features: computed.features.iter().map(shape).collect() }
    }

    /// Bytes of one image's values.
    fn bytes(&self) -> usize {
        4 * self.classes + 2 * self.features.iter().map(|shape| shape.iter().product::<usize>()).sum::<usize>()
    }

    /// The bytes of each image; `None` where a value is not finite.
    fn encode(&self, computed: &CachedPass) -> Option<Vec<Vec<u8>>> {
        let [images, _] = computed.logits.dims();
        let logits = computed.logits.clone().try_into_vec_as::<f32>().ok()?;
        let features = computed.features.iter().map(|feature| feature.clone().try_into_vec_as::<f32>());
        let features = features.collect::<Result<Vec<_>, _>>().ok()?;
        // The values of a classifier that has failed are NaN.
        if !features.iter().chain([&logits]).flatten().all(|value| value.is_finite()) {
            return None;
        }
        // Clamped to f16's range: infinity would be no feature.
        let limit = f16::MAX.to_f32();
        let one = |image: usize| {
            let own = &logits[image * self.classes..][..self.classes];
            let mut encoded: Vec<u8> = own.iter().flat_map(|value| value.to_le_bytes()).collect();
            for (feature, shape) in features.iter().zip(&self.features) {
                let cells: usize = shape.iter().product();
                let own = feature[image * cells..][..cells].iter().map(|value| value.clamp(-limit, limit));
                let mut rounded = vec![f16::ZERO; cells];
                rounded.convert_from_f32_slice(&own.collect::<Vec<_>>());
                encoded.extend(rounded.into_iter().flat_map(f16::to_le_bytes));
            }
            encoded
        };
        Some((0..images).map(one).collect())
    }

    fn decode(&self, encoded: &[Vec<u8>], device: &Device) -> CachedPass {
        let images = encoded.len();
        let mut logits = Vec::with_capacity(images * self.classes);
        let mut features: Vec<Vec<f32>> = vec![Vec::new(); self.features.len()];
        for image in encoded {
            let (own, mut rest) = image.split_at(4 * self.classes);
            logits.extend(own.as_chunks::<4>().0.iter().map(|value| f32::from_le_bytes(*value)));
            for (feature, shape) in features.iter_mut().zip(&self.features) {
                let (own, behind) = rest.split_at(2 * shape.iter().product::<usize>());
                let rounded: Vec<f16> = own.as_chunks::<2>().0.iter().map(|value| f16::from_le_bytes(*value)).collect();
                let start = feature.len();
                feature.resize(start + rounded.len(), 0.0);
                rounded.convert_to_f32_slice(&mut feature[start..]);
                rest = behind;
            }
        }
        let tensor = |(values, [c, h, w]): (Vec<f32>, &[usize; 3])| {
            Tensor::from_data(TensorData::new(values, [images, *c, *h, *w]), device)
        };
        CachedPass {
            logits: Tensor::from_data(TensorData::new(logits, [images, self.classes]), device),
            features: features.into_iter().zip(&self.features).map(tensor).collect(),
        }
    }
}

fn checksum(values: &[u8]) -> [u8; CHECKSUM] {
    Sha256::digest(values).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Tolerance;

    fn cache(folder: &Path, run: &str) -> CleanCache {
        CleanCache::new(folder.join("clean.cache"), run.into())
    }

    /// The pass of images whose values depend on their number.
    fn pass(indices: &[usize]) -> CachedPass {
        let device = Device::default();
        let of = |cells: usize| -> Vec<f32> {
            let value = |i: usize, j: usize| ((i * 31 + j) as f32 * 0.37).sin() * 50.0;
            indices.iter().flat_map(|i| (0..cells).map(move |j| value(*i, j))).collect()
        };
        let feature = |c, h, w| Tensor::from_data(TensorData::new(of(c * h * w), [indices.len(), c, h, w]), &device);
        CachedPass {
            logits: Tensor::from_data(TensorData::new(of(3), [indices.len(), 3]), &device),
            features: vec![feature(2, 4, 4), feature(5, 1, 1)],
        }
    }

    fn all(look: &CachedPass) -> Vec<TensorData> {
        [look.logits.to_data()].into_iter().chain(look.features.iter().map(Tensor::to_data)).collect()
    }

    fn refuse() -> CachedPass {
        panic!("it is in the file")
    }

    #[test]
    fn a_kept_pass_is_not_computed_again() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        let first = cache(folder.path(), "a");
        let made = first.get(&[4, 0], &device, || pass(&[4, 0]));
        first.get(&[2], &device, || pass(&[2]));
        for (found, exact) in all(&made).iter().zip(all(&pass(&[4, 0]))) {
            found.assert_approx_eq::<f32>(&exact, Tolerance::relative(1e-3));
        }
        let again = cache(folder.path(), "a");
        again.get(&[7], &device, || pass(&[7])); // defines the shapes
        for kept in [&first, &again] {
            assert_eq!(all(&kept.get(&[4, 0], &device, refuse)), all(&made));
            let other = kept.get(&[0, 2, 4], &device, refuse);
            assert_eq!(other.logits.to_data(), pass(&[0, 2, 4]).logits.to_data(), "each at its place");
        }
    }

    #[test]
    fn an_image_keeps_its_first_pass() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        cache(folder.path(), "a").get(&[0], &device, || pass(&[0]));
        // Also in a new process, whose first pass is never read from the cache: image 0 differs, image 1 is equal.
        for kept in [cache(folder.path(), "a"), cache(folder.path(), "a")] {
            let found = kept.get(&[0, 1], &device, || pass(&[5, 1]));
            assert_eq!(found.logits.to_data(), pass(&[0, 1]).logits.to_data());
        }
    }

    #[test]
    fn values_that_are_not_finite_are_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        let kept = cache(folder.path(), "a");
        let broken = |feature: bool| {
            let mut look = pass(&[0]);
            match feature {
                true => look.features[1] = look.features[1].clone().mul_scalar(f32::NAN),
                false => look.logits = look.logits.mul_scalar(f32::NAN),
            }
            look
        };
        for feature in [true, false] {
            let found = kept.get(&[0], &device, || broken(feature));
            assert!(all(&found).iter().any(|data| data.iter::<f32>().all(f32::is_nan)), "as it was computed");
        }
        let sound = kept.get(&[0], &device, || pass(&[0]));
        assert_eq!(all(&kept.get(&[0], &device, refuse)), all(&sound));
    }

    #[test]
    fn a_batch_with_a_missing_or_damaged_record_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        let kept = cache(folder.path(), "a");
        let made = kept.get(&[0, 1], &device, || pass(&[0, 1]));
        let mut asked = false;
        kept.get(&[1, 3], &device, || {
            asked = true;
            pass(&[1, 3])
        });
        assert!(asked);
        let path = folder.path().join("clean.cache");
        let mut bytes = fs::read(&path).unwrap();
        bytes[HEADER + CHECKSUM + 20] ^= 1;
        fs::write(&path, bytes).unwrap();
        let mut asked = false;
        let again = cache(folder.path(), "a");
        again.get(&[3], &device, || pass(&[3]));
        let mended = again.get(&[0, 1], &device, || {
            asked = true;
            pass(&[0, 1])
        });
        assert!(asked);
        assert_eq!(all(&mended), all(&made));
        assert_eq!(all(&again.get(&[0, 1], &device, refuse)), all(&made));
    }

    #[test]
    fn files_of_other_runs_and_other_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        cache(folder.path(), "a").get(&[0], &device, || pass(&[1]));
        let own = cache(folder.path(), "b").get(&[0], &device, || pass(&[0]));
        assert_eq!(own.logits.to_data(), pass(&[0]).logits.to_data());
        fs::write(folder.path().join("clean.cache"), b"short").unwrap();
        let own = cache(folder.path(), "b").get(&[0], &device, || pass(&[0]));
        assert_eq!(own.logits.to_data(), pass(&[0]).logits.to_data());
    }

    #[test]
    fn a_run_whose_cache_cannot_be_written_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let device = Device::default();
        let kept = CleanCache::new(folder.path().join("no folder/clean.cache"), "a".into());
        let good = cache(folder.path(), "a").get(&[0], &device, || pass(&[0]));
        assert_eq!(all(&kept.get(&[0], &device, || pass(&[0]))), all(&good), "rounded all the same");
        assert!(kept.failure().unwrap().contains("no folder"));
    }

    #[test]
    fn values_beyond_f16_stay_finite() {
        let device = Device::default();
        let layout = Layout { classes: 1, features: vec![[1, 1, 2]] };
        let seen = CachedPass {
            logits: Tensor::from_data([[1e30f32]], &device),
            features: vec![Tensor::from_data([[[[1e6f32, -1e6]]]], &device)],
        };
        let decoded = layout.decode(&layout.encode(&seen).unwrap(), &device);
        assert_eq!(decoded.logits.into_data().iter::<f32>().next(), Some(1e30));
        assert_eq!(decoded.features[0].to_data().iter::<f32>().collect::<Vec<_>>(), [65504.0, -65504.0]);
    }
}
