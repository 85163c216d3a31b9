//! Class names, and the class that a user names.

use std::collections::HashSet;

use explainer_zoo::classes;
use explainer_zoo::explain::Explain;

/// Number of names that an error lists.
const LISTED: usize = 5;
/// Similarity (0..=1) from which an error suggests a name.
const CLOSE: f64 = 0.4;

/// Why a class cannot be identified.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClassError {
    /// No class of this name.
    #[error(
        "no class is called {text:?}{}; give a name, its beginning, or an index from 0 to {last}",
        suggestion(close)
    )]
    Unknown {
        /// The user's text.
        text: String,
        /// Similar names, the most similar first.
        close: Vec<String>,
        /// The highest index.
        last: usize,
    },
    /// Several classes match.
    #[error("{text:?} may be any of {}; give the index", found.join(", "))]
    Ambiguous {
        /// The user's text.
        text: String,
        /// Matching classes, with their indices.
        found: Vec<String>,
    },
}

fn suggestion(close: &[String]) -> String {
    if close.is_empty() { String::new() } else { format!("; close to it are {}", close.join(", ")) }
}

/// The names of a classifier's classes, one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames(Vec<String>);

impl ClassNames {
    /// The names that an explainer knows; without any, those of [`ClassNames::new`].
    #[must_use]
    pub fn of(explainer: &dyn Explain) -> Self {
        Self::new(explainer.class_names(), explainer.backbone().spec().classes)
    }

    /// `names` of `classes` classes. Without names, ImageNet-1k's for 1000 classes, otherwise `class 0`, `class 1`, ...
    #[must_use]
    pub fn new(names: Option<&[String]>, classes: usize) -> Self {
        let imagenet = classes::imagenet();
        let name = |class: usize| match names {
            Some(names) => names.get(class).cloned(),
            None if classes == imagenet.len() => imagenet.get(class).map(ToString::to_string),
            None => None,
        };
        Self((0..classes).map(|class| name(class).unwrap_or_else(|| format!("class {class}"))).collect())
    }

    /// The name of a class.
    #[must_use]
    pub fn get(&self, class: usize) -> &str {
        self.0.get(class).map_or("unknown class", String::as_str)
    }

    /// The class that `text` names: by its name, by its name in any case, by its index, or by the unique beginning of its
    /// name. The first of these rules that matches applies.
    ///
    /// # Errors
    /// [`ClassError::Unknown`] with the closest names, [`ClassError::Ambiguous`].
    pub fn find(&self, text: &str) -> Result<usize, ClassError> {
        let text = text.trim();
        let lower = text.to_lowercase();
        let same = self.matching(|name| name == text);
        let but_for_case = self.matching(|name| name.to_lowercase() == lower);
        let by_index = text.parse::<usize>().ok().filter(|class| *class < self.0.len()).into_iter().collect();
        let prefix = self.matching(|name| !lower.is_empty() && name.to_lowercase().starts_with(&lower));
        match [same, but_for_case, by_index, prefix].iter().find(|found| !found.is_empty()).map(Vec::as_slice) {
            Some([class]) => Ok(*class),
            Some(several) => {
                let mut found: Vec<String> =
                    several.iter().take(LISTED).map(|&class| format!("{} ({class})", self.get(class))).collect();
                if several.len() > LISTED {
                    found.push("...".into());
                }
                Err(ClassError::Ambiguous { text: text.into(), found })
            }
            None => {
                let (close, last) = (self.close(&lower), self.0.len().saturating_sub(1));
                Err(ClassError::Unknown { text: text.into(), close, last })
            }
        }
    }

    fn matching(&self, fits: impl Fn(&str) -> bool) -> Vec<usize> {
        self.0.iter().enumerate().filter(|(_, name)| fits(name)).map(|(class, _)| class).collect()
    }

    /// The names that are most similar to `text`, which is in lower case.
    fn close(&self, text: &str) -> Vec<String> {
        let mut close: Vec<(f64, &String)> =
            self.0.iter().map(|name| (similarity(text, &name.to_lowercase()), name)).collect();
        close.retain(|(similarity, _)| *similarity >= CLOSE);
        close.sort_by(|a, b| b.0.total_cmp(&a.0));
        close.into_iter().take(LISTED).map(|(_, name)| name.clone()).collect()
    }
}

/// Dice coefficient of the pairs of adjacent letters, 0..=1; 1 also where `name` contains `text`.
fn similarity(text: &str, name: &str) -> f64 {
    let pairs = |text: &str| text.chars().zip(text.chars().skip(1)).collect::<HashSet<_>>();
    let (a, b) = (pairs(text), pairs(name));
    if !a.is_empty() && name.contains(text) {
        return 1.0;
    }
    2.0 * a.intersection(&b).count() as f64 / (a.len() + b.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> ClassNames {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        ClassNames::new(Some(&names), names.len())
    }

    #[test]
    fn names_fall_back_to_imagenet_and_then_to_numbers() {
        assert_eq!(ClassNames::new(None, 1000).get(207), "golden retriever");
        assert_eq!(ClassNames::new(None, 7).get(3), "class 3");
        assert_eq!(names(&["a", "b"]).get(1), "b");
    }

    #[test]
    fn a_class_is_found_by_name_beginning_or_index() {
        let names = names(&["golden retriever", "Cardigan", "cardigan", "goldfish", "crane", "crane bird"]);
        for (text, class) in [
            ("Golden Retriever", 0),
            ("golden", 0),
            ("Cardigan", 1),
            ("cardigan", 2),
            ("crane", 4),
            ("Crane", 4),
            (" crane b", 5),
            ("3", 3),
        ] {
            assert_eq!(names.find(text), Ok(class), "{text}");
        }
    }

    #[test]
    fn digits_are_a_name_before_they_are_an_index() {
        assert_eq!(names(&["1", "0"]).find("0"), Ok(1));
    }

    #[test]
    fn what_fits_several_classes_is_refused_with_their_indices() {
        let names = names(&["goldfinch", "goldfish", "tench"]);
        let message = names.find("gold").unwrap_err().to_string();
        assert!(message.contains("goldfinch (0), goldfish (1)"), "{message}");
        let numbered = ClassNames::new(None, 9).find("class").unwrap_err();
        assert!(matches!(numbered, ClassError::Ambiguous { found, .. } if found.len() == LISTED + 1));
    }

    #[test]
    fn a_misspelt_class_is_refused_with_close_names() {
        let imagenet = ClassNames::new(None, 1000);
        let close = |text| match imagenet.find(text).unwrap_err() {
            ClassError::Unknown { close, last: 999, .. } => close,
            other => panic!("{other}"),
        };
        assert_eq!(close("golden retreiver")[0], "golden retriever");
        assert!(close("retriever").contains(&"Labrador retriever".to_owned()));
        assert!(close("1000").is_empty() && close("").is_empty());
        assert!(imagenet.find("zzzz").unwrap_err().to_string().contains("0 to 999"));
    }
}
