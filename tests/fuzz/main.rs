//! A parser under libFuzzer; `scripts/fuzz` builds and runs it.
//!
//! `EXPLAINER_FUZZ` names the parser. Panics and allocations beyond [`LIMIT`] are crashes, and leave their input in a file.

#![no_main]
#![allow(clippy::expect_used, clippy::panic, reason = "a fuzzer stops by panicking")]

use std::alloc::System;
use std::sync::OnceLock;

use cap::Cap;
use explainer_tests::untrusted::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

/// Bytes that may be allocated at any time: inputs have a few kibibytes, libFuzzer itself needs little.
const LIMIT: usize = 256 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, LIMIT);

static TARGET: OnceLock<(Target, TempDir)> = OnceLock::new();

/// The parser, and a folder, in memory where there is one.
fn target() -> &'static (Target, TempDir) {
    TARGET.get_or_init(|| {
        let name = std::env::var("EXPLAINER_FUZZ").expect("EXPLAINER_FUZZ names a parser");
        let target = TARGETS.into_iter().find(|target| target.name == name);
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        (target.unwrap_or_else(|| panic!("there is no parser {name}")), folder)
    })
}

fuzz_target!(
    init: {
        // The corpus begins with whole files.
        if let Some(corpus) = std::env::var_os("EXPLAINER_SEEDS") {
            for (number, seed) in (target().0.seeds)().iter().enumerate() {
                std::fs::write(std::path::Path::new(&corpus).join(format!("seed-{number}")), seed).expect("a file");
            }
        }
    },
    |bytes: &[u8]| {
        let (target, folder) = target();
        (target.parse)(bytes, folder.path());
    }
);
