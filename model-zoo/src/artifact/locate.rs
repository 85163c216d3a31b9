//! Finding the folder of an artifact.

use std::path::{Path, PathBuf};

use super::{ArtifactError, CONFIG, MODEL};

/// The folder of an artifact inside the output of a run.
const FOLDER: &str = "artifact";

/// The folder of the artifact that `path` names: `path` itself, or `artifact/` in it if `path` is the output of a run.
///
/// # Errors
/// [`ArtifactError::Missing`] says what is there instead.
pub fn locate(path: &Path) -> Result<PathBuf, ArtifactError> {
    let inside = path.join(FOLDER);
    if path.join(CONFIG).is_file() {
        Ok(path.to_path_buf())
    } else if inside.join(CONFIG).is_file() {
        Ok(inside)
    } else {
        Err(ArtifactError::Missing { path: path.to_path_buf(), found: found(path) })
    }
}

/// What is at `path` in place of an artifact.
fn found(path: &Path) -> &'static str {
    if path.is_file() {
        "a file"
    } else if !path.is_dir() {
        "nothing"
    } else if path.join("state.json").is_file() {
        "a checkpoint"
    } else if path.join(MODEL).is_file() {
        "a folder with model.safetensors but without config.json"
    } else if path.join("checkpoints").is_dir() {
        "the output of a run that has written no artifact yet"
    } else {
        "a folder without config.json"
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_output_of_a_run_is_taken_as_its_artifact() {
        let run = tempfile::tempdir().unwrap();
        let problem = |path: &Path| locate(path).unwrap_err().to_string();
        assert!(problem(&run.path().join("none")).contains("none: found nothing, expected the folder of an explainer"));
        assert!(problem(run.path()).contains("found a folder without config.json"));
        fs::create_dir(run.path().join("checkpoints")).unwrap();
        assert!(problem(run.path()).contains("the output of a run that has written no artifact yet"));
        let artifact = run.path().join(FOLDER);
        fs::create_dir(&artifact).unwrap();
        fs::write(artifact.join(CONFIG), "{}").unwrap();
        assert_eq!(locate(run.path()).unwrap(), artifact);
        assert_eq!(locate(&artifact).unwrap(), artifact);
        assert!(problem(&artifact.join(CONFIG)).contains("found a file"));
    }
}
