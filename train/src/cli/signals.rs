//! Signals that stop the program.

use burn::train::Interrupter;
use std::sync::atomic::{AtomicBool, Ordering};

/// The interrupter that the first SIGINT, SIGTERM or SIGHUP stops, after a step or a batch. A second one ends the process at
/// once with exit code 130. On Unix SIGUSR1 and SIGUSR2 stop it too, any number of times: batch systems send them before the
/// time limit (Slurm's `--signal`), and the SIGTERM that follows counts as the first one.
pub(super) fn interrupter() -> anyhow::Result<Interrupter> {
    let interrupter = Interrupter::new();
    let (handle, received) = (interrupter.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if received.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        stop(&handle);
    })?;
    #[cfg(unix)]
    stop_on_user_signals(&interrupter)?;
    Ok(interrupter)
}

fn stop(interrupter: &Interrupter) {
    interrupter.stop(Some("interrupted by a signal"));
}

/// Handles the signals of batch systems, which end a process by default.
#[cfg(unix)]
fn stop_on_user_signals(interrupter: &Interrupter) -> std::io::Result<()> {
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1, SIGUSR2])?;
    let handle = interrupter.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| stop(&handle)))?;
    Ok(())
}
