//! The program `explainer-train`; see `explainer_train::cli`.

/// Training frees and takes large tensors all the time; the system's allocator gives their pages back to the kernel and
/// has them zeroed again, this one keeps them.
#[global_allocator]
static ALLOCATOR: explainer_allocator::Allocator = explainer_allocator::Allocator;

fn main() -> std::process::ExitCode {
    explainer_allocator::keep_freed_pages();
    explainer_train::cli::run(std::env::args_os())
}
