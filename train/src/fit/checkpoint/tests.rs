use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::*;
use burn::module::Module;
use burn::nn::LinearConfig;
use burn::optim::{ModuleOptimizer, SgdConfig};
use burn::tensor::Device;

fn run() -> RunIdentity {
    RunIdentity { configuration: "this".into(), weights_sha256: String::new(), images: 20, images_sha256: "ab".into() }
}

fn save(store: &Store, step: usize, best: Option<usize>) -> Result<PathBuf, CheckpointError> {
    let optimizer: ModuleOptimizer = SgdConfig::new().init();
    let best = best.map(|step| Best { step, ad50: 1.0, images: 4, figures: BTreeMap::new() });
    let state = State { step, best, ..State::start(run(), 10) };
    let head = LinearConfig::new(3, 2).init(&Device::default()).into_record();
    store.save(state, head, optimizer.to_record())
}

#[test]
fn the_last_few_and_the_best_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 2);
    for step in 1..=5 {
        save(&store, step, Some(2.min(step))).unwrap();
    }
    assert_eq!(store.steps(), [2, 4, 5]);
    let debris = fs::read_dir(folder.path()).unwrap().flatten().count();
    assert_eq!(debris, 3, "nothing but checkpoints is left");
}

#[test]
fn a_step_saved_again_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 1);
    save(&store, 3, None).unwrap();
    fs::create_dir(store.aside(3)).unwrap(); // of a run that was killed before it had removed it
    fs::write(store.aside(3).join(STATE), "{}").unwrap();
    let path = save(&store, 3, Some(3)).unwrap();
    assert!(load(&path, &run()).unwrap().state.best.is_some());
    assert_eq!(fs::read_dir(folder.path()).unwrap().flatten().count(), 1, "nothing but the checkpoint is left");
}

#[test]
fn a_run_killed_while_it_replaced_its_only_checkpoint_has_it_still() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 1);
    let path = save(&store, 3, None).unwrap();
    fs::rename(&path, store.aside(3)).unwrap();
    assert!(store.steps().is_empty());
    store.restore().unwrap();
    assert_eq!(store.newest(|path| load(path, &run())).0.unwrap().state.step, 3);
    store.sweep();
    assert_eq!(fs::read_dir(folder.path()).unwrap().flatten().count(), 1);
}

#[test]
fn the_debris_of_a_killed_run_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 1);
    let path = save(&store, 3, None).unwrap();
    for left in [folder.path().join(".writing-1a2b3c"), store.aside(3)] {
        fs::create_dir(&left).unwrap();
        fs::write(left.join(HEAD), "half of a head").unwrap();
    }
    store.restore().unwrap();
    store.sweep();
    load(&path, &run()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().flatten().count(), 1);
    let nowhere = Store::new(folder.path().join("nowhere"), 1);
    nowhere.restore().unwrap();
    nowhere.sweep();
}

#[test]
fn a_checkpoint_of_another_folder_is_recognised() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let [here, there] = folders.each_ref().map(|folder| Store::new(folder.path().into(), 1));
    let [own, foreign] = [&here, &there].map(|store| save(store, 3, None).unwrap());
    assert!(here.holds(&load(&own, &run()).unwrap()));
    assert!(here.holds(&load(&here.folder.join(".").join("step-00000003"), &run()).unwrap()));
    assert!(!here.holds(&load(&foreign, &run()).unwrap()));
}

#[test]
fn a_flipped_bit_in_any_file_is_noticed_and_the_previous_one_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 3);
    for step in [1, 2] {
        save(&store, step, None).unwrap();
    }
    for name in [HEAD, OPTIMIZER, STATE, SUM] {
        let file = store.path(2).join(name);
        let whole = fs::read(&file).unwrap();
        for place in [0, whole.len() / 2, whole.len() - 2] {
            for bit in [1, 32] {
                let mut bytes = whole.clone();
                bytes[place] ^= bit;
                fs::write(&file, bytes).unwrap();
                let (found, passed_over) = store.newest(|path| load(path, &run()));
                assert_eq!(found.unwrap().state.step, 1, "{name} at {place}");
                assert!(matches!(&passed_over[..], [CheckpointError::Damaged { .. }]), "{name}: {passed_over:?}");
            }
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(store.newest(|path| load(path, &run())).0.unwrap().state.step, 1, "without {name}");
        fs::write(&file, whole).unwrap();
    }
    assert_eq!(store.newest(|path| load(path, &run())).0.unwrap().state.step, 2);
}

#[test]
fn the_newest_is_that_of_the_last_step_whatever_the_clock_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 2);
    let day = Duration::from_secs(24 * 3600);
    for (step, time) in
        [(1, SystemTime::UNIX_EPOCH + 50_000 * day), (2, SystemTime::UNIX_EPOCH), (3, SystemTime::UNIX_EPOCH)]
    {
        let path = save(&store, step, None).unwrap();
        fs::File::open(path).unwrap().set_modified(time).unwrap();
    }
    assert_eq!(store.steps(), [2, 3], "the oldest step is removed, not the oldest file");
    assert_eq!(store.newest(|path| load(path, &run())).0.unwrap().state.step, 3);
}

#[test]
fn a_damaged_later_step_does_not_push_a_good_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 1);
    fs::create_dir(store.path(9)).unwrap();
    save(&store, 3, None).unwrap();
    assert_eq!(store.newest(|path| load(path, &run())).0.unwrap().state.step, 3);
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path().into(), 1);
    let path = save(&store, 1, None).unwrap();
    let other = RunIdentity { configuration: "other".into(), ..run() };
    assert!(matches!(load(&path, &other), Err(CheckpointError::OtherRun { .. })));
    let (found, passed_over) = store.newest(|path| load(path, &other));
    assert!(found.is_none() && passed_over.iter().all(CheckpointError::is_foreign));
    load(&path, &run()).unwrap();
}

#[test]
fn a_checkpoint_of_other_images_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = save(&Store::new(folder.path().into(), 1), 1, None).unwrap();
    let refusal = |now: RunIdentity| load(&path, &now).unwrap_err().to_string();
    let renamed = refusal(RunIdentity { images_sha256: "cd".into(), ..run() });
    assert!(renamed.contains("there were 20, now there are 20, with other names"), "{renamed}");
    let fewer = refusal(RunIdentity { images: 19, images_sha256: "cd".into(), ..run() });
    assert!(fewer.contains("there were 20, now there are 19;") && fewer.contains("data.train"), "{fewer}");
}

#[test]
fn another_format_is_refused_whatever_its_content() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(STATE), r#"{"schema_version": 1, "step": "one"}"#).unwrap();
    let error = load(folder.path(), &run()).unwrap_err();
    assert!(matches!(error, CheckpointError::Version { found: 1, .. }) && error.is_foreign(), "{error}");
}

#[test]
fn a_failure_to_write_names_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let blocked = folder.path().join("checkpoints");
    fs::write(&blocked, "a file, not a folder").unwrap();
    let message = save(&Store::new(blocked, 1), 1, None).unwrap_err().to_string();
    assert!(message.contains("checkpoints: cannot write") && message.contains("--resume auto"), "{message}");
}
