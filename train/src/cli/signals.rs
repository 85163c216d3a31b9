//! Signals that ask the program to stop.

use burn::train::Interrupter;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the first SIGINT, SIGTERM or SIGHUP asks to stop, after a step or a batch; a second one does not wait. On Unix
/// SIGUSR1 and SIGUSR2, by which batch systems tell of the end beforehand (Slurm's `--signal`), ask for the same as often
/// as they come: the SIGTERM that follows one finds the program stopping, and waits.
pub(super) fn interrupter() -> anyhow::Result<Interrupter> {
    let interrupter = Interrupter::new();
    let (handle, asked) = (interrupter.clone(), AtomicBool::new(false));
    ctrlc::set_handler(move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        stop(&handle);
    })?;
    #[cfg(unix)]
    forewarned(&interrupter)?;
    Ok(interrupter)
}

fn stop(interrupter: &Interrupter) {
    interrupter.stop(Some("interrupted by a signal"));
}

/// Stops at the signals of batch systems, which would end the program otherwise.
#[cfg(unix)]
fn forewarned(interrupter: &Interrupter) -> std::io::Result<()> {
    use signal_hook::consts::{SIGUSR1, SIGUSR2};
    let mut signals = signal_hook::iterator::Signals::new([SIGUSR1, SIGUSR2])?;
    let handle = interrupter.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || signals.forever().for_each(|_| stop(&handle)))?;
    Ok(())
}
