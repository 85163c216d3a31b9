//! Import of released checkpoints: Lightning `.ckpt` files of T-TAME, P-TAME and their relatives, and state dicts.

use std::path::Path;

use burn::tensor::Device;

use super::error::ArtifactError;
use super::{checked, read_values};
use crate::backbone::TapSpec;
use crate::explainer::{HeadConfig, Method, ShapeError, TameConfig, TameHead};
use crate::weights::{WeightReader, WeightsError};

/// An imported head.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The head; [`TameHead::config`] is its shape.
    pub head: TameHead,
    /// The number of tensors in the file that are not the head's (the frozen backbone, the optimizer's state).
    pub ignored: usize,
}

/// Prefixes of the heads of T-TAME and P-TAME.
const TTAME: &str = "generic.attn_mech.";
const PTAME: &str = "net.attention.";
/// Names of the head's tensors in the known kinds of checkpoint, by a tensor's own name.
const LAYOUTS: [fn(&str) -> Option<String>; 6] = [
    |name| Some(format!("state_dict.{TTAME}{name}")),
    |name| Some(format!("{TTAME}{name}")),
    |name| Some(format!("state_dict.{PTAME}{name}")),
    |name| Some(format!("{PTAME}{name}")),
    |name| Some(format!("state_dict.{name}")),
    |name| Some(name.into()),
];
/// The tensor that every head has.
const FUSER: &str = "fuser.weight";

/// Reads the attention head of a T-TAME checkpoint (prefix `generic.attn_mech.`), a P-TAME one (prefix
/// `net.attention.`), or the head's own state dict, as a head of `method`, for `taps` in the checkpoint's order (with
/// P-TAME the auxiliary's) and images of `side` pixels.
///
/// The file is parsed as data, nothing in it is executed. Channels, classes and whether the fusion has a bias come from
/// the tensors; the size of the maps, which is in no tensor, from the taps and the method.
///
/// # Errors
/// [`ArtifactError::NoHead`]; [`ArtifactError::Value`] if the head is not one for `taps` or of `method`;
/// [`ArtifactError::Shape`]; [`ArtifactError::Weights`] for an unreadable file and for tensors that are missing,
/// mis-shaped or not a head's; [`ArtifactError::Tensor`].
pub fn import(
    path: &Path,
    method: Method,
    taps: &[TapSpec],
    side: usize,
    device: &Device,
) -> Result<Imported, ArtifactError> {
    let mut reader = WeightReader::open(path, device)?;
    let mut prefix = None;
    for layout in LAYOUTS {
        reader = reader.with_alias(layout);
        if reader.shape(FUSER).is_some() {
            prefix = layout("");
            break;
        }
    }
    let Some(prefix) = prefix else {
        let prefixes = LAYOUTS.iter().filter_map(|layout| layout("")).map(|p| format!("{p:?}")).collect::<Vec<_>>();
        return Err(ArtifactError::NoHead { path: path.into(), tensor: FUSER, prefixes: prefixes.join(", ") });
    };
    let theirs = match method {
        Method::Ptame if prefix.ends_with(TTAME) => Some(format!("another: the head has the prefix {TTAME:?}")),
        Method::Ptame => None,
        _ => prefix.ends_with(PTAME).then(|| format!("ptame: the head has the prefix {PTAME:?}")),
    };
    if let Some(expected) = theirs {
        return Err(ArtifactError::Value { key: "method", found: method.to_string(), expected });
    }
    let config = infer(&reader, method, taps, side)?;
    config.check()?;
    let values = read_values(&mut reader, config.tensors());
    let ignored = match reader.finish("an attention head for these taps") {
        Ok(_) => 0,
        Err(WeightsError::Mismatch { origin, network, missing, misshaped, unused }) => {
            let (own, foreign): (Vec<_>, Vec<_>) = unused.into_iter().partition(|name| name.starts_with(&prefix));
            // Without a prefix every tensor has to be the head's.
            if !(missing.is_empty() && misshaped.is_empty() && own.is_empty()) {
                return Err(WeightsError::Mismatch { origin, network, missing, misshaped, unused: own }.into());
            }
            foreign.len()
        }
        Err(error) => return Err(error.into()),
    };
    Ok(Imported { head: TameHead::from_values(config, checked(values, path)?, device), ignored })
}

/// The configuration of the head by its tensors.
fn infer(reader: &WeightReader, method: Method, taps: &[TapSpec], side: usize) -> Result<TameConfig, ArtifactError> {
    let own: Vec<usize> = (0..)
        .map_while(|i| reader.shape(&format!("convs.{i}.weight")))
        .map(|shape| shape.first().copied().unwrap_or(0))
        .collect();
    let expected: Vec<usize> = taps.iter().map(|tap| tap.channels).collect();
    if !own.is_empty() && own != expected {
        let names: Vec<&str> = taps.iter().map(|tap| tap.name.as_str()).collect();
        return Err(ArtifactError::Value {
            key: "taps",
            found: format!("{names:?} with channels {expected:?}"),
            expected: format!("taps with the checkpoint's channels, {own:?}, in that order"),
        });
    }
    let classes = reader.rows(FUSER, 0);
    let shape = match method {
        Method::Ptame => TameConfig::ptame(taps, classes, side).map_err(ShapeError::new)?,
        _ => TameConfig::ttame(taps, classes, side),
    };
    Ok(TameConfig { branches: !own.is_empty(), fuse_bias: reader.shape("fuser.bias").is_some(), ..shape })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::tests::contains;
    use crate::explainer::Upsampling;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn taps() -> Vec<TapSpec> {
        vec![TapSpec::map("layer2", 2, 8), TapSpec::map("layer3", 3, 16)]
    }

    /// The rule of `tests/fixtures/lightning.py`.
    fn check_values(head: &TameHead) {
        for (name, _, values) in head.values() {
            for (j, value) in values.into_iter().enumerate() {
                assert_eq!(value, (j + 1) as f32 / 64.0 + name.len() as f32, "element {j} of {name}");
            }
        }
    }

    #[test]
    fn a_lightning_checkpoint_is_read() {
        let imported = import(&fixture("lightning.ckpt"), Method::Ttame, &taps(), 224, &Device::flex()).unwrap();
        let config = TameConfig {
            channels: vec![2, 3],
            classes: 4,
            map_size: [28, 28],
            branches: true,
            fuse_bias: true,
            upsampling: Upsampling::Resize,
        };
        assert_eq!(*imported.head.config(), config);
        check_values(&imported.head);
        assert_eq!(imported.ignored, 3, "two tensors of the backbone, one of the optimizer");
    }

    #[test]
    fn a_state_dict_of_ptame_is_read() {
        let imported = import(&fixture("ptame.pth"), Method::Ptame, &taps(), 224, &Device::flex()).unwrap();
        assert_eq!(*imported.head.config(), TameConfig::ptame(&taps(), 4, 224).unwrap());
        check_values(&imported.head);
        assert_eq!(imported.ignored, 2);
    }

    #[test]
    fn a_head_of_another_method_is_refused() {
        let refused = |file: &str, method, taps: &[TapSpec]| {
            import(&fixture(file), method, taps, 224, &Device::flex()).unwrap_err().to_string()
        };
        contains(&refused("ptame.pth", Method::Ttame, &taps()), &["method is ttame", "ptame", "net.attention."]);
        contains(&refused("lightning.ckpt", Method::Ptame, &taps()), &["method is ptame", "generic.attn_mech."]);
        let apart = [TapSpec::map("layer2", 2, 8), TapSpec::map("features", 3, 14)];
        contains(&refused("ptame.pth", Method::Ptame, &apart), &["features", "16 cells", "28", "layer2"]);
    }

    #[test]
    fn taps_of_other_channels_are_refused() {
        for wrong in [taps()[..1].to_vec(), taps().into_iter().rev().collect()] {
            let text = import(&fixture("lightning.ckpt"), Method::Ttame, &wrong, 224, &Device::flex())
                .unwrap_err()
                .to_string();
            contains(&text, &["layer", "expected taps with the checkpoint's channels, [2, 3]"]);
        }
    }

    #[test]
    fn a_file_without_a_head_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
        std::fs::write(&path, safetensors::serialize([("conv.weight", view)], None).unwrap()).unwrap();
        let text = import(&path, Method::Ttame, &taps(), 224, &Device::flex()).unwrap_err().to_string();
        contains(&text, &["w.safetensors", "fuser.weight", "generic.attn_mech.", "net.attention."]);
    }

    #[test]
    fn an_own_artifact_is_a_checkpoint_too_and_nothing_in_it_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let head = import(&fixture("lightning.ckpt"), Method::Ttame, &taps(), 224, &Device::flex()).unwrap().head;
        let mut tensors = head.values();
        let path = folder.path().join("head.safetensors");
        std::fs::write(&path, crate::artifact::serialise(&tensors).unwrap()).unwrap();
        let imported = import(&path, Method::Ttame, &taps(), 224, &Device::flex()).unwrap();
        assert_eq!(imported.ignored, 0);
        check_values(&imported.head);
        tensors.retain(|(name, ..)| name != "convs.1.bias");
        std::fs::write(&path, crate::artifact::serialise(&tensors).unwrap()).unwrap();
        let text = import(&path, Method::Ttame, &taps(), 224, &Device::flex()).unwrap_err().to_string();
        contains(&text, &["missing", "convs.1.bias"]);
    }
}
