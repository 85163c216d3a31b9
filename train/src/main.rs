//! The program `explainer-train`; see `explainer_train::cli`.

fn main() -> std::process::ExitCode {
    explainer_train::cli::run(std::env::args_os())
}
