//! "Did you mean": the known name that a misspelt one was probably meant to be.

/// The known name with the fewest edits from `found`, if they are few enough for a typing mistake: at most one, and one
/// more for every four letters.
///
/// Edits are insertions, deletions, substitutions and swaps of neighbours (optimal string alignment). Case does not count,
/// nor does a parameter behind `@` or `[`, as in `ad[@PERCENT]`.
pub fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let found = stem(found).to_lowercase();
    let candidates = known.into_iter().map(stem).filter(|name| !name.is_empty());
    let (distance, name) = candidates.map(|name| (strsim::osa_distance(&found, &name.to_lowercase()), name)).min()?;
    (distance <= 1 + found.chars().count() / 4).then_some(name)
}

/// The end of an error message about an unknown name: ``; did you mean `NAME`?``, or nothing if no known name is near.
pub fn did_you_mean<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    nearest(found, known).map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

/// A name without its parameter.
fn stem(name: &str) -> &str {
    name.split(['@', '[']).next().unwrap_or(name).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_near_names_are_suggested() {
        let known = ["epochs", "batch_size", "seed", "sgd"];
        for (found, expected) in [
            ("epoch", Some("epochs")),
            ("batchsize", Some("batch_size")),
            ("sdg", Some("sgd")),
            ("SGD", Some("sgd")),
            ("steps", None),
            ("learning_rate", None),
            ("", None),
        ] {
            assert_eq!(nearest(found, known), expected, "{found}");
        }
    }

    #[test]
    fn parameters_do_not_count() {
        let known = ["ad[@PERCENT]", "insertion[@STEPS]"];
        assert_eq!(did_you_mean("insretion@28", known), "; did you mean `insertion`?");
        assert_eq!(did_you_mean("AD@50", known), "; did you mean `ad`?");
        assert_eq!(did_you_mean("saliency", known), "");
    }
}
