//! `KEY=VALUE` of the command line.

use super::*;

#[test]
fn an_override_can_complete_the_file() {
    let overrides = ["data.val=b".to_owned()];
    let text = MINIMAL.replace(", val: images/val", "");
    assert_eq!(Config::parse(&text, Path::new("run.yaml"), &overrides).unwrap().data.val, "b");
}

#[test]
fn a_bad_override_is_named() {
    let message = refusal(&["train.seed=1", "train.epoch=3", "train.keep=1"]);
    assert!(message.starts_with("override `train.epoch=3`: unknown key `epoch`, did you mean `epochs`?"), "{message}");
    assert!(refusal(&["nothing.at=3"]).starts_with("override `nothing.at=3`: unknown key `nothing`"));
    assert!(refusal(&["optimizer={name: sgd, lr: x}"]).contains("lr: x}`: `lr`: invalid type"));
    assert!(refusal(&["train.epochs=0"]).contains("`train.epochs`: found 0, expected 1 to 100000"));
    assert!(refusal(&["train"]).contains("expected key.path=value"));
}

#[test]
fn an_override_is_text_where_the_key_wants_text() {
    for text in ["1e3", "1.10", "0x10", "1.", "true", "12345678901234567890"] {
        let config = with(&[&format!("data.train={text}"), &format!("output={text}"), "train.seed=3"]).unwrap();
        assert_eq!((config.data.train.as_str(), config.output), (text, Some(text.into())));
    }
    let config = with(&[
        "backbone.taps=[1e3, 0x1]",
        "optimizer={name: sgd}",
        "optimizer.lr=1e-3",
        "data.max_broken=1",
        "data.cache=false",
    ])
    .unwrap();
    assert_eq!(config.backbone.taps.unwrap(), ["1e3", "0x1"]);
    assert_eq!((config.optimizer.lr(), config.data.max_broken, config.data.cache), (1e-3, 1.0, false));
}

#[test]
fn a_key_without_its_section_is_found() {
    let message = refusal(&["epochs=2"]);
    assert!(message.starts_with("override `epochs=2`: unknown key `epochs`, did you mean `train.epochs`"), "{message}");
    assert!(message.contains("Known here: explainer, backbone"), "{message}");
    assert!(refusal(&["lr=2"]).contains("did you mean `optimizer.lr`"), "{}", refusal(&["lr=2"]));
}

#[test]
fn an_error_of_the_file_is_no_overrides_fault() {
    let text = format!("{MINIMAL}train: {{epoch: 3}}\n");
    let error = Config::parse(&text, Path::new("run.yaml"), &["train.seed=1".into()]).unwrap_err().to_string();
    assert!(error.starts_with("run.yaml: line 4 column 9: unknown key `epoch`"), "{error}");
}

#[test]
fn huge_numbers_are_refused() {
    assert!(refusal(&["optimizer={name: sgd, lr: 1e99}"]).contains("at most 1000"));
    assert!(refusal(&["threads=99999"]).contains("1 to 1024 threads"));
    assert!(refusal(&["data.workers=99999"]).contains("1 to 1024 threads"));
}
