//! The ranks of a run, from the launcher's environment variables.

use std::sync::Arc;

use explainer_zoo::device::{Compute, DeviceError};

use super::{DeviceCommunicator, ProcessGroup};

/// Variables that hold the number of processes, and the launcher that sets them. `SLURM_NTASKS` is not one of them: it is
/// also set in the shell of `salloc` and in a batch script, where nothing has been launched.
const SIZES: [(&str, &str); 7] = [
    ("SLURM_STEP_NUM_TASKS", "Slurm's srun"),
    ("OMPI_COMM_WORLD_SIZE", "Open MPI's mpirun"),
    ("PMI_SIZE", "MPICH's mpiexec"),
    ("MV2_COMM_WORLD_SIZE", "MVAPICH's mpirun"),
    ("WORLD_SIZE", "torchrun, or a PyTorchJob on Kubernetes"),
    ("PET_NNODES", "a TrainJob on Kubernetes"),
    ("GROUP_WORLD_SIZE", "torchrun"),
];

/// Variables that are set in a process that was started by MPI.
#[cfg(feature = "mpi")]
const STARTED: [&str; 5] = ["OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "PMI_SIZE", "MV2_COMM_WORLD_RANK"];

/// Why the ranks cannot connect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaunchError {
    /// Several processes were started, but they are not connected.
    #[error(
        "{variable}={size} says that {by} has started {size} processes, but {why}. Each of them would train its own head, \
         into the same folder. {how}; for one process alone unset {variable}"
    )]
    Apart {
        /// The variable.
        variable: &'static str,
        /// Its value.
        size: usize,
        /// The launcher that sets it.
        by: &'static str,
        /// Why they are not connected.
        why: &'static str,
        /// What to do.
        how: &'static str,
    },
    /// `--strategy burn-ddp` with another device than all CUDA GPUs.
    #[error(
        "--strategy burn-ddp trains on all CUDA GPUs that this machine has, or that CUDA_VISIBLE_DEVICES shows: expected \
         --device cuda, without a number, found {device}"
    )]
    NotAllGpus {
        /// The device of the configuration.
        device: String,
    },
    /// `--strategy burn-ddp` in one of several processes.
    #[error(
        "--strategy burn-ddp is one process with all GPUs of its machine, but {variable}={size} says that {by} has started \
         {size} processes: leave out one of the two, or unset {variable}"
    )]
    GpusOfSeveral {
        /// The variable.
        variable: &'static str,
        /// Its value.
        size: usize,
        /// The launcher that sets it.
        by: &'static str,
    },
    /// `--strategy burn-ddp` with one GPU.
    #[error("--strategy burn-ddp is for several GPUs, and there is one here: leave it out")]
    OneGpu,
    /// There is no GPU.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// MPI cannot be initialised.
    #[error("MPI cannot be initialised, or not for calls from several threads; look at the launcher's own messages")]
    NoMpi,
}

/// The launcher's environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The variable with the largest number of processes above one, that number, and the launcher that sets it.
    pub several: Option<(&'static str, usize, &'static str)>,
}

impl Environment {
    /// Reads the variables through `get`.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Self {
        let size = |name: &str| get(name).and_then(|text| text.trim().parse::<usize>().ok()).unwrap_or(1);
        let sizes = SIZES.iter().map(|(name, by)| (*name, size(name), *by));
        // The first of equals: a launcher comes before the system that may contain it.
        let several = sizes.filter(|(_, size, _)| *size > 1).reduce(|a, b| if b.1 > a.1 { b } else { a });
        Self { several }
    }

    /// Refuses a single process where a launcher has started several.
    ///
    /// # Errors
    /// [`LaunchError::Apart`].
    pub fn check_alone(self) -> Result<(), LaunchError> {
        let Some((variable, size, by)) = self.several else { return Ok(()) };
        let (why, how) = if cfg!(feature = "mpi") {
            (
                "MPI sees this one only",
                "Launch them by MPI: `mpirun -n N explainer-train ...`, or `srun --mpi=pmix explainer-train ...` in an \
                 allocation (`srun --mpi=list` names what Slurm has), not by torchrun or a plain srun",
            )
        } else {
            (
                "this program is built without MPI",
                "Build with `--features mpi` and launch by `mpirun -n N explainer-train ...`, or by \
                 `srun --mpi=pmix explainer-train ...`",
            )
        };
        Err(LaunchError::Apart { variable, size, by, why, how })
    }
}

/// The group of the processes that a launcher has started together with this one.
///
/// # Errors
/// [`LaunchError`], which says how to launch them.
pub fn connect() -> Result<Arc<ProcessGroup>, LaunchError> {
    let environment = Environment::read(|name| std::env::var(name).ok());
    #[cfg(feature = "mpi")]
    if environment.several.is_some() || STARTED.iter().any(|name| std::env::var_os(name).is_some()) {
        let group = ProcessGroup::new(super::MpiCommunicator::start().ok_or(LaunchError::NoMpi)?);
        if !group.is_single() {
            return Ok(group);
        }
        environment.check_alone()?;
        return Ok(group);
    }
    environment.check_alone()?;
    Ok(ProcessGroup::single())
}

/// A rank for each GPU of this machine, each for its own thread. `device` is the configuration's.
///
/// # Errors
/// [`LaunchError`] where `device` is not `cuda`, where there is one GPU or none, and where a launcher has started several
/// processes, each of which would use all GPUs.
pub fn gpus(device: &str) -> Result<Vec<DeviceCommunicator>, LaunchError> {
    if device != "cuda" {
        return Err(LaunchError::NotAllGpus { device: device.into() });
    }
    if let Some((variable, size, by)) = Environment::read(|name| std::env::var(name).ok()).several {
        return Err(LaunchError::GpusOfSeveral { variable, size, by });
    }
    let devices = Compute::all_cuda()?;
    if devices.len() == 1 {
        return Err(LaunchError::OneGpu);
    }
    Ok(DeviceCommunicator::new(&devices))
}

/// The device of a rank: a `name` without a number gets the rank's number on its machine, so that each rank has its own
/// GPU. A rank that sees one GPU only, as under most schedulers, gets that one.
///
/// # Errors
/// [`DeviceError`] as [`Compute::new`].
pub fn own_device(name: &str, group: &ProcessGroup) -> Result<String, DeviceError> {
    let (number, count) = group.local_rank();
    if count == 1 || !["cuda", "wgpu", "tch"].contains(&name) {
        return Ok(name.into());
    }
    let own = format!("{name}:{number}");
    match Compute::new(&own, Some(1)) {
        Ok(_) => Ok(own),
        Err(DeviceError::Absent { count: 1, .. }) => Ok(format!("{name}:0")),
        Err(error) => Err(error),
    }
}

/// The CPU threads of a rank: `asked`, or its share of the machine's.
pub fn own_threads(asked: Option<usize>, group: &ProcessGroup) -> Option<usize> {
    let (_, count) = group.local_rank();
    let all = || std::thread::available_parallelism().map_or(1, usize::from);
    if count == 1 { asked } else { asked.or_else(|| Some((all() / count).max(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::read(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string()))
    }

    #[test]
    fn several_processes_are_seen() {
        for (name, _) in SIZES {
            let error = environment(&[(name, "4")]).check_alone().unwrap_err().to_string();
            assert!(error.contains(&format!("{name}=4")) && error.contains("mpirun"), "{error}");
        }
        let all = environment(&[("WORLD_SIZE", "2"), ("SLURM_STEP_NUM_TASKS", "16"), ("OMPI_COMM_WORLD_SIZE", "16")]);
        assert_eq!(all.several, Some(("SLURM_STEP_NUM_TASKS", 16, "Slurm's srun")));
    }

    #[test]
    fn one_process_is_alone() {
        // A shell of salloc, a batch script, and a step of one task within an allocation for four.
        let allocation = [("SLURM_JOB_ID", "4242"), ("SLURM_NTASKS", "4"), ("SLURM_NPROCS", "4")];
        let script = [&allocation[..], &[("SLURM_PROCID", "0"), ("SLURM_LOCALID", "0")]].concat();
        let step = [&script[..], &[("SLURM_STEP_ID", "0"), ("SLURM_STEP_NUM_TASKS", "1")]].concat();
        let other = [("WORLD_SIZE", ""), ("PMI_SIZE", "x")];
        for variables in [&[][..], &allocation, &script, &step, &other] {
            assert_eq!(environment(variables).check_alone(), Ok(()));
        }
    }

    #[test]
    fn gpus_are_all_of_this_machine() {
        for device in ["flex", "cuda:0", "wgpu", ""] {
            let error = gpus(device).err();
            assert_eq!(error, Some(LaunchError::NotAllGpus { device: device.into() }));
        }
        #[cfg(not(feature = "cuda"))]
        assert!(matches!(
            gpus("cuda"),
            Err(LaunchError::Device(DeviceError::NotBuilt { .. }) | LaunchError::GpusOfSeveral { .. })
        ));
    }

    #[test]
    fn a_device_with_a_number_and_the_cpu_stay_as_configured() {
        let mut ranks = super::super::ThreadCommunicator::new(2);
        let group = ProcessGroup::new(ranks.remove(1));
        for name in ["flex", "cuda:3", "wgpu:0"] {
            assert_eq!(own_device(name, &group), Ok(name.to_string()));
        }
        assert_eq!(own_threads(Some(7), &group), Some(7));
        assert!(own_threads(None, &group).is_some_and(|threads| threads > 0));
        assert_eq!(own_threads(None, &ProcessGroup::single()), None);
    }
}
