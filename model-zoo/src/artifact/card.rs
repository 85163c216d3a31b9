//! `README.md`: the model card that a hub shows.

use super::config::{ArtifactConfig, AuxiliaryRecord};
use super::front_matter::{FrontMatter, Published};
use super::{CONFIG, MODEL, RUN};
use crate::head::PyTorchUse;

/// The code that loads and uses an explainer in Rust, compiled as the documentation tests of [`super`].
const RUST: &str = include_str!("usage.rs");

/// The card of an explainer, in Markdown with YAML front matter; once `published`, with its place and its licence.
pub(super) fn card(config: &ArtifactConfig, published: Option<&Published<'_>>) -> String {
    [front_matter(config, published), body(config, published)].join("\n")
}

/// The card's front matter.
pub(super) fn front_matter(config: &ArtifactConfig, published: Option<&Published<'_>>) -> String {
    let matter = FrontMatter {
        title: format!("{} for {}", config.method.title(), config.backbone.name),
        method: config.method.name(),
        weights: &config.backbone.weights,
        figures: &config.figures,
    };
    matter.text(published)
}

/// The card's text.
fn body(config: &ArtifactConfig, published: Option<&Published<'_>>) -> String {
    [introduction(config), figures(config), sheet(published), usage(config, published), limits(config, published)]
        .concat()
}

/// What pictures of explanations there are.
pub(super) fn sheet(published: Option<&Published<'_>>) -> String {
    let sheet = published.and_then(|published| published.sheet);
    sheet.map(|file| format!("\n![Images of the validation set and their maps]({file})\n")).unwrap_or_default()
}

/// Where an explainer is, for the command line.
pub(super) fn place(published: Option<&Published<'_>>) -> String {
    published.map_or_else(|| "DIR".to_owned(), |published| format!("hf://{}", published.repository))
}

fn introduction(config: &ArtifactConfig) -> String {
    let (head, backbone) = (&config.head, &config.backbone);
    let parameters: usize = head
        .tensors()
        .iter()
        .filter(|(name, _)| !name.contains("running_"))
        .map(|(_, shape)| shape.iter().product::<usize>())
        .sum();
    let taps: Vec<String> =
        config.taps.iter().zip(head.channels()).map(|(tap, c)| format!("{} ({c} channels)", code(tap))).collect();
    let sha256 = backbone.sha256.as_deref().unwrap_or("not recorded");
    let [height, width] = head.map_size();
    let image = config.preprocessing.crop;
    let (of, auxiliary) = match &config.auxiliary {
        None => ("", String::new()),
        Some(record) => (" of another, auxiliary one", auxiliary(record)),
    };
    let training = match &config.imported_from {
        None => format!(
            "The backbone stayed frozen; the head alone was trained, on the backbone's own predictions, no labels. \
             Masking procedure: {masking}. The whole run, with its images and every hyper-parameter, is in `{RUN}`.",
            masking = code(&config.masking),
        ),
        Some(file) => format!(
            "The head was trained by another program and imported from {file}; `{RUN}` is the configuration of the \
             import. Masking procedure, as given there: {masking}.",
            file = code(file),
            masking = code(&config.masking),
        ),
    };
    format!(
        "# {title} for {name}\n\n\
         A learned explainer: for an image and a class it draws the heat map of what the frozen classifier {name_code} \
         sees of that class, in one forward pass{of}. It was trained against this one classifier and explains no \
         other.\n\n\
         | | |\n|---|---|\n\
         | method | {title} |\n\
         | backbone | {name_code} |\n\
         | its weights | {weights} |\n\
         | their SHA-256 | {sha256} |\n\
         {auxiliary}\
         | taps | {taps} |\n\
         | classes | {classes} |\n\
         | images | {image} x {image} pixels |\n\
         | maps | {height} x {width} cells |\n\
         | parameters | {parameters} |\n\
         | cost of an explanation | {passes} |\n\
         | written by | {created} |\n\n\
         ## Training\n\n{training}\n",
        title = config.method.title(),
        name = plain(&backbone.name),
        name_code = code(&backbone.name),
        weights = code(&backbone.weights),
        sha256 = code(sha256),
        taps = taps.join(", "),
        classes = head.classes(),
        passes = config.passes,
        created = plain(&config.created_with),
    )
}

/// Rows about the auxiliary.
fn auxiliary(AuxiliaryRecord { backbone, classes, mean, std }: &AuxiliaryRecord) -> String {
    format!(
        "| auxiliary, whose feature maps the head looks at | {}, {classes} classes |\n\
         | its weights | {} |\n\
         | their SHA-256 | {} |\n\
         | its normalisation | mean {mean:?}, standard deviation {std:?} |\n",
        code(&backbone.name),
        code(&backbone.weights),
        code(backbone.sha256.as_deref().unwrap_or("not recorded")),
    )
}

fn figures(config: &ArtifactConfig) -> String {
    if config.figures.is_empty() {
        return "\n## Figures\n\nNone were measured.\n".into();
    }
    let rows: String = config.figures.iter().map(|(name, value)| format!("| {} | {value} |\n", plain(name))).collect();
    format!(
        "\n## Figures\n\n| | |\n|---|--:|\n{rows}\n\
         AD(v): mean drop of the predicted class's score, in percent, where only the top v% of the map is left of the \
         image; lower is better. IC(v): share of images whose score rises, in percent; higher is better. AG(v): mean \
         gain, in percent of what was possible; higher is better.\n"
    )
}

fn usage(config: &ArtifactConfig, published: Option<&Published<'_>>) -> String {
    let whose = match config.auxiliary {
        None => "the taps' feature maps `features`",
        Some(_) => "the feature maps `features` of the auxiliary's taps, the same pixels normalised for it",
    };
    let file = match published {
        None => format!("\"{MODEL}\""),
        Some(Published { repository, .. }) => format!("hf_hub_download(\"{repository}\", \"{MODEL}\")"),
    };
    let PyTorchUse { given, module, code } = config.head.pytorch(&file);
    let place = place(published);
    let (command_line, in_rust, download) = match published {
        None => (", with `DIR` the folder of this file", "", ""),
        Some(_) => (
            "; it is downloaded and verified",
            "; `explainer_zoo::hub::fetch` downloads the folder",
            "from huggingface_hub import hf_hub_download\n",
        ),
    };
    format!(
        "\n## Use\n\nOn the command line{command_line}:\n\n\
         ```sh\nexplainer-train explain {place} image.jpg\n```\n\n\
         In Rust, with the crate `explainer-zoo`{in_rust}:\n\n```rust\n{RUST}```\n\n\
         In PyTorch, given {whose} {given}:\n\n\
         ```python\n{module}\n\n\
         {download}from safetensors.torch import load_file\n\n{code}```\n\n\
         Preprocessing is in `{CONFIG}`.\n"
    )
}

fn limits(config: &ArtifactConfig, published: Option<&Published<'_>>) -> String {
    let auxiliary = match config.auxiliary {
        None => "",
        Some(_) => {
            "- The head sees feature maps of the auxiliary alone. What it knows of the explained classifier it learned \
             in training: it does not notice when that classifier decides otherwise than it did there.\n"
        }
    };
    let values = config.head.limits();
    format!(
        "\n## Limits and misuse\n\n\
         - A map shows where evidence that {} uses is found. It does not show why the classifier uses it, that the \
         prediction is right, or what would change it.\n\
         - It is itself the output of a trained network: on images unlike those of the training it can be wrong without \
         any sign of it. Measure it on your own images (`explainer-train evaluate {place} --images IMAGES`) before you rely \
         on it.\n\
         - With other weights than those named above, fine-tuned ones included, the maps mean nothing.\n{auxiliary}{values}\
         - Not a medical device and not evidence in decisions about people: a plausible heat map is no proof that a \
         classifier is sound or fair.\n",
        code(&config.backbone.name),
        place = place(published),
    )
}

/// Text that breaks neither a table nor a code span.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, '|' | '`' | '<' | '>') { ' ' } else { c }).collect()
}

/// A code span.
fn code(text: &str) -> String {
    format!("`{}`", plain(text))
}
