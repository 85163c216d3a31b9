mod overrides;

use super::*;
use explainer_zoo::explainer::masking::{
    Activation, Infill, MaskLoss, MaskingModelSection, PaperLoss, PhaseSettings, ReleasedLoss,
};
use explainer_zoo::explainer::tame::{FuseInit, TameSection, Ttame};
use explainer_zoo::masking::Masking;
use explainer_zoo::training::{AdamW, OneCycle, StepDecay};
use std::path::{Path, PathBuf};

const MINIMAL: &str = "\
explainer: {method: ttame}
backbone: {name: resnet50, weights: resnet50.pth}
data: {train: images/train, val: images/val}
";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("run.yaml"), &[])
}

fn with(overrides: &[&str]) -> Result<Config, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.into()).collect();
    Config::parse(MINIMAL, Path::new("run.yaml"), &overrides)
}

/// The first line of the error that `text` gives.
fn complaint(text: &str) -> String {
    parse(text).unwrap_err().to_string().lines().next().unwrap().to_owned()
}

fn refusal(overrides: &[&str]) -> String {
    with(overrides).unwrap_err().to_string()
}

#[test]
fn defaults_are_ttames() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(
        config.explainer,
        ExplainerConfig::Ttame(Ttame(TameSection { fuse_bias: true, fuse_init: FuseInit::Uniform, map_size: None }))
    );
    assert_eq!(config.optimizer.lr(), 1e-3);
    assert!(matches!(&config.optimizer, Optimizer::Sgd(sgd) if sgd.nesterov && !sgd.decay_biases));
    assert_eq!(config.data.augment, [Augment::RandomCrop, Augment::Flip]);
    assert_eq!((config.train.epochs, config.train.batch_size), (8, 32));
    assert_eq!((config.device.as_str(), config.output), ("flex", None));
}

#[test]
fn yaml_round_trips() {
    let changed = with(&[
        "optimizer={name: adamw, lr: 3.3e-5, betas: [0.5, 0.75], clip_norm: 1}",
        "schedule={name: constant}",
        "data.train_images=7",
        "data.train=no",
        "backbone.taps=[layer2, 'null', '# 1']",
        "backbone.classes=1",
        "explainer.fuse_init=zero",
    ]);
    for config in [changed.unwrap(), parse(MINIMAL).unwrap()] {
        let text = config.to_yaml().unwrap();
        assert_eq!(parse(&text).unwrap(), config, "{text}");
    }
}

#[test]
fn the_resolved_yaml_names_every_key() {
    let text = parse(MINIMAL).unwrap().to_yaml().unwrap();
    for key in ["fuse_bias", "sha256", "max_broken", "masking", "border", "nesterov", "final_div", "keep", "threads"] {
        assert!(text.contains(&format!("{key}: ")), "{key} in\n{text}");
    }
}

#[test]
fn errors_give_line_and_column() {
    let file = |line: &str| format!("{MINIMAL}{line}\n");
    for (text, expected) in [
        (file("train:\n  epoch: 3"), "line 5 column 3: unknown key `epoch`, did you mean `epochs`?"),
        (file("train:\n  epochs: many"), "line 5 column 11: expected a whole number, 0 or above"),
        (file("train:\n  epochs: -3"), "line 5 column 11: expected a whole number, 0 or above"),
        (file("train:\n  epochs: 0"), "line 5 column 11: `train.epochs`: found 0, expected 1 to 100000"),
        (file("train:\n  epochs: 100001"), "line 5 column 11: `train.epochs`: found 100001, expected 1 to 100000"),
        (file("train:\n  keep: 0"), "line 5 column 9: `train.keep`: found 0, expected 1 or more"),
        (file("train: {epochs: 1, epochs: 2}"), "line 4 column 20: the key `epochs` is given twice"),
        (file("masking: afternorm"), "line 4 column 10: unknown value `afternorm`, did you mean `after-norm`?"),
        (file("trian: {}"), "line 4 column 1: unknown key `trian`, did you mean `train`?"),
        (file("optimizer:\n  name: sdg"), "line 5 column 9: unknown value `sdg`, did you mean `sgd`?"),
        (file("optimizer:\n  name: sgd\n  lr: abc"), "line 6 column 7: expected a number"),
        (
            file("optimizer:\n  name: sgd\n  lr: .nan"),
            "line 6 column 7: `optimizer.lr`: found NaN, expected a learning rate",
        ),
        (file("optimizer:\n  name: sgd\n  betas: []"), "line 6 column 3: unknown key `betas`"),
        (
            file("optimizer:\n  lr: 0\n  name: sgd"),
            "line 5 column 7: `optimizer.lr`: found 0, expected a learning rate",
        ),
        (file("optimizer: {lr: 1}"), "the key `name` is missing"),
        (file("optimizer:\n  name: sgd\n  nesterov: no"), "line 6 column 13: expected true or false"),
        (file("train: 3"), "line 4 column 8: expected a section of keys"),
        (file("train:\n  epochs: [3]"), "line 5 column 11: expected a single value"),
        (file("optimizer: sgd"), "line 4 column 12: expected a section of keys"),
        (file("objective: [1"), "line 4 column 12"),
        (
            MINIMAL.replace("ttame", "ttame, map_size: 0"),
            "line 1 column 38: `explainer.map_size`: found 0, expected a side of 1 to 1024 cells",
        ),
        (MINIMAL.replace("ttame", "ttame, map_size: 9999"), "`explainer.map_size`: found 9999, expected a side"),
        (
            MINIMAL.replace("images/val", "images/val, train_images: 0"),
            "line 3 column 60: `data.train_images`: found 0, expected 1 to 100000000 images",
        ),
        (
            MINIMAL.replace("images/val", "images/val, val_images: 0"),
            "line 3 column 58: `data.val_images`: found 0, expected 1 to 100000000 images",
        ),
        (MINIMAL.replace("ttame", "gradcam"), "line 1 column 21: unknown value `gradcam`. Known here: ttame, tame,"),
        (MINIMAL.replace("name: resnet50, ", ""), "line 2 column 12: the key `name` is missing"),
        ("explainer: {method: ttame}".into(), "the key `backbone` is missing"),
        (String::new(), "unexpected end of file"),
    ] {
        let found = complaint(&text);
        assert!(found.starts_with("run.yaml: ") && found.contains(expected), "found {found}\nwanted {expected}");
    }
}

#[test]
fn overrides_are_typed_like_the_file() {
    let config = with(&["train.epochs=3", "optimizer.name=adamw", "optimizer.lr=1", "output=1", "train.epochs=4"]);
    let config = config.unwrap();
    assert_eq!(config.train.epochs, 4);
    assert!(matches!(config.optimizer, Optimizer::AdamW(AdamW { lr: 1.0, .. })));
    assert_eq!(config.output, Some("1".into()));
    assert_eq!(with(&["train={epochs: 3}", "train.epochs=null"]).unwrap().train.epochs, 8);
}

#[test]
fn a_comparison_is_no_run() {
    let load = |name: &str| Config::load(Path::new(name), &[]).unwrap_err().to_string();
    let message = load("compare_quickstart");
    assert!(message.contains("`explainer-train compare --config compare_quickstart`"), "{message}");
    let message = CompareConfig::load(Path::new("quickstart"), &[]).unwrap_err().to_string();
    assert!(message.contains("`explainer-train --config quickstart`"), "{message}");
}

const RESNET18: &str = "auxiliary={name: resnet18, weights: resnet18.pth}";

#[test]
fn an_auxiliarys_head_has_no_bias_and_no_size_of_its_own() {
    let config = with(&["explainer={method: ptame}", RESNET18]).unwrap();
    let ExplainerConfig::Ptame(own) = &config.explainer else { panic!("{:?}", config.explainer) };
    assert!(!own.fuse_bias);
    assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
    let message = refusal(&["explainer={method: ptame, map_size: 7}", RESNET18]);
    assert!(message.contains("unknown key `map_size`") || message.contains("unknown field `map_size`"), "{message}");
}

#[test]
fn keys_must_go_together() {
    for (overrides, expected) in [
        (&["explainer.method=lcam_img"][..], "backbone.taps: found the backbone's default"),
        (&["explainer.method=lcam_fm", "backbone.taps=[a, b]"], "backbone.taps: found 2 taps"),
        (&["explainer={method: lcam_fm, map_size: 7}", "backbone.taps=[a]"], "explainer.map_size: the map of lcam_fm"),
        (&["backbone.taps=[a, a]"], "backbone.taps: `a` is listed twice"),
        (&["backbone.weights=embedded"], "backbone.weights: `embedded` belongs to"),
        (&["backbone.weights=http://x/y.pth"], "backbone.weights: found an http:// address"),
        (&["backbone.weights=https://x/y.pth"], "backbone.sha256: required"),
        (&["data.val=shapes"], "data.val_images: required"),
        (&["data={train: a, val: b, resize: 64, crop: 65}"], "data.crop: found 65, expected at most data.resize (64)"),
        (&["data.crop=16"], "data.crop: found 16, expected at least 32"),
        (&["data.cache=true"], "data.cache: found true, but data.augment changes the images"),
        (
            &["data.cache=true", "data.augment=[]", "explainer.method=lcam_fm"],
            "data.cache: found true, but explainer.method",
        ),
        (&["data.augment=[flip, flip]"], "data.augment: Flip is listed twice"),
        (&["optimizer={name: sgd, momentum: 0}"], "optimizer.nesterov: requires a momentum"),
        (&["schedule={name: one_cycle, base_momentum: 0.99}"], "schedule.base_momentum: found 0.99"),
        (&["explainer.method=ptame"], "auxiliary: required, since explainer.method `ptame`"),
        (&[RESNET18], "auxiliary: not allowed with explainer.method `ttame`"),
        (&["explainer.method=ptame", RESNET18, "backbone.taps=[layer4]"], "backbone.taps: not allowed"),
        (&["explainer.method=ptame", RESNET18, "auxiliary.taps=[layer2, layer2]"], "auxiliary.taps: `layer2` is"),
        (
            &["explainer.method=ptame", RESNET18, "auxiliary.taps=[layer3, layer2]"],
            "auxiliary.taps: on images of 224 pixels tap layer2 has a side of 28 cells, which doubling does not bring to \
             the 14 of the first tap, layer3",
        ),
        (
            &["explainer.method=ptame", RESNET18, "data={train: a, val: b, crop: 232}"],
            "tap layer3 has a side of 15 cells",
        ),
        (&["explainer.method=ptame", RESNET18, "auxiliary.weights=https://x/y.pth"], "auxiliary.sha256: required"),
        (
            &["explainer.method=ptame", RESNET18, "auxiliary.weights=embedded"],
            "auxiliary.weights: `embedded` belongs to",
        ),
    ] {
        let message = refusal(overrides);
        assert!(message.contains("\n  ") && message.contains(expected), "found {message}\nwanted {expected}");
    }
    assert!(with(&["explainer.method=lcam_img", "backbone.taps=[layer4]"]).is_ok());
    assert!(with(&["backbone.weights=https://x/y-0676ba61.pth"]).is_ok());
    assert!(with(&["backbone.weights=https://x/y.1_top-3ffadce67e.pth"]).is_ok());
    assert!(with(&["explainer.method=ptame", RESNET18]).is_ok());
    // Unknown backbones and taps are reported at load time.
    assert!(with(&["explainer.method=ptame", RESNET18, "auxiliary.taps=[layer3, layer9]"]).is_ok());
    assert!(with(&["explainer.method=ptame", RESNET18, "auxiliary.name=resnet19"]).is_ok());
    assert!(with(&["data.val=shapes", "data.val_images=8"]).is_ok());
}

#[test]
fn what_is_ignored_is_noted() {
    assert_eq!(parse(MINIMAL).unwrap().notes(), [] as [&str; 0]);
    let config = with(&["explainer.method=lcam_fm", "backbone.taps=[layer4]", "masking=blur"]).unwrap();
    assert!(config.notes()[0].starts_with("masking: ignored"));
    let config = with(&["explainer.method=ptame", RESNET18, "auxiliary.weights=random"]).unwrap();
    assert!(config.notes()[0].starts_with("auxiliary.weights: the feature maps of a random"));
}

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

#[test]
fn every_config_of_the_project_loads() {
    let mut seen = 0;
    let folders = [configs(), configs().join("experiments")].map(|folder| std::fs::read_dir(folder).unwrap());
    for entry in folders.into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") {
            let output = if CompareConfig::is_comparison(&std::fs::read_to_string(&path).unwrap()) {
                let config = CompareConfig::load(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
                config.output_dir().to_owned()
            } else {
                let config = Config::load(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
                config.output_dir().to_owned()
            };
            assert_eq!(output, Path::new("checkpoints").join(path.file_stem().unwrap()));
            seen += 1;
        }
    }
    assert!(seen >= 30, "{seen} files");
}

#[test]
fn ptames_files_have_the_papers_hyper_parameters() {
    for (file, objective, lr, weight_decay) in [
        ("ptame_vgg16", Objective::ptame_vgg16(), 1e-4, 0.13324),
        ("ptame_resnet50", Objective::ptame_resnet50(), 1e-4, 2.4267e-4),
        ("ptame_vit", Objective::ptame_vit_b_16(), 1e-4, 1.3309e-4),
        ("ptame_resnet50_mobilenet_v3_small", Objective::ptame_mobilenet_v3_small(), 1e-3, 0.0171708),
        ("ptame_resnet50_mnasnet0_5", Objective::ptame_mnasnet(), 1e-3, 0.0171708),
    ] {
        let config = Config::load(&configs().join(file).with_extension("yaml"), &[]).unwrap();
        assert_eq!(config.objective, objective, "{file}");
        assert_eq!(config.masking, Masking::BeforeNorm, "{file}");
        let Optimizer::AdamW(adamw) = &config.optimizer else { panic!("{file}: {:?}", config.optimizer) };
        assert_eq!((adamw.lr, adamw.weight_decay, adamw.amsgrad), (lr, weight_decay, true), "{file}");
        assert_eq!(config.schedule, Schedule::OneCycle(OneCycle::default()), "{file}");
        assert_eq!((config.train.epochs, config.train.batch_size), (1, 32), "{file}");
        let ExplainerConfig::Ptame(own) = &config.explainer else { panic!("{file}") };
        assert!(!own.fuse_bias, "{file}");
    }
}

#[test]
fn the_masking_models_defaults_are_the_papers_but_for_the_loss() {
    let config = with(&["explainer={method: masking_model}"]).unwrap();
    let ExplainerConfig::MaskingModel(own) = &config.explainer else { panic!("{:?}", config.explainer) };
    assert_eq!((own.activation, own.class_selector, own.width), (Activation::Ratio, true, 64));
    assert_eq!(own.loss, MaskLoss::Released(ReleasedLoss::default()));
    assert_eq!(own.infill, Infill { blur: 0.5, colour: 0.66, noise: 0.11, image_noise: 0.03 });
    let phases = [PhaseSettings::from(&own.phases.selector), PhaseSettings::from(&own.phases.decoder)];
    for (phase, expected) in phases.iter().zip([(8500, 128, 0.5), (3000, 64, 0.3)]) {
        assert_eq!((phase.steps, phase.batch_size, phase.fake_targets), expected);
        let Optimizer::Adam(adam) = &phase.optimizer else { panic!("{:?}", phase.optimizer) };
        assert_eq!((adam.lr, adam.weight_decay), (1e-3, 1e-4));
        assert_eq!(phase.schedule, Schedule::StepDecay(StepDecay { every: 4000, factor: 0.1 }));
    }
    // What the files for ResNet-50 write out are these very defaults.
    for (file, loss) in [
        ("masking_model_resnet50", MaskLoss::Paper(PaperLoss::default())),
        ("masking_model_resnet50_released", MaskLoss::Released(ReleasedLoss::default())),
    ] {
        let config = Config::load(&configs().join(file).with_extension("yaml"), &[]).unwrap();
        let ExplainerConfig::MaskingModel(found) = config.explainer else { panic!("{file}") };
        assert_eq!(found, MaskingModelSection { loss, ..own.clone() }, "{file}");
    }
}

#[test]
fn a_masking_models_keys_are_checked() {
    let refused = |overrides: &[&str]| refusal(&[&["explainer={method: masking_model}"], overrides].concat());
    for (overrides, expected) in [
        (&["backbone.taps=[layer1, layer3]"][..], "backbone.taps: tap layer3 has maps of 14 x 14 cells"),
        (&["backbone.taps=[layer4, layer3]"], "tap layer3 has maps of 14 x 14 cells"),
        (&["backbone.taps=[layer4]"], "at least two convolutional maps"),
        (&["data.crop=225"], "a data.crop that halves evenly"),
        (&["backbone.name=vit_b_16"], "at least two convolutional maps"),
        (&["explainer.loss={preset: paper, margin: 1}"], "unknown field `margin`"),
        (&["explainer.loss={preset: published}"], "published"),
        (&["explainer.width=0"], "found 0, expected 1 to 1024 channels"),
        (&["explainer.phases.decoder.steps=0"], "found 0, expected 1 to 1000000000"),
        (&["explainer.phases.selector.fake_targets=2"], "found 2, expected a fraction"),
        (
            &["explainer.phases.decoder.optimizer={name: sgd, momentum: 0}"],
            "phases.decoder.optimizer.nesterov: requires",
        ),
        (&["explainer.infill.blur=-1"], "found -1, expected a fraction"),
    ] {
        let message = refused(overrides);
        assert!(message.contains(expected), "found {message}\nwanted {expected}");
    }
    assert!(with(&["explainer={method: masking_model}", "backbone.taps=[layer2, layer3]"]).is_ok());
    let config = with(&[
        "explainer={method: masking_model, class_selector: false, phases: {selector: {steps: 9}}}",
        "masking=blur",
        "train.epochs=3",
    ]);
    let notes = config.unwrap().notes();
    assert!(notes[0].starts_with("masking: ignored, a masking model uses explainer.infill"), "{notes:?}");
    assert!(notes[1].starts_with("train.epochs: ignored"), "{notes:?}");
    assert!(notes[2].starts_with("explainer.phases.selector: ignored"), "{notes:?}");
}

#[test]
fn the_schema_file_is_current() {
    for (file, schema, option) in
        [("schema.json", Config::schema(), ""), ("schema_compare.json", CompareConfig::schema(), " --compare")]
    {
        let path = configs().join(file);
        let current = format!("{schema:#}\n");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &current).unwrap();
        }
        let command = format!("explainer-train config schema{option} > configs/{file}");
        let found = std::fs::read_to_string(&path);
        assert!(found.is_ok_and(|found| found == current), "configs/{file} is old: {command}");
    }
}

#[test]
fn the_schema_describes_every_key() {
    fn walk(node: &serde_json::Value, path: &str, bare: &mut Vec<String>) {
        let serde_json::Value::Object(map) = node else { return };
        if let Some(serde_json::Value::Object(keys)) = map.get("properties") {
            let tags = ["name", "method", "preset"];
            let described = |key: &str, value: &serde_json::Value| {
                value.get("description").is_some() || (tags.contains(&key) && value.get("const").is_some())
            };
            bare.extend(keys.iter().filter(|(k, v)| !described(k, v)).map(|(key, _)| format!("{path}.{key}")));
        }
        map.iter().for_each(|(key, value)| walk(value, &format!("{path}.{key}"), bare));
    }
    let mut bare = Vec::new();
    walk(&Config::schema(), "", &mut bare);
    walk(&CompareConfig::schema(), "compare", &mut bare);
    assert_eq!(bare, [] as [&str; 0]);
}

const TORCHSCRIPT: &str = "backbone={name: torchscript, weights: model.pt}";
const PREPARED: &str =
    "backbone.preprocessing={resize: 256, crop: 224, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}";

#[test]
fn a_torchscript_may_be_told_how_it_wants_its_images() {
    let config = with(&[TORCHSCRIPT]).unwrap();
    assert!(!config.to_yaml().unwrap().contains("preprocessing"), "it would make other runs of those before it");
    let config = with(&[TORCHSCRIPT, PREPARED]).unwrap();
    let own = config.backbone.preprocessing.clone().unwrap();
    assert_eq!((own.filter, own.mean[0]), (Interpolation::Bilinear, 0.485));
    assert_eq!(parse(&config.to_yaml().unwrap()).unwrap(), config);
    assert!(explainer_zoo::image::Preprocessing::from(&own).is_valid());
}

#[test]
fn what_cannot_be_a_torchscript_is_refused() {
    for weights in ["random", "random:3", "embedded"] {
        let message = refusal(&[TORCHSCRIPT, &format!("backbone.weights={weights}")]);
        assert!(
            message.contains(&format!("backbone.weights: found `{weights}`, but a TorchScript is a file")),
            "{message}"
        );
    }
    let message = refusal(&[PREPARED]);
    assert!(message.contains("backbone.preprocessing: not allowed with `resnet50`, which has its own"), "{message}");
    let message = refusal(&[TORCHSCRIPT, PREPARED, "backbone.preprocessing.resize=200"]);
    assert!(message.contains("backbone.preprocessing.crop: found 224, expected at most"), "{message}");
    let message = refusal(&[TORCHSCRIPT, PREPARED, "backbone.preprocessing.std=[1, 1, 0]"]);
    assert!(message.contains("backbone.preprocessing.std`: found [1.0, 1.0, 0.0], expected three finite"), "{message}");
    let message = refusal(&[TORCHSCRIPT, PREPARED, "backbone.preprocessing.filter=nearest"]);
    assert!(message.contains("nearest"), "{message}");
    let message = refusal(&["explainer={method: ptame}", "auxiliary={name: torchscript, weights: random}"]);
    assert!(message.contains("auxiliary.weights: found `random`, but a TorchScript is a file"), "{message}");
}
