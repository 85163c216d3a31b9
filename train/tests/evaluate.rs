//! `explainer-train evaluate` as its user meets it.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::{errors, finish, training};
use explainer_metrics::Results;
use explainer_train::data::shapes::{SIDE, ShapesSet, Split};
use serde_json::Value;

const METRICS: &str = "ad@50,insertion@4,deletion@4,pos,neg,aic,sic";

/// Five scenes as PNG files.
fn scenes(folder: &Path) {
    std::fs::create_dir(folder).expect("a folder");
    let set = ShapesSet::new(Split::Fresh, 5, 3);
    for index in 0..set.len() {
        let pixels = set.scene(index).image.to_vec();
        let image = image::RgbImage::from_raw(SIDE as u32, SIDE as u32, pixels).expect("a whole image");
        image.save(folder.join(format!("{index}.png"))).expect("a file");
    }
}

fn evaluate(run: &Path, images: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    command.arg("evaluate").arg(run.join("artifact")).arg("--images").arg(images).args(arguments);
    command.current_dir(run).output().expect("the program starts")
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
}

#[test]
fn metrics_are_measured_written_and_compared() {
    let folder = tempfile::tempdir().expect("a folder");
    let [one, other, images] = ["one", "other", "images"].map(|name| folder.path().join(name));
    scenes(&images);
    finish(training(&one).arg("--quiet"));
    finish(training(&other).args(["--quiet", "train.seed=7"]));

    let ran = evaluate(&one, &images, &["--metrics", METRICS, "--csv", "a.csv", "--json", "a.json"]);
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(ran.status.success(), "{}", errors(&ran));
    assert!(text.contains("insertion@4") && text.contains("5 images in"), "{text}");
    let csv = std::fs::read_to_string(one.join("a.csv")).expect("a file");
    assert!(csv.starts_with(&format!("image,class,{METRICS}\n0.png,")), "{csv}");
    let report = json(&one.join("a.json"));
    let metrics = report["metrics"].as_array().expect("a list");
    assert_eq!(metrics.len(), METRICS.split(',').count());
    for metric in metrics {
        assert_eq!(
            metric["defined"].as_u64().zip(metric["undefined"].as_u64()).map(|(a, b)| a + b),
            Some(5),
            "{metric}"
        );
    }

    // The batch size changes how the work is cut up; how kernels round may depend on that.
    let small = evaluate(&one, &images, &["--metrics", METRICS, "--csv", "b.csv", "--batch-size", "2"]);
    assert!(small.status.success(), "{}", errors(&small));
    let [whole, parts] = ["a.csv", "b.csv"].map(|name| Results::read_csv(&one.join(name)).expect("values"));
    for (whole, parts) in whole.rows.iter().zip(&parts.rows) {
        assert_eq!((&whole.image, whole.class), (&parts.image, parts.class));
        for (a, b) in whole.values.iter().zip(&parts.values) {
            assert!(a.zip(*b).map_or(a == b, |(a, b)| (a - b).abs() < 1e-3), "{whole:?} {parts:?}");
        }
    }

    let against = one.join("a.csv").display().to_string();
    let compared = evaluate(&other, &images, &["--metrics", "ad@50,pos", "--against", &against, "--json", "c.json"]);
    assert!(compared.status.success(), "{}", errors(&compared));
    let differences = &json(&other.join("c.json"))["against"]["differences"];
    assert_eq!(differences[0]["name"], "ad@50");
    assert_eq!(differences[0]["defined"], 5);
    assert_eq!(differences[1]["name"], "pos");
    assert!(differences[0]["interval"][1].as_f64() >= differences[0]["mean"].as_f64());

    let arguments = ["--metrics", "ad@50,deletion@4", "--against", "grad-cam", "--json", "d.json"];
    let compared = evaluate(&one, &images, &arguments);
    let text = String::from_utf8_lossy(&compared.stdout).into_owned();
    assert!(compared.status.success(), "{}", errors(&compared));
    assert!(text.contains("grad-cam, 2.0 forward and 1.0 backward passes an image:"), "{text}");
    assert!(text.contains("this explainer less grad-cam, image by image"), "{text}");
    let report = json(&one.join("d.json"));
    let mean = |metrics: &Value, place: usize| metrics[place]["mean"].as_f64().expect("a mean");
    for place in 0..2 {
        let difference = mean(&report["metrics"], place) - mean(&report["against"]["metrics"], place);
        assert!((difference - mean(&report["against"]["differences"], place)).abs() < 1e-9, "{report}");
    }
    let refused = evaluate(&one, &images, &["--against", "rollout"]);
    assert_eq!(refused.status.code(), Some(2), "{}", errors(&refused));
    assert!(errors(&refused).contains("--against: rollout needs the tokens"), "{}", errors(&refused));
}

#[test]
fn the_default_figures_are_ad_ic_and_ag() {
    let folder = tempfile::tempdir().expect("a folder");
    let [run, images] = ["run", "images"].map(|name| folder.path().join(name));
    scenes(&images);
    finish(training(&run).arg("--quiet"));
    let ran = evaluate(&run, &images, &["--json", "figures.json"]);
    assert!(ran.status.success(), "{}", errors(&ran));
    let report = json(&run.join("figures.json"));
    let percents: Vec<_> =
        report["figures"].as_array().expect("a list").iter().map(|row| row["percent"].as_f64()).collect();
    assert_eq!(percents, [Some(100.0), Some(50.0), Some(15.0)]);
    let image = &report["per_image"][0];
    assert_eq!(image["masked"].as_array().map(Vec::len), Some(3));
    let (clean, masked) = (image["clean"].as_f64().expect("a number"), image["masked"][1].as_f64().expect("a number"));
    let drop = 100.0 * (clean - masked).max(0.0) / clean;
    assert!((image["values"]["ad@50"].as_f64().expect("a number") - drop).abs() < 1e-3, "{image}");
}

#[test]
fn objects_are_known_of_scenes_and_from_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let [run, images] = ["run", "images"].map(|name| folder.path().join(name));
    scenes(&images);
    finish(training(&run).arg("--quiet"));
    let games = "pointing,energy-pointing,weighting,localisation-error,ssr,sparsity,complexity";
    let ran = evaluate(&run, Path::new("shapes:6"), &["--metrics", games, "--json", "scenes.json"]);
    assert!(ran.status.success(), "{}", errors(&ran));
    let report = json(&run.join("scenes.json"));
    for metric in report["metrics"].as_array().expect("a list") {
        assert_eq!(metric["defined"], 6, "{metric}");
    }

    // Two of five images have a box, which is the whole image.
    std::fs::write(run.join("boxes.csv"), "image,xmin,ymin,xmax,ymax\n0.png,0,0,96,96\n3.png,0,0,96,96\n")
        .expect("a file");
    let boxes = ["--metrics", "pointing,energy-pointing,weighting", "--objects", "boxes.csv", "--json", "boxes.json"];
    let ran = evaluate(&run, &images, &boxes);
    assert!(ran.status.success(), "{}", errors(&ran));
    let report = json(&run.join("boxes.json"));
    let (mean, missing) =
        (|at: usize| report["metrics"][at]["mean"].as_f64(), |at: usize| report["metrics"][at]["undefined"].as_u64());
    assert_eq!((mean(0), missing(0)), (Some(100.0), Some(3)));
    assert!(mean(1).is_some_and(|share| (share - 100.0).abs() < 1e-3), "{report}");
    assert_eq!((mean(2), missing(2)), (None, Some(5)), "there is no mask");
}

#[test]
fn the_explainer_is_asked_again_by_metrics_that_need_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = folder.path().join("run");
    finish(training(&run).arg("--quiet"));
    let stages = "sanity-spearman@1,sanity-spearman@2,sanity-spearman@3,sanity-spearman@4,sanity-spearman,sanity-ssim";
    let names = format!("{stages},completeness,adp,soundness,max-sensitivity,infidelity@8");
    let ran = evaluate(&run, Path::new("shapes:3"), &["--metrics", &names, "--json", "a.json"]);
    assert!(ran.status.success(), "{}", errors(&ran));
    let report = json(&run.join("a.json"));
    let mean = |name: &str| {
        let metric = report["metrics"].as_array().and_then(|all| all.iter().find(|metric| metric["name"] == name));
        let metric = metric.expect("the metric is there");
        assert_eq!(metric["defined"], 3, "{metric}");
        metric["mean"].as_f64().expect("a number")
    };
    // The head sees all three layers, one of which the first stage takes already.
    let each = [1, 2, 3, 4].map(|stage| mean(&format!("sanity-spearman@{stage}")));
    assert!(each.iter().all(|value| value.abs() < 0.999), "{each:?}");
    assert!((mean("sanity-spearman") - each.iter().sum::<f64>() / 4.0).abs() < 1e-6, "{each:?}");
    assert!(mean("sanity-ssim") < 0.999);
    assert!((mean("completeness") - (1.0 - mean("adp") / 100.0)).abs() < 1e-6);
    assert!((0.0..=1.0).contains(&mean("soundness")));
    let change = mean("max-sensitivity");
    assert!(change > 0.0 && change < 1.0, "{change}");
    assert!(mean("infidelity@8") > 0.0);
}

#[test]
fn what_cannot_be_measured_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    for (arguments, code, expected) in [
        (["--metrics", "ad@50,insretion"], 2, "unknown metric `insretion`; known are ad[@PERCENT]"),
        (["--metrics", "ad@120"], 2, "found `120` behind the @, expected a percentage above 0, at most 100"),
        (["--percent", "0"], 2, "expected a number above 0, at most 100"),
        (["--metrics", "pointing"], 2, "pointing needs --objects"),
        (["--metrics", "nss"], 2, "nss needs --fixations"),
        (["--objects", "nowhere.csv"], 1, "nowhere.csv"),
        (["--csv", "nowhere/a.csv"], 2, "--csv: there is no folder nowhere"),
        (["--against", "nowhere.csv"], 1, "nowhere.csv: cannot read the values"),
        (["--against", "gard-cam"], 2, "unknown attribution method `gard-cam`; known are grad-cam,"),
        (["--against", "rise@0"], 2, "found `0` behind the @, expected a whole number, 1 to 1000000"),
    ] {
        let ran = evaluate(folder.path(), folder.path(), &arguments);
        let text = errors(&ran);
        assert_eq!(ran.status.code(), Some(code), "{arguments:?}: {text}");
        assert!(text.contains(expected), "{arguments:?}: {text}");
    }
}
