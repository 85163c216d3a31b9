use super::*;
use crate::config::ConfigError;

const MINIMAL: &str = "\
images: photos
metrics: [ad@50, insertion]
explainers:
  - {artifact: checkpoints/one/artifact}
  - {method: grad-cam}
";

fn with(overrides: &[&str]) -> Result<CompareConfig, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(|&text| text.into()).collect();
    CompareConfig::parse(MINIMAL, Path::new("compare.yaml"), &overrides)
}

fn refusal(overrides: &[&str]) -> String {
    with(overrides).unwrap_err().to_string()
}

#[test]
fn what_is_left_out_has_a_default() {
    let config = with(&[]).unwrap();
    let names: Vec<String> = config.explainers.iter().map(ExplainerEntry::name).collect();
    assert_eq!(names, ["one", "grad-cam"]);
    assert_eq!((config.reference(), config.gallery.images, config.batch_size), ("one".into(), 12, 32));
    let text = config.to_yaml().unwrap();
    assert_eq!(CompareConfig::parse(&text, Path::new("compare.yaml"), &[]).unwrap(), config, "{text}");
    assert!(CompareConfig::is_comparison(MINIMAL) && !CompareConfig::is_comparison("explainer: {method: ttame}"));
}

#[test]
fn names_come_from_the_run() {
    let named = |text: &str| with(&[&format!("explainers=[{text}, {{artifact: z}}]")]).unwrap().explainers[0].name();
    assert_eq!(named("{artifact: runs/a/artifact}"), "a");
    assert_eq!(named("{artifact: artifact}"), "artifact");
    assert_eq!(named("{artifact: published}"), "published");
    assert_eq!(named("{train: configs/quickstart.yaml}"), "quickstart");
    assert_eq!(named("{method: rise@100, name: RISE}"), "RISE");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    for (overrides, expected) in [
        (&["explainers=[]"][..], "explainers: found 0, expected two or more"),
        (&["explainers=[{method: edges}]"], "backbone: required, since no explainer is a trained one"),
        (
            &["explainers=[{artifact: a}, {method: gard-cam}]"],
            "explainers[1].method: unknown attribution method `gard-cam`; known are grad-cam",
        ),
        (
            &["explainers=[{artifact: a, method: edges}, {name: b}]"],
            "explainers[0]: expected exactly one of the keys artifact, train and method",
        ),
        (
            &["explainers=[{artifact: a}, {method: edges, draws: 3}]"],
            "explainers[1].draws: not allowed for a method without",
        ),
        (&["explainers=[{artifact: x/a}, {artifact: y/a}]"], "explainers[1].name: `a` is listed twice"),
        (&["metrics=[ad@50, add]"], "metrics[1]: unknown metric `add`; known are ad[@PERCENT]"),
        (&["metrics=[ad, ad@100]"], "metrics[1]: ad@100 is listed twice"),
        (&["metrics=[pointing]"], "metrics[0]: pointing requires the key `objects`"),
        (&["metrics=[nss]"], "metrics[0]: nss requires the key `fixations`"),
        (&["gallery.metric=deletion"], "gallery.metric: found `deletion`, expected one of metrics: ad@50, insertion"),
        (&["gallery.metric=best"], "gallery.metric: there is no metric `best`"),
        (&["reference=two"], "reference: found `two`, expected one of the explainers: one, grad-cam"),
        (&["explainers=[{artifact: a, family: black}, {method: edges}]"], "unknown family of baselines \"black\""),
        (&["limit=0"], "found 0, expected 1 to 100000000 images"),
        (&["explainers=[{artifact: a}, {method: edges, images: 0}]"], "found 0, expected 1 or more"),
        (&["explainer=3"], "unknown key `explainer`, did you mean `explainers`?"),
        (&["metrics=[]"], "metrics"),
    ] {
        let problem = refusal(overrides);
        assert!(problem.contains(expected), "{overrides:?}: {problem}");
    }
    assert!(with(&["metrics=[pointing]", "images=shapes:8"]).is_ok(), "objects of scenes are known");
}
