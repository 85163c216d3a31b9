//! A TorchScript as the explained classifier, from the command line: with LibTorch built in whole runs and what ends them,
//! without it the message that says how to build it in.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;
use std::process::Command;

use common::{errors, training};

/// A file of the engine's own tests.
fn file(name: &str) -> String {
    format!("{}/../model-zoo/tests/fixtures/torchscript/{name}.pt", env!("CARGO_MANIFEST_DIR"))
}

/// The quickstart, small, with this TorchScript: 4 steps of 4 images.
fn explaining(output: &Path, name: &str) -> Command {
    let mut command = training(output);
    command.arg(format!("backbone={{name: torchscript, weights: '{}'}}", file(name)));
    command.args(["data.train_images=8", "data.val_images=4", "train.batch_size=4", "--quiet"]);
    command
}

fn refused(command: &mut Command) -> String {
    let output = command.output().expect("the program starts");
    assert!(!output.status.success(), "{}", errors(&output));
    errors(&output)
}

#[cfg(not(feature = "tch"))]
#[test]
fn without_libtorch_it_is_told_how_to_build_it_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut inspect = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
    inspect.args(["inspect", "--backbone", "torchscript", "--weights", &file("tiny")]);
    for text in [refused(&mut explaining(folder.path(), "tiny")), refused(&mut inspect)] {
        assert!(text.contains("LibTorch is not built in") && text.contains("--features tch"), "{text}");
    }
}

#[cfg(feature = "tch")]
mod built_in {
    use super::common::finish;
    use super::*;

    const PREPARED: &str = "backbone.preprocessing={resize: 96, crop: 96, mean: [0, 0, 0], std: [1, 1, 1]}";
    const RESNET18: &str = "auxiliary={name: resnet18, weights: 'random:0'}";

    fn program(arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_explainer-train"));
        command.args(arguments);
        command
    }

    #[test]
    fn heads_are_trained_and_explain() {
        let folder = tempfile::tempdir().expect("a folder");
        let (own, other) = (folder.path().join("ttame"), folder.path().join("ptame"));
        finish(&mut explaining(&own, "tiny"));
        let ptame = ["explainer={method: ptame}", RESNET18, PREPARED];
        let classes = "backbone.classes=null";
        finish(explaining(&other, "logits").args(ptame).arg(classes));
        let images = folder.path().join("images");
        std::fs::create_dir(&images).expect("a folder");
        image::RgbImage::from_pixel(120, 100, image::Rgb([9, 99, 200])).save(images.join("a.png")).expect("an image");
        for output in [own, other] {
            let artifact = output.join("artifact").display().to_string();
            let images = images.display().to_string();
            let out = folder.path().join("maps").display().to_string();
            finish(&mut program(&["explain", &artifact, &images, "--out", &out, "--quiet"]));
            finish(&mut program(&["evaluate", &artifact, "--images", &images, "--quiet"]));
        }
    }

    #[test]
    fn what_a_file_holds_is_shown() {
        let output = finish(&mut program(&["inspect", "--backbone", "torchscript", "--weights", &file("tiny")]));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in ["classes 10", "crop 96 x 96 pixels", "* first 4 4 24 x 24", "* second 6 16 6 x 6"] {
            assert!(words.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_explained_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = |name: &str, further: &[&str]| {
            let output = folder.path().join("run");
            let text = refused(explaining(&output, name).arg("backbone.classes=null").args(further));
            assert!(!text.contains("panicked"), "{text}");
            let _ = std::fs::remove_dir_all(output);
            text
        };
        let ptame = ["explainer={method: ptame}", RESNET18, PREPARED];
        let text = refused("logits", &[PREPARED]);
        assert!(text.contains("torchscript shows no taps") && text.contains("ptame"), "{text}");
        let text = refused("listed", &["explainer={method: lcam_fm}", "backbone.taps=['1']", PREPARED]);
        assert!(text.contains("lcam_fm puts another feature in the place of a tap"), "{text}");
        let text = refused("listed", &["explainer={method: bee}", PREPARED]);
        assert!(text.contains("a path through tap 1"), "{text}");
        let text = refused("tiny", &["backbone.taps=[third]"]);
        assert!(text.contains("has no tap \"third\"; it has first, second"), "{text}");
        let text = refused("logits", &["explainer={method: ptame}", RESNET18]);
        assert!(text.contains("does not say how it wants its images"), "{text}");
        // In the first step, half-way through the classifier.
        let text = refused("fails", &ptame);
        assert!(text.contains("fails.pt: failed on images [4, 3, 96, 96]") && text.contains("out of paper"), "{text}");
        let text = refused("cut", &ptame);
        assert!(text.contains("cut.pt: no gradient reaches its images"), "{text}");
    }
}
