//! Training by several ranks, here threads of one process: they train the head that one process trains.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::path::Path;

use burn::train::Interrupter;
use common::CONFIG;
use explainer_train::config::Config;
use explainer_train::data::shapes::Split;
use explainer_train::data::{ImageSet, Scenes};
use explainer_train::distributed::{ProcessGroup, ThreadCommunicator};
use explainer_train::fit::{self, Finished, FitError, ResumeFrom};
use explainer_zoo::image::{Crop, Pixels};
use image::{Rgb, RgbImage};

/// The quickstart's run, small: 8 steps of 8 images.
fn config(output: &Path, overrides: &[&str]) -> Config {
    let small = [
        "data.train_images=32",
        "data.val_images=8",
        "train.batch_size=8",
        "train.epochs=2",
        "train.log_every=1",
        "train.validate_every=1000", // one validation, at the end: the artifact's head is the last one
        "threads=1",
        "data.workers=1",
        "optimizer={name: sgd, lr: 0.05, clip_norm: 1.0}",
    ];
    let overrides: Vec<String> = small.iter().chain(overrides).map(|text| text.to_string()).collect();
    let mut config = Config::load(Path::new(CONFIG), &overrides).expect("a configuration");
    config.output = Some(output.into());
    config
}

/// What each of `size` ranks ends with.
fn train(size: usize, config: &Config, from: &ResumeFrom) -> Vec<Result<Finished, FitError>> {
    std::thread::scope(|scope| {
        let run = |ranks: ThreadCommunicator| {
            let group = ProcessGroup::new(ranks);
            scope.spawn(move || fit::run_in_group(config, from, true, &Interrupter::new(), &group))
        };
        let ranks: Vec<_> = ThreadCommunicator::new(size).into_iter().map(run).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic")).collect()
    })
}

/// A head, tensor by tensor.
type Head = Vec<(String, Vec<f32>)>;

/// The last head of a run that comes to its end.
fn head(size: usize, config: &Config, from: &ResumeFrom) -> Head {
    let ends = train(size, config, from);
    let ends: Vec<Finished> = ends.into_iter().map(|end| end.expect("a run")).collect();
    assert!(ends[0].artifact.is_some() && ends[1..].iter().all(|end| end.artifact.is_none()), "only rank 0 writes");
    let mut heads = ends.iter().map(|end| end.head.values());
    let first = heads.next().expect("a rank");
    assert!(heads.all(|head| head == first), "all ranks have the same head");
    first.into_iter().map(|(name, _, values)| (name, values)).collect()
}

/// The largest difference of two heads, in units of each tensor's largest value.
fn difference(a: &Head, b: &Head) -> f32 {
    assert_eq!(a.len(), b.len());
    let mut largest = 0.0_f32;
    for ((name, a), (other, b)) in a.iter().zip(b) {
        assert!(name == other && a.len() == b.len());
        let scale = a.iter().fold(1e-3_f32, |largest, value| largest.max(value.abs()));
        let own = a.iter().zip(b).map(|(a, b)| (a - b).abs() / scale).fold(0.0, f32::max);
        eprintln!("{name}: {own:.1e}");
        largest = largest.max(own);
    }
    largest
}

#[test]
fn any_number_of_ranks_trains_the_same_head() {
    let folder = tempfile::tempdir().expect("a folder");
    for selection in ["objective.selection=batch", "objective.selection=matching"] {
        let run = |size: usize, more: &str| {
            let output = tempfile::tempdir_in(folder.path()).expect("a folder").keep();
            let overrides: Vec<&str> = [selection, more].into_iter().filter(|text| !text.is_empty()).collect();
            head(size, &config(&output, &overrides), &ResumeFrom::Start)
        };
        let one = run(1, "");
        let [two, four] = [2, 4].map(|size| run(size, ""));
        for (size, head) in [(2, &two), (4, &four)] {
            let found = difference(&one, head);
            assert!(found < 1e-4, "{selection}, {size} ranks: {found}");
        }
        assert_eq!(two, run(2, "distributed.overlap=true"), "the next clean pass needs no head");
        let apart = difference(&one, &run(2, "distributed.sync_batch_norm=false"));
        assert!(apart > 1e-3, "statistics of the shares alone make another head: {apart}");
    }
}

/// Writes 24 scenes into `folder`, of which every third cannot be read.
fn pictures(folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let scenes = Scenes::new(Split::Train, 24, 0);
    for number in 0..24 {
        let path = folder.join(format!("{number:02}.png"));
        if number % 3 == 0 {
            std::fs::write(path, "no picture").expect("a file");
            continue;
        }
        let Pixels { values, height, width } = scenes.load(number, Crop::Centre).expect("a scene");
        let plane = height * width;
        let colour = |x: u32, y: u32| {
            let at = y as usize * width + x as usize;
            Rgb([0, 1, 2].map(|channel| (values[channel * plane + at] * 255.0).round() as u8))
        };
        RgbImage::from_fn(width as u32, height as u32, colour).save(path).expect("a file");
    }
}

#[test]
fn shares_of_other_sizes_or_without_an_image_count_as_many_images_as_they_have() {
    let folder = tempfile::tempdir().expect("a folder");
    let images = folder.path().join("images");
    pictures(&images);
    let place = format!("data.train={}", images.display());
    let run = |size: usize| {
        let output = folder.path().join(size.to_string());
        let overrides = [place.as_str(), "data.train_images=24", "train.batch_size=4", "data.max_broken=0.5"];
        let head = head(size, &config(&output, &overrides), &ResumeFrom::Start);
        let log = std::fs::read_to_string(output.join("metrics.jsonl")).expect("a log");
        (head, log.lines().filter(|line| line.contains("broken")).count())
    };
    let (one, broken) = run(1);
    assert_eq!(broken, 8);
    for size in [2, 4] {
        let (head, broken) = run(size);
        let found = difference(&one, &head);
        assert!(found < 1e-4, "{size} ranks: {found}");
        assert_eq!(broken, 8, "rank 0 tells of the broken images of all");
    }
    let output = folder.path().join("refused");
    let overrides = [place.as_str(), "data.train_images=24", "train.batch_size=4", "data.max_broken=0.3"];
    for (rank, end) in train(2, &config(&output, &overrides), &ResumeFrom::Start).into_iter().enumerate() {
        let error = end.expect_err("a third is broken").to_string();
        assert!(error.contains("8 of 24 images are broken"), "rank {rank}: {error}");
    }
}

#[test]
fn a_checkpoint_knows_nothing_of_the_number_of_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let overrides = ["train.checkpoint_every=2", "train.keep=100", "optimizer={name: adamw, lr: 1e-3}"];
    let whole = folder.path().join("whole");
    let expected = head(2, &config(&whole, &overrides), &ResumeFrom::Start);
    let from = ResumeFrom::Path(whole.join("checkpoints/step-00000004"));
    for size in [1, 2, 4] {
        let resumed = head(size, &config(&folder.path().join(size.to_string()), &overrides), &from);
        let found = difference(&expected, &resumed);
        match size {
            2 => assert_eq!(expected, resumed, "bit for bit with the same number"),
            _ => assert!(found < 1e-2, "{size} ranks: {found}"),
        }
    }
}

#[test]
fn a_rank_that_is_lost_stops_the_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&folder.path().join("run"), &["train.checkpoint_every=1"]);
    let mut ranks = ThreadCommunicator::new(2);
    drop(ranks.pop());
    let group = ProcessGroup::new(ranks.remove(0));
    let error = fit::run_in_group(&config, &ResumeFrom::Start, true, &Interrupter::new(), &group).expect_err("alone");
    assert!(error.to_string().contains("rank 1 has ended"), "{error}");
    assert!(!group.failed_together());
}

#[test]
fn what_cannot_be_shared_is_refused_by_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let ends = train(3, &config(folder.path(), &[]), &ResumeFrom::Start);
    for (rank, end) in ends.into_iter().enumerate() {
        let error = end.expect_err("8 images for 3").to_string();
        assert!(error.contains("train.batch_size is 8") && error.contains("multiple of 3"), "{error}");
        assert_eq!(error.contains("rank 0 failed"), rank > 0, "{error}");
    }
    let overrides = ["explainer={method: masking_model}", "backbone.taps=[layer1, layer2, layer3]"];
    for end in train(2, &config(folder.path(), &overrides), &ResumeFrom::Start) {
        let error = end.expect_err("one process").to_string();
        assert!(error.contains("masking_model is trained by one process, 2 were started"), "{error}");
    }
    for end in train(2, &config(folder.path(), &["data.augment=[]", "data.cache=true"]), &ResumeFrom::Start) {
        let error = end.expect_err("one process").to_string();
        assert!(error.contains("data.cache is for one process, 2 were started"), "{error}");
    }
}

#[test]
fn a_run_that_is_no_number_any_more_ends_for_all_with_the_images_of_the_whole_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let overrides = ["objective.smooth=1e38", "schedule={name: constant}"];
    let ends = train(2, &config(folder.path(), &overrides), &ResumeFrom::Start);
    let errors: Vec<String> = ends.into_iter().map(|end| end.expect_err("no number").to_string()).collect();
    assert!(errors[1].starts_with("rank 0 failed: step ") && errors[1].ends_with(&errors[0]), "{errors:?}");
    assert_eq!(errors[0].matches("scene").count(), 8, "{errors:?}");
}

#[test]
fn a_stop_of_any_rank_stops_all_with_a_checkpoint() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(folder.path(), &[]);
    let states: Vec<_> = std::thread::scope(|scope| {
        let run = |ranks: ThreadCommunicator| {
            let (group, config) = (ProcessGroup::new(ranks), &config);
            scope.spawn(move || {
                let interrupter = Interrupter::new();
                if group.rank() == 1 {
                    interrupter.stop(Some("a signal"));
                }
                fit::run_in_group(config, &ResumeFrom::Start, true, &interrupter, &group)
            })
        };
        let ranks: Vec<_> = ThreadCommunicator::new(2).into_iter().map(run).collect();
        ranks.into_iter().map(|rank| rank.join().expect("no panic").expect("no error").state.step).collect()
    });
    assert_eq!(states, [0, 0]);
}

#[test]
fn several_processes_that_do_not_know_of_each_other_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for (variable, by) in [
        ("SLURM_STEP_NUM_TASKS", "Slurm"),
        ("WORLD_SIZE", "torchrun"),
        ("PMI_SIZE", "MPICH"),
        ("PET_NNODES", "Kubernetes"),
    ] {
        let output = common::training(folder.path()).env(variable, "4").output().expect("the program starts");
        let text = common::errors(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        for part in [&format!("{variable}=4"), by, "mpirun -n", &format!("unset {variable}")] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
    assert!(std::fs::read_dir(folder.path()).expect("a folder").next().is_none(), "nothing is written");
}
