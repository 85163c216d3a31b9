//! The YAML at the top of a model card, which the Hub indexes.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_saphyr::DoubleQuoted;

/// The parts of a card that are known when it is published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published<'a> {
    /// `owner/name`.
    pub repository: &'a str,
    /// The licence identifier of the Hub.
    pub license: Option<&'a str>,
    /// The contact sheet beside the card.
    pub sheet: Option<&'a str>,
    /// The images that the figures were measured on.
    pub images: Option<&'a str>,
}

/// The content of the front matter.
pub(super) struct FrontMatter<'a> {
    /// The card's title.
    pub title: String,
    /// The method's name, which becomes a tag.
    pub method: &'a str,
    /// The source of the classifier's weights, as in the artifact.
    pub weights: &'a str,
    /// Figures by name.
    pub figures: &'a BTreeMap<String, f64>,
}

/// The YAML of the front matter, in the Hub's schema.
#[derive(Serialize)]
struct Metadata<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<DoubleQuoted<&'a str>>,
    library_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model: Option<DoubleQuoted<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_model_relation: Option<&'a str>,
    tags: [&'a str; 4],
    #[serde(rename = "model-index", skip_serializing_if = "Option::is_none")]
    model_index: Option<[Model<'a>; 1]>,
}

/// A model and its figures.
#[derive(Serialize)]
struct Model<'a> {
    name: DoubleQuoted<&'a str>,
    results: [Evaluation<'a>; 1],
}

/// Figures of one task on one set of images.
#[derive(Serialize)]
struct Evaluation<'a> {
    task: Named<&'a str>,
    dataset: Named<DoubleQuoted<&'a str>>,
    metrics: Vec<Figure<'a>>,
}

#[derive(Serialize)]
struct Named<T> {
    r#type: &'static str,
    name: T,
}

#[derive(Serialize)]
struct Figure<'a> {
    r#type: &'static str,
    name: DoubleQuoted<&'a str>,
    value: f64,
}

impl FrontMatter<'_> {
    /// The front matter between its rules.
    pub(super) fn text(&self, published: Option<&Published<'_>>) -> String {
        let license = published.and_then(|published| published.license);
        let base_model = base_model(self.weights);
        let metadata = Metadata {
            license: license.map(DoubleQuoted),
            library_name: "explainer",
            base_model_relation: base_model.as_ref().map(|_| "adapter"),
            base_model: base_model.map(DoubleQuoted),
            tags: ["explainability", "saliency-maps", "image-classification", self.method],
            model_index: self.model_index(published.and_then(|published| published.images)),
        };
        let hint = match license {
            Some(_) => "",
            None => {
                "# license: state one before you publish; the backbone's and the photographs' licences bear on it\n"
            }
        };
        // It fails for values that these types cannot have.
        let yaml = serde_saphyr::to_string(&metadata).unwrap_or_default();
        format!("---\n{hint}{yaml}---\n")
    }

    /// The measured figures; `None` if there are none.
    fn model_index<'a>(&'a self, images: Option<&'a str>) -> Option<[Model<'a>; 1]> {
        let figure = |(name, value): (&'a String, &f64)| {
            Some(Figure { r#type: kind(name)?, name: DoubleQuoted(name), value: *value })
        };
        let metrics: Vec<Figure<'_>> = self.figures.iter().filter_map(figure).collect();
        let task = Named { r#type: "image-classification", name: "explanation of an image classifier" };
        let dataset =
            Named { r#type: "validation-images", name: DoubleQuoted(images.unwrap_or("validation images of the run")) };
        (!metrics.is_empty())
            .then(|| [Model { name: DoubleQuoted(&self.title), results: [Evaluation { task, dataset, metrics }] }])
    }
}

/// The Hub's type of a figure; `None` for a figure of the run and not of the explainer.
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

/// The text below the front matter.
pub(super) fn body(card: &str) -> &str {
    let Some(rest) = card.strip_prefix("---\n") else { return card };
    rest.split_once("\n---\n").map_or(card, |(_, body)| body)
}

/// The model on the Hub that the weights are from: `owner/name` of `hf://owner/name...`.
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
        let yaml = text.trim_start_matches("---\n").trim_end_matches("---\n");
        let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        let model = &value["model-index"][0];
        assert_eq!(model["name"], "a\n---\n\"b\": [");
        assert_eq!(model["results"][0]["dataset"]["name"], "val: {\n- x\u{7f}");
        assert_eq!(body(&format!("{text}# Title\n---\nmore\n")), "# Title\n---\nmore\n");
        assert_eq!(body("# Title\n"), "# Title\n");
    }
}
