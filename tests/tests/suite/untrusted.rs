//! Files that are damaged at random are values or errors to every parser, and never a panic.

use std::panic::{AssertUnwindSafe, catch_unwind};

use explainer_tests::untrusted::{TARGETS, damaged};

/// Damaged files a parser, unless `EXPLAINER_MUTATIONS` says how many.
const MUTATIONS: u64 = 600;

#[test]
fn damaged_files_are_values_or_errors() {
    let count = std::env::var("EXPLAINER_MUTATIONS").map_or(MUTATIONS, |text| text.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    for target in TARGETS {
        let seeds = (target.seeds)();
        seeds.iter().for_each(|seed| (target.parse)(seed, folder.path()));
        for number in 0..count {
            let [whole, other] = [0, 1].map(|next| &seeds[(number as usize + next) % seeds.len()]);
            let bytes = damaged(whole, other, number);
            let parsed = catch_unwind(AssertUnwindSafe(|| (target.parse)(&bytes, folder.path())));
            assert!(parsed.is_ok(), "{}, file {number}: {:?}", target.name, String::from_utf8_lossy(&bytes));
        }
    }
}

#[test]
fn whole_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let artifact = &(TARGETS[0].seeds)()[0];
    (TARGETS[0].parse)(artifact, path);
    explainer_zoo::artifact::Artifact::load(path, &burn::tensor::Device::flex()).unwrap();
    let tar = &(TARGETS[3].seeds)()[0];
    (TARGETS[3].parse)(tar, path);
    let set = explainer_train::data::open(&path.join("a.tar"), &explainer_zoo::backbone::imagenet()).unwrap();
    assert_eq!(set.len(), 4);
    for (seed, kind) in (TARGETS[5].seeds)().iter().zip(["o.json", "o.json", "o.csv", "o.xml"]) {
        (TARGETS[5].parse)(seed, path);
        explainer_train::data::Objects::open(&path.join(kind)).unwrap();
    }
}
