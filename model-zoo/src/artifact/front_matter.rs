//! The YAML at the top of a model card, which the Hub indexes.

use std::collections::BTreeMap;

/// What a card says once it is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// The licence as the Hub names it.
    pub license: Option<&'a str>,
    /// The contact sheet beside the card.
    pub sheet: Option<&'a str>,
    /// What the figures were measured on.
    pub images: Option<&'a str>,
}

/// What the front matter is made of.
pub(super) struct FrontMatter<'a> {
    /// The card's title.
    pub title: String,
    /// The method's name, a tag.
    pub method: &'a str,
    /// Where the classifier's weights are from, as the artifact names it.
    pub weights: &'a str,
    /// Figures by name.
    pub figures: &'a BTreeMap<String, f64>,
}

impl FrontMatter<'_> {
    /// The front matter between its rules.
    pub(super) fn text(&self, published: Option<&Published<'_>>) -> String {
        let license = match published.and_then(|published| published.license) {
            Some(license) => format!("license: {}\n", quoted(license)),
            None => {
                "# license: state one before you publish; the backbone's and the photographs' licences bear on it\n"
                    .to_owned()
            }
        };
        let base = match base_model(self.weights) {
            Some(model) => format!("base_model: {}\nbase_model_relation: adapter\n", quoted(&model)),
            None => String::new(),
        };
        let images = published.and_then(|published| published.images);
        format!(
            "---\n{license}library_name: explainer\n{base}tags:\n- explainability\n- saliency-maps\n\
             - image-classification\n- {}\n{}---\n",
            self.method,
            self.model_index(images)
        )
    }

    /// The measured figures in the Hub's schema; nothing where there are none.
    fn model_index(&self, images: Option<&str>) -> String {
        let metric = |(name, value): (&String, &f64)| {
            let kind = kind(name)?;
            // Whole numbers with a point, so that they are read as what they are.
            Some(format!("    - type: {kind}\n      name: {}\n      value: {value:?}\n", quoted(name)))
        };
        let metrics: String = self.figures.iter().filter_map(metric).collect();
        if metrics.is_empty() {
            return String::new();
        }
        format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: image-classification\n      \
             name: explanation of an image classifier\n    dataset:\n      type: validation-images\n      name: {}\n    \
             metrics:\n{metrics}",
            quoted(&self.title),
            quoted(images.unwrap_or("validation images of the run")),
        )
    }
}

/// What the Hub is to call a figure; `None` for one that measures the run and not the explainer.
fn kind(figure: &str) -> Option<&'static str> {
    let measured = |stem: &str| figure.starts_with(stem) && figure.ends_with(')');
    match figure {
        _ if measured("AD(") => Some("average-drop"),
        _ if measured("IC(") => Some("increase-in-confidence"),
        _ if measured("AG(") => Some("average-gain"),
        _ if figure.ends_with(" mixture") => Some("mean-score"),
        _ => None,
    }
}

/// Text as a scalar of YAML that is nothing but text, whatever is in it: JSON's strings are YAML's too.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text below the front matter.
pub(super) fn body(card: &str) -> &str {
    let Some(rest) = card.strip_prefix("---\n") else { return card };
    rest.split_once("\n---\n").map_or(card, |(_, body)| body)
}

/// The model on the hub that weights came from, where they did: `owner/name` of `hf://owner/name...`.
fn base_model(weights: &str) -> Option<String> {
    let mut parts = weights.strip_prefix("hf://")?.splitn(3, '/');
    let (owner, name) = (parts.next()?, parts.next()?.split('@').next()?);
    let valid = |part: &str| {
        !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    (valid(owner) && valid(name)).then(|| format!("{owner}/{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_model_is_known_by_its_address() {
        let known = Some("timm/vit_small.in1k".to_string());
        assert_eq!(base_model("hf://timm/vit_small.in1k"), known);
        assert_eq!(base_model("hf://timm/vit_small.in1k@main/model.safetensors"), known);
        for other in ["hf://timm", "hf://timm/", "hf://a b/c", "hf://a/b\nlicense: mit", "/data/timm/vit.pth"] {
            assert_eq!(base_model(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_breaks_out_of_the_front_matter() {
        let figures = BTreeMap::from([("AD(50)".to_owned(), 12.0), ("training steps".to_owned(), 3.0)]);
        let matter = FrontMatter { title: "a\n---\n\"b\": [".into(), method: "ttame", weights: "x", figures: &figures };
        let images = Some("val: {\n- x\u{7f}");
        let published = Published { repository: "a/b", license: Some("mit"), sheet: None, images };
        let text = matter.text(Some(&published));
        assert_eq!(text.matches("\n---\n").count(), 1, "{text}");
        for part in ["license: \"mit\"\n", "- name: \"a\\n---\\n\\\"b\\\": [\"\n", "      value: 12.0\n"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert!(!text.contains("training steps"), "{text}");
        assert_eq!(body(&format!("{text}# Title\n---\nmore\n")), "# Title\n---\nmore\n");
        assert_eq!(body("# Title\n"), "# Title\n");
    }
}
