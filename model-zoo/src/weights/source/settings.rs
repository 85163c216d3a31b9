//! Folders, endpoints and retries of the downloads.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Folders, endpoints and retries; [`SourceSettings::from_env`] outside tests.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// The folder of downloads from `https://` addresses; `None` if the environment names none.
    pub cache_dir: Option<PathBuf>,
    /// The Hugging Face Hub.
    pub hub: HubSettings,
    /// The pause before the first retry of a request; it doubles each time.
    pub backoff: Duration,
}

/// Settings of the Hugging Face Hub. `None` leaves a choice to `hf-hub`, which reads the environment
/// (`HF_ENDPOINT`, `HF_TOKEN` or the token that `hf auth login` stored, `HF_HOME`, `HF_HUB_CACHE`).
#[derive(Clone, Default)]
pub struct HubSettings {
    /// Base address of the Hub.
    pub endpoint: Option<String>,
    /// Access token. Never printed.
    pub token: Option<String>,
    /// The Hub's own cache folder.
    pub cache_dir: Option<PathBuf>,
    /// Use cached files only, never the network.
    pub offline: bool,
}

impl fmt::Debug for HubSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "hidden"))
            .field("cache_dir", &self.cache_dir)
            .field("offline", &self.offline)
            .finish()
    }
}

impl SourceSettings {
    /// The settings that the environment gives: the cache is `$EXPLAINER_CACHE`, `$XDG_CACHE_HOME/explainer` or
    /// `~/.cache/explainer`; `HF_HUB_OFFLINE=1` keeps the Hub offline.
    pub fn from_env() -> Self {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let folder = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let cache_dir = folder("EXPLAINER_CACHE")
            // The XDG specification asks to ignore relative paths.
            .or_else(|| folder("XDG_CACHE_HOME").filter(|path| path.is_absolute()).map(|path| path.join("explainer")))
            .or_else(|| folder("HOME").map(|path| path.join(".cache").join("explainer")));
        // The values that count as true in `huggingface_hub`; `hf-hub` leaves this variable to its callers.
        let offline = variable("HF_HUB_OFFLINE")
            .is_some_and(|value| ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word)));
        Self { cache_dir, hub: HubSettings { offline, ..HubSettings::default() }, backoff: Duration::from_millis(500) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> SourceSettings {
        SourceSettings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let home = ("HOME", "/home/ada");
        let xdg = ("XDG_CACHE_HOME", "/scratch/cache");
        let folder = |variables: &[_]| settings(variables).cache_dir;
        assert_eq!(folder(&[home]), Some("/home/ada/.cache/explainer".into()));
        assert_eq!(folder(&[home, xdg]), Some("/scratch/cache/explainer".into()));
        assert_eq!(folder(&[home, xdg, ("EXPLAINER_CACHE", "weights")]), Some("weights".into()));
        assert_eq!(folder(&[home, ("XDG_CACHE_HOME", "relative")]), Some("/home/ada/.cache/explainer".into()));
        assert_eq!(folder(&[home, ("EXPLAINER_CACHE", "")]), Some("/home/ada/.cache/explainer".into()));
        assert_eq!(folder(&[]), None);
    }

    #[test]
    fn offline_is_read_as_python_reads_it() {
        for (value, offline) in [("1", true), ("True", true), ("YES", true), ("on", true), ("0", false), ("", false)] {
            assert_eq!(settings(&[("HF_HUB_OFFLINE", value)]).hub.offline, offline, "{value:?}");
        }
        assert!(!settings(&[]).hub.offline);
    }

    #[test]
    fn the_token_is_not_shown() {
        let hub = HubSettings { token: Some("hf_secret".to_owned()), ..HubSettings::default() };
        let shown = format!("{hub:?}");
        assert!(shown.contains("token: Some") && !shown.contains("hf_secret"), "{shown}");
    }
}
