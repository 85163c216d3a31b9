//! Patterns of shard names: `train-{0000..1281}.tar`.

use std::path::{Path, PathBuf};

use super::DataError;

/// Largest number of shards of one pattern.
const MOST: u64 = 1_000_000;

/// The files of a pattern, in order. `{0000..1281}` is a range, with leading zeros if its first number has them. A path
/// without braces is returned unchanged.
pub(super) fn expand(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let wrong = |problem: String| DataError::Shard { path: path.into(), problem };
    let Some(text) = path.to_str() else { return Ok(vec![path.into()]) };
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (range, after) = after.split_once('}').ok_or_else(|| wrong("expected `}` after `{`".into()))?;
        let (first, last, digits) = numbers(range)
            .ok_or_else(|| wrong(format!("found `{{{range}}}`, expected numbers as `{{0000..1281}}`")))?;
        if (last - first).saturating_add(1).saturating_mul(names.len() as u64) > MOST {
            return Err(wrong(format!("names more than {MOST} shards")));
        }
        let numbered =
            |name: &String| (first..=last).map(|n| format!("{name}{before}{n:0digits$}")).collect::<Vec<_>>();
        names = names.iter().flat_map(numbered).collect();
        rest = after;
    }
    Ok(names.into_iter().map(|name| PathBuf::from(name + rest)).collect())
}

/// The folder of all files of a pattern.
pub(super) fn root(path: &Path) -> PathBuf {
    let text = path.to_string_lossy();
    let before = text.split('{').next().unwrap_or_default();
    PathBuf::from(before.rfind('/').map_or("", |slash| &before[..=slash]))
}

/// The first and the last number of `0000..1281`, and the number of digits of the first.
fn numbers(range: &str) -> Option<(u64, u64, usize)> {
    let (first, last) = range.split_once("..")?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    let (from, to) = (number(first)?, number(last)?);
    (from <= to && first.len() <= 20).then_some((from, to, first.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(pattern: &str) -> Vec<String> {
        expand(Path::new(pattern)).unwrap().iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn braces_count() {
        assert_eq!(names("a/b-{08..11}.tar"), ["a/b-08.tar", "a/b-09.tar", "a/b-10.tar", "a/b-11.tar"]);
        assert_eq!(names("{9..10}.tar"), ["9.tar", "10.tar"]);
        assert_eq!(names("{1..2}/{0..1}.tar"), ["1/0.tar", "1/1.tar", "2/0.tar", "2/1.tar"]);
        assert_eq!(names("one.tar"), ["one.tar"]);
        assert_eq!(names("train-{0000..1281}.tar").len(), 1282);
    }

    #[test]
    fn the_folder_of_all_is_known() {
        for (pattern, folder) in
            [("a/b/c-{0..1}.tar", "a/b/"), ("a/{1..2}/c.tar", "a/"), ("c-{0..1}.tar", ""), ("/a/c.tar", "/a/")]
        {
            assert_eq!(root(Path::new(pattern)), Path::new(folder), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_makes_no_sense_is_refused() {
        for (pattern, expected) in [
            ("a-{0..2.tar", "expected `}`"),
            ("a-{x..2}.tar", "found `{x..2}`, expected numbers"),
            ("a-{3..2}.tar", "expected numbers"),
            ("a-{}.tar", "expected numbers"),
            ("a-{0..9999999999}.tar", "more than 1000000 shards"),
            ("{0..9999}{0..9999}.tar", "more than 1000000 shards"),
            ("a-{0..99999999999999999999999}.tar", "expected numbers"),
        ] {
            let problem = expand(Path::new(pattern)).unwrap_err().to_string();
            assert!(problem.contains(expected) && problem.contains(pattern), "{problem}");
        }
    }
}
