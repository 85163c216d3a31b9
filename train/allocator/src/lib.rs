//! The program's memory allocator: mimalloc, which keeps freed pages for the next step instead of handing them back.
//!
//! A training step takes and frees hundreds of megabytes. Handed back to the system after the second that mimalloc waits, they
//! are cleared page by page when the next step asks for them: a fifth of ResNet-50's step (docs/performance.md).

use std::ffi::{c_int, c_long};

/// To be a program's `#[global_allocator]`.
pub use mimalloc::MiMalloc as Allocator;

/// `mi_option_purge_delay`, which the bindings do not name: for how many milliseconds freed pages are kept.
const PURGE_DELAY: c_int = 15;
/// What mimalloc starts with, if the user's environment (`MIMALLOC_PURGE_DELAY`) has nothing else.
const DEFAULT: c_long = 1_000;
/// Longer than a step. What is freed is handed back by a later call of the allocator, at most so much later: at work, a program holds
/// what it has used in the last minute; idle, what it held.
const KEPT: c_long = 60_000;

/// Has freed pages kept for up to a minute, unless the environment asks for another delay (`MIMALLOC_PURGE_DELAY`; of the default,
/// 1000, it cannot be told whether it was asked for). To be called once, when a program starts. Whether it had an effect.
#[allow(unsafe_code, reason = "the options of a C library")]
pub fn keep_freed_pages() -> bool {
    // SAFETY: both functions take numbers and touch mimalloc's table of options alone. An index out of that table reads as
    // 0, so that the first call is also the check that the table is as expected.
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
    fn the_option_is_where_it_is_expected_and_is_set_once() {
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert!(super::keep_freed_pages(), "mimalloc's options have moved: see its mi_option_e");
        }
        assert!(!super::keep_freed_pages());
    }
}
