//! What an explainer is compared with: a method without training, or the values of another evaluation.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use explainer_attribution::{AttributionError, MethodSpec};

/// The reference of an evaluation.
#[derive(Clone, Debug)]
pub enum Reference {
    /// A method without training.
    Method(MethodSpec),
    /// The CSV file of another evaluation.
    File(PathBuf),
}

impl FromStr for Reference {
    type Err = AttributionError;

    /// A method where `text` is the name of one, otherwise a file.
    ///
    /// # Errors
    /// [`AttributionError`] for a misspelt method: a name without `.`, `/` and `\` that is no file either.
    fn from_str(text: &str) -> Result<Self, AttributionError> {
        match text.parse() {
            Ok(method) => Ok(Self::Method(method)),
            Err(AttributionError::Unknown { .. }) if text.contains(['.', '/', '\\']) || Path::new(text).exists() => {
                Ok(Self::File(text.into()))
            }
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_methods_paths_are_files_and_the_rest_is_refused() {
        let parse = str::parse::<Reference>;
        assert!(matches!(parse("grad-cam"), Ok(Reference::Method(method)) if method.to_string() == "grad-cam"));
        assert!(matches!(parse("rise@500"), Ok(Reference::Method(method)) if method.to_string() == "rise@500"));
        for file in ["ttame.csv", "runs/ttame", "./grad-cam"] {
            assert!(matches!(parse(file), Ok(Reference::File(path)) if path == Path::new(file)));
        }
        let problem = |text: &str| parse(text).unwrap_err().to_string();
        assert!(
            problem("gard-cam").starts_with("unknown attribution method `gard-cam`; known are grad-cam, grad-cam++")
        );
        assert!(problem("rise@0").contains("found `0` behind the @, expected a whole number"));
    }
}
