//! Folders, endpoints and retries of the downloads.

use std::ffi::OsString;
use std::fmt;
use std::fs;
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
/// (`HF_ENDPOINT`, `HF_TOKEN` or the token of `hf auth login`, `HF_HOME`, `HF_HUB_CACHE`).
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
        let hub = HubSettings { offline, token: token(variable), ..HubSettings::default() };
        Self { cache_dir, hub, backoff: Duration::from_millis(500) }
    }
}

impl HubSettings {
    /// The token, if it can be sent.
    ///
    /// # Errors
    /// A message that does not show the token: it holds a control character, a space or a character outside ASCII.
    pub(crate) fn checked_token(&self) -> Result<Option<&str>, &'static str> {
        match self.token.as_deref() {
            Some(token) if !token.chars().all(|c| c.is_ascii_graphic()) => Err(
                "the access token holds a line break, a space or another character that no token has; set HF_TOKEN \
                 again, or run `hf auth login`",
            ),
            token => Ok(token),
        }
    }
}

/// The access token as Python's `huggingface_hub` finds it: `HF_TOKEN`, the file `HF_TOKEN_PATH`, or the one that
/// `hf auth login` writes; without line breaks and spaces around it, as files and mounted secrets have them.
fn token(variable: impl Fn(&str) -> Option<OsString>) -> Option<String> {
    let path = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if path("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some() {
        return None;
    }
    let home = path("HF_HOME")
        .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("huggingface")))
        .or_else(|| path("HOME").map(|folder| folder.join(".cache").join("huggingface")));
    let stored = [path("HF_TOKEN_PATH"), home.map(|folder| folder.join("token"))].into_iter().flatten();
    let given = variable("HF_TOKEN").and_then(|token| token.into_string().ok());
    let trimmed = |token: String| Some(token.trim().to_owned()).filter(|token| !token.is_empty());
    given.and_then(trimmed).or_else(|| stored.filter_map(|path| fs::read_to_string(path).ok()).find_map(trimmed))
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
    fn a_token_comes_without_the_line_break_at_its_end() {
        let token = |variables: &[_]| settings(variables).hub.token;
        for text in ["hf_example", "hf_example\n", " hf_example\r\n"] {
            assert_eq!(token(&[("HF_TOKEN", text)]).as_deref(), Some("hf_example"));
        }
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_stored\n").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        assert_eq!(token(&[home]).as_deref(), Some("hf_stored"));
        assert_eq!(token(&[home, ("HF_TOKEN", "hf_example")]).as_deref(), Some("hf_example"));
        assert_eq!(token(&[home, ("HF_TOKEN", "\n")]).as_deref(), Some("hf_stored"));
        assert_eq!(token(&[home, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_refused_without_showing_it() {
        for text in ["hf_exa\nmple", "hf_exa mple", "hf_exa\u{7}mple", "hf_exämple"] {
            let message = settings(&[("HF_TOKEN", text)]).hub.checked_token().unwrap_err();
            assert!(message.contains("HF_TOKEN") && !message.contains("hf_exa"), "{message}");
        }
        assert_eq!(settings(&[]).hub.checked_token(), Ok(None));
    }

    #[test]
    fn the_token_is_not_shown() {
        let hub = HubSettings { token: Some("hf_secret".to_owned()), ..HubSettings::default() };
        let shown = format!("{hub:?}");
        assert!(shown.contains("token: Some") && !shown.contains("hf_secret"), "{shown}");
    }
}
