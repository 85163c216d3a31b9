//! How well the annotations and the images matched.

use std::collections::BTreeMap;

/// The result of looking up an image's annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// There is one.
    Found,
    /// There is none.
    Missing,
    /// There is one for an image of another shape: width and height.
    Contradiction { actual: [u32; 2], annotated: [u32; 2] },
}

/// The images that were looked up, by their names.
#[derive(Debug, Default)]
pub(super) struct Lookups(BTreeMap<String, Lookup>);

impl Lookups {
    pub fn add(&mut self, name: &str, lookup: Lookup) {
        self.0.insert(name.to_owned(), lookup);
    }

    /// A warning if fewer than half of the images are annotated, with `example` as a name among the annotations; and one if
    /// sizes contradict.
    pub fn warnings(&self, example: Option<&str>) -> Vec<String> {
        let count = |wanted: fn(&Lookup) -> bool| self.0.values().filter(|lookup| wanted(lookup)).count();
        let missing = count(|lookup| *lookup == Lookup::Missing);
        let contradictions = count(|lookup| matches!(lookup, Lookup::Contradiction { .. }));
        let mut warnings = Vec::new();
        if 2 * missing > self.0.len()
            && let Some((name, _)) = self.0.iter().find(|(_, lookup)| **lookup == Lookup::Missing)
        {
            let found = self.0.len() - missing;
            let known = example.map(|example| format!("; the annotations name images such as `{example}`"));
            warnings.push(format!(
                "{found} of {} images have annotations, `{name}` for one has none{}",
                self.0.len(),
                known.unwrap_or_default()
            ));
        }
        for (name, lookup) in &self.0 {
            if let Lookup::Contradiction { actual: [w, h], annotated: [width, height] } = lookup {
                let turned =
                    if [w, h] == [height, width] { " (is it annotated before its EXIF rotation?)" } else { "" };
                warnings.push(format!(
                    "{contradictions} images are left out because their size contradicts their annotation: `{name}` has \
                     {w} x {h} pixels, its annotation is for {width} x {height}{turned}"
                ));
                break;
            }
        }
        warnings
    }
}
