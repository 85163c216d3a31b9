//! Built-in settings: the files of `configs/`, compiled into the program, so that an installed program has them in any
//! folder. `configs/experiments/` is not among them: those files name data of one machine.

use super::error::ConfigError;
use explainer_zoo::spelling::nearest;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

/// One file of `configs/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preset {
    /// The file's name without `.yaml`.
    pub name: &'static str,
    /// The file's text.
    pub text: &'static str,
}

macro_rules! presets {
    ($($name:literal)+) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../../configs/", $name, ".yaml")) },)+]
    };
}

/// All built-in settings, sorted by name.
pub const PRESETS: &[Preset] = presets![
    "bee_quickstart"
    "bee_resnet50"
    "bee_vit"
    "compare_bee_quickstart"
    "compare_quickstart"
    "lcam_img_resnet50"
    "masking_model_quickstart"
    "masking_model_resnet50"
    "masking_model_resnet50_released"
    "ptame_resnet50"
    "ptame_resnet50_mnasnet0_5"
    "ptame_resnet50_mobilenet_v3_small"
    "ptame_vgg16"
    "ptame_vit"
    "quickstart"
    "ttame_resnet50"
    "ttame_vgg16"
    "ttame_vit"
];

impl Preset {
    /// The first comment of the file: one sentence that says what it is for.
    #[must_use]
    pub fn description(&self) -> &'static str {
        let comments = self.text.lines().filter_map(|line| line.strip_prefix("# "));
        comments.into_iter().find(|line| !line.starts_with("yaml-language-server")).unwrap_or_default()
    }
}

/// The built-in settings that a path names: `NAME`, `NAME.yaml`, `configs/NAME` or `configs/NAME.yaml`.
#[must_use]
pub fn find(path: &Path) -> Option<&'static Preset> {
    let mut parts = path.components();
    let (Some(Component::Normal(last)), folder) = (parts.next_back(), parts.as_path()) else { return None };
    if folder != Path::new("") && folder != Path::new("configs") {
        return None;
    }
    let name = last.to_str()?;
    let name = name.strip_suffix(".yaml").unwrap_or(name);
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The built-in settings that [`Config::load`](super::Config::load) and [`CompareConfig::load`](super::CompareConfig::load) read for this path, because there is no such
/// file. A caller says so: the text is not one that the user can see in a folder.
#[must_use]
pub fn replaces(path: &Path) -> Option<&'static Preset> {
    if existing(path).is_some() { None } else { find(path) }
}

/// The file of a path, which may be given without `.yaml`.
fn existing(path: &Path) -> Option<PathBuf> {
    let with_ending = || path.extension().is_none().then(|| path.with_extension("yaml"));
    [Some(path.to_owned()), with_ending()].into_iter().flatten().find(|path| path.exists())
}

/// The text of a YAML file or, where there is none, of the built-in settings of that name.
pub(crate) fn read(path: &Path) -> Result<String, ConfigError> {
    let file = existing(path).unwrap_or_else(|| path.to_owned());
    let source = match (fs::read_to_string(&file), find(path)) {
        (Ok(text), _) => return Ok(text),
        (Err(error), Some(preset)) if error.kind() == ErrorKind::NotFound => return Ok(preset.text.to_owned()),
        (Err(error), _) => error,
    };
    if source.kind() != ErrorKind::NotFound {
        return Err(ConfigError::Read { path: path.to_owned(), source });
    }
    Err(ConfigError::Missing(unknown(path)))
}

/// The message about a path that is neither a file nor built-in settings.
#[must_use]
pub fn unknown(path: &Path) -> String {
    let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let near = nearest(stem, names).map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
    let path = path.display();
    format!(
        "{path}: no such file, and no built-in settings of this name{near}; `explainer-train config list` lists them"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_of_configs_is_compiled_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = files
            .filter(|file| file.extension().is_some_and(|ending| ending == "yaml"))
            .map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        names.sort();
        assert_eq!(PRESETS.iter().map(|preset| preset.name).collect::<Vec<_>>(), names);
    }

    #[test]
    fn each_has_a_description_of_one_line_and_no_path_of_one_machine() {
        for preset in PRESETS {
            let description = preset.description();
            assert!((20..=105).contains(&description.len()) && description.ends_with('.'), "{preset:?}");
            assert!(!preset.text.contains("../"), "{}: belongs into configs/experiments/", preset.name);
        }
    }

    #[test]
    fn a_path_names_one_with_and_without_its_folder_and_ending() {
        for path in ["ttame_vit", "ttame_vit.yaml", "configs/ttame_vit", "configs/ttame_vit.yaml"] {
            assert_eq!(find(Path::new(path)).unwrap().name, "ttame_vit", "{path}");
        }
        for path in ["", "ttame", "ttame_vit.yml", "./ttame_vit.yaml", "/ttame_vit.yaml", "other/ttame_vit.yaml", ".."]
        {
            assert_eq!(find(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn a_file_goes_before_built_in_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("quickstart.yaml");
        assert!(matches!(read(&file), Err(ConfigError::Missing(_))), "it is another folder");
        fs::write(&file, "own").unwrap();
        assert_eq!(read(&file).unwrap(), "own");
        assert_eq!(read(&file.with_extension("")).unwrap(), "own", "without its ending");
        assert!(matches!(read(folder.path()), Err(ConfigError::Read { .. })), "a folder is no file");
        assert_eq!(replaces(Path::new("quickstart")).unwrap().name, "quickstart");
    }

    #[test]
    fn a_similar_name_is_suggested() {
        let error = read(Path::new("ttame_vti.yaml")).unwrap_err().to_string();
        assert!(error.contains("did you mean `ttame_vit`?"), "{error}");
    }
}
