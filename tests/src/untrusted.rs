//! Parsers of untrusted files, as targets of a fuzzer: any bytes give a value or an error, never a panic.
//!
//! `tests/tests/suite/untrusted.rs` runs them on files that [`damaged`] mutates; `tests/fuzz` runs them under libFuzzer, which
//! is guided by coverage.

use std::fs;
use std::path::{Component, Path};

use burn::tensor::Device;
use explainer_train::config::{CompareConfig, Config};
use explainer_train::data::{FileSet, ImageSet, Objects, ShardSet};
use explainer_zoo::artifact::bee::{BeeArtifact, is_bee};
use explainer_zoo::artifact::{Artifact, ArtifactConfig, CONFIG, MODEL, lightning};
use explainer_zoo::backbone::{BackboneSpec, TapSpec, imagenet};
use explainer_zoo::explainer::{Method, TameConfig, TameHead};
use explainer_zoo::image::{Filter, Preprocessing};

/// A parser, and valid files for it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name.
    pub name: &'static str,
    /// Parses bytes; it may write them to the folder first.
    pub parse: fn(&[u8], &Path),
    /// Valid files, to be mutated.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// Every parser.
pub const TARGETS: [Target; 6] = [
    Target { name: "artifact", parse: artifact, seeds: artifacts },
    Target { name: "weights", parse: weights, seeds: weight_files },
    Target { name: "config", parse: config, seeds: configs },
    Target { name: "shards", parse: shards, seeds: tars },
    Target { name: "list", parse: list, seeds: lists },
    Target { name: "objects", parse: objects, seeds: annotations },
];

/// The root of the repository.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Splits an input at its first zero byte.
fn halves(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == 0) {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, bytes).expect("a file");
    path
}

fn preprocessing() -> Preprocessing {
    Preprocessing { resize: 8, crop: 8, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] }
}

fn taps() -> [TapSpec; 2] {
    [TapSpec::map("layer2", 2, 8), TapSpec::map("layer3", 3, 16)]
}

/// `config.json`, a zero, `model.safetensors`.
fn artifact(bytes: &[u8], folder: &Path) {
    let (config, model) = halves(bytes);
    write(folder, CONFIG, config);
    write(folder, MODEL, model);
    let _ = match is_bee(folder) {
        true => BeeArtifact::load(folder, &Device::flex()).map(drop),
        false => Artifact::load(folder, &Device::flex()).map(drop),
    };
}

fn artifacts() -> Vec<Vec<u8>> {
    let backbone = BackboneSpec {
        name: "resnet18".into(),
        preprocessing: imagenet(),
        classes: 4,
        taps: taps().into(),
        default_taps: taps().map(|tap| tap.name).into(),
        auxiliary_taps: taps().map(|tap| tap.name).into(),
        weights_sha256: Some("ab".repeat(32)),
    };
    let head = TameHead::new(TameConfig::ttame(&backbone.taps, backbone.classes, 64), 1, &Device::flex());
    let names = backbone.default_taps.clone();
    let config = ArtifactConfig::new(Method::Ttame, head.config().clone(), names, &backbone, "hf://timm/resnet18");
    let folder = tempfile::tempdir().expect("a folder");
    Artifact { config, head: head.into() }.save(folder.path(), "").expect("an artifact");
    let read = |name: &str| fs::read(folder.path().join(name)).expect("a file");
    let bee = br#"{"schema_version": 1, "method": "bee", "sites": ["layer3"], "metrics": ["INS"]}"#;
    vec![[read(CONFIG), vec![0], read(MODEL)].concat(), bee.to_vec()]
}

/// Whether it is a PyTorch file, and the file.
fn weights(bytes: &[u8], folder: &Path) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let path = write(folder, if kind & 1 == 1 { "head.pth" } else { "head.safetensors" }, file);
    let method = if kind & 2 == 2 { Method::Ptame } else { Method::Ttame };
    let _ = lightning::import(&path, method, &taps(), 224, &Device::flex());
}

fn weight_files() -> Vec<Vec<u8>> {
    let fixture =
        |name: &str| fs::read(Path::new(ROOT).join("model-zoo/tests/fixtures").join(name)).expect("a fixture");
    let own = artifacts().swap_remove(0);
    let of = |kind: u8, file: &[u8]| [&[kind][..], file].concat();
    vec![of(1, &fixture("lightning.ckpt")), of(3, &fixture("ptame.pth")), of(0, halves(&own).1)]
}

/// A run's or a comparison's YAML, and behind a zero the command line's overrides, one a line.
fn config(bytes: &[u8], _: &Path) {
    let (text, overrides) = halves(bytes);
    let Ok(text) = str::from_utf8(text) else { return };
    let overrides: Vec<String> = String::from_utf8_lossy(overrides).lines().map(str::to_owned).collect();
    let path = Path::new("run.yaml");
    if let Ok(config) = Config::parse(text, path, &overrides) {
        let written = config.to_yaml().expect("YAML");
        assert_eq!(Config::parse(&written, path, &[]).expect("what was written"), config, "{written}");
    }
    let _ = CompareConfig::parse(text, path, &overrides);
}

fn configs() -> Vec<Vec<u8>> {
    let mut files: Vec<_> = fs::read_dir(Path::new(ROOT).join("configs")).expect("a folder").flatten().collect();
    files.sort_by_key(|file| file.file_name());
    let yaml = files.iter().map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "yaml"));
    let mut seeds: Vec<Vec<u8>> = yaml.map(|path| fs::read(path).expect("a file")).collect();
    let overrides = b"\0train.epochs=2\nbackbone.taps=[layer4]\noptimizer={name: sgd, lr: 1e-3}";
    seeds.push([&seeds[0][..], overrides].concat());
    seeds
}

/// A tar file.
fn shards(bytes: &[u8], folder: &Path) {
    let Ok(set) = ShardSet::open(&write(folder, "a.tar", bytes), preprocessing()) else { return };
    set.digest();
    for index in 0..set.len() {
        let id = set.id(index);
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
        assert!(Path::new(&id).components().all(inside), "{id:?} leads out of the shard");
        set.class(index);
    }
    let _ = set.truth(0, &Objects::default());
}

fn tars() -> Vec<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    let long = format!("{}/b.jpg", "a".repeat(120));
    for (name, bytes) in [("a.png", &b"none"[..]), ("a.cls", b"17\n"), ("b/c.webp", b"none"), (&long, b"none")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, name, bytes).expect("an entry");
    }
    let extended = [("path", &b"d.png"[..]), ("size", b"4")];
    builder.append_pax_extensions(extended).expect("attributes");
    let mut header = tar::Header::new_ustar();
    header.set_size(4);
    builder.append_data(&mut header, "c.png", &b"none"[..]).expect("an entry");
    vec![builder.into_inner().expect("a tar file"), vec![0; 1024]]
}

/// A list of files, or a CSV.
fn list(bytes: &[u8], folder: &Path) {
    let Ok(set) = FileSet::open(&write(folder, "l.txt", bytes), preprocessing()) else { return };
    assert!(!set.is_empty());
    for index in 0..set.len() {
        assert!(set.class(index).is_none_or(|class| set.classes().is_empty() || class < set.classes().len()));
        assert!(!set.id(index).is_empty() && set.name(index).ends_with(&set.id(index)));
    }
}

fn lists() -> Vec<Vec<u8>> {
    ["a.png,1\nb c.png,2\n", "a.png dog\nb.png ant\n", "file,class_index\n\"a, b.png\",3\n", "# none\n\"a\"\"b.png\"\n"]
        .map(|text| text.as_bytes().to_vec())
        .into()
}

/// Which format, and a file of boxes and masks.
fn objects(bytes: &[u8], folder: &Path) {
    let Some((kind, file)) = bytes.split_first() else { return };
    let path = write(folder, ["o.json", "o.csv", "o.xml"][usize::from(*kind) % 3], file);
    let Ok(objects) = Objects::open(&path) else { return };
    let _ = objects.truth("a.png", Path::new("a.png"), &preprocessing());
}

fn annotations() -> Vec<Vec<u8>> {
    let polygon = r#"{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 8}], "annotations": [
        {"image_id": 1, "bbox": [1, 2, 3, 4], "segmentation": [[1, 1, 5, 1, 5, 5]]}]}"#;
    let runs = r#"{"images": [{"id": 1, "file_name": "a.png", "width": 9, "height": 8}], "annotations": [
        {"image_id": 1, "segmentation": {"size": [8, 9], "counts": [10, 20, 42]}},
        {"image_id": 1, "segmentation": {"size": [8, 9], "counts": ":d0Z1"}}]}"#;
    let table = "image,xmin,ymin,xmax,ymax\na.png,1,2,3,4\n";
    let voc = "<annotation><filename>a.png</filename><size><width>9</width><height>8</height></size><object><bndbox>\
               <xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>";
    [(0, polygon), (0, runs), (1, table), (2, voc)].map(|(kind, text)| [&[kind][..], text.as_bytes()].concat()).into()
}

/// A damaged copy of `whole`, with pieces of `other`: a pure function of `number`.
pub fn damaged(whole: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut state = number;
    // SplitMix64 (Steele, Lea and Flood, 2014).
    let mut below = |limit: usize| {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) % limit.max(1) as u64) as usize
    };
    let mut bytes = whole.to_vec();
    for _ in 0..=below(4) {
        let at = below(bytes.len());
        let end = (at + 1 + below(16)).min(bytes.len());
        match below(8) {
            0 | 1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << below(8)),
            2 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = b"\0\xff09-\"{}[],.:/\n e"[below(17)]),
            3 => bytes.truncate(at),
            4 => drop(bytes.drain(at.min(end)..end)),
            5 => {
                let piece = bytes[at.min(end)..end].to_vec();
                bytes.splice(at..at, piece.repeat(1 + below(64)));
            }
            6 => {
                let (from, length) = (below(other.len()), 1 + below(64));
                let piece = other[from.min(other.len())..(from + length).min(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            _ => {
                let numbers = ["-1", "0", "99999999999999999999", "1e999", "4294967296", "9223372036854775807", "null"];
                bytes.splice(at..end.max(at), numbers[below(numbers.len())].bytes());
            }
        }
    }
    bytes
}
