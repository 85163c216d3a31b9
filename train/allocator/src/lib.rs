//! The program's memory allocator: mimalloc, set to keep freed pages for the next training step.
//!
//! A training step allocates and frees hundreds of megabytes. By default mimalloc returns freed pages to the system after a
//! second, and the system clears them page by page when the next step allocates: a fifth of the time of ResNet-50's step
//! (docs/src/benchmarks/performance.md).

use std::ffi::{c_int, c_long};

/// The allocator, for `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// Index of `mi_option_purge_delay`, for which the bindings have no name: milliseconds until freed pages are returned.
const PURGE_DELAY: c_int = 15;
/// mimalloc's default, in milliseconds.
const DEFAULT: c_long = 1_000;
/// Longer than a step, in milliseconds. A later call of the allocator returns the pages, so that a working program holds what it
/// used in the last minute, and an idle one what it held.
const KEPT: c_long = 60_000;

/// Keeps freed pages for up to a minute, unless `MIMALLOC_PURGE_DELAY` sets another delay. (A delay of 1000 in the environment
/// cannot be distinguished from the default and is overridden.) Call it once, at the start of the program; returns whether the
/// delay was changed.
#[allow(unsafe_code, reason = "the options of a C library")]
pub fn keep_freed_pages() -> bool {
    // SAFETY: both functions take numbers and access mimalloc's table of options only. An index outside of the table reads
    // as 0, so the first call also checks that the index is the expected option.
    unsafe {
        let expected = libmimalloc_sys::mi_option_get(PURGE_DELAY) == DEFAULT;
        if expected {
            libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT);
        }
        expected
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_option_has_its_expected_index_and_is_set_once() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert!(super::keep_freed_pages(), "mimalloc's options have other indices: see mi_option_e");
        }
        assert!(!super::keep_freed_pages());
    }
}
