//! `explainer-train publish`: publishes an explainer on the Hugging Face Hub.

use super::{BadUsage, Global, eprint, local_paths, print};
use crate::report::table::Table;
use clap::Args;
use explainer_zoo::artifact::{CONFIG, RUN};
use explainer_zoo::hub::{
    FileChange, HubError, Publication, PublishOptions, PublishOutcome, Repository, SHEET, Upload,
};
use explainer_zoo::weights::source::SourceSettings;
use indicatif::HumanBytes;
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};

/// Publish an explainer on the Hugging Face Hub
///
/// One commit holds the tensors, config.json, train.yaml, the model card with the figures, and the contact sheet. The
/// repository is created if it does not exist. Files that it has already are not sent again; without changes there is no
/// commit.
///
/// The files are published unchanged. Local paths in train.yaml and config.json, such as data.train, are listed in warnings
/// before anything is sent, also with --dry-run.
///
/// The token is read from HF_TOKEN, or from the file that `hf auth login` writes. It is never printed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  explainer-train publish checkpoints/ttame_vit/artifact --repo ada/ttame-vit --license apache-2.0 --dry-run
  explainer-train publish checkpoints/ttame_vit/artifact --repo ada/ttame-vit --license apache-2.0 --private
  explainer-train explain hf://ada/ttame-vit dog.jpg")]
pub struct PublishArgs {
    /// Folder of a trained explainer, `artifact/` in a run's output
    pub artifact: PathBuf,
    /// Repository to publish to: owner/name
    #[arg(long, value_name = "OWNER/NAME", required = true)]
    pub repo: Repository,
    /// Licence identifier of the Hub, such as apache-2.0; required
    #[arg(long, value_name = "ID")]
    pub license: Option<String>,
    /// Create the repository as a private one
    #[arg(long)]
    pub private: bool,
    /// Branch to publish to; created at main if it does not exist [default: main]
    #[arg(long, value_name = "BRANCH")]
    pub revision: Option<String>,
    /// Open a pull request instead of a commit on the branch
    #[arg(long)]
    pub create_pr: bool,
    /// Title of the commit
    #[arg(long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Contact sheet for the card [default: the run's, beside the artifact]
    #[arg(long, value_name = "FILE")]
    pub sheet: Option<PathBuf>,
    /// Show what would be published, with the card, and publish nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Publishes.
pub(super) fn run(args: &PublishArgs, global: &Global) -> anyhow::Result<()> {
    let sheet = args.sheet.clone().or_else(|| beside(&args.artifact));
    let publication = Publication {
        artifact: args.artifact.clone(),
        repository: args.repo.clone(),
        license: args.license.clone(),
        sheet,
        images: images(&args.artifact),
    };
    let upload = Upload::new(&publication).map_err(usage_error)?;
    let options = PublishOptions {
        revision: args.revision.clone(),
        private: args.private,
        create_pr: args.create_pr,
        title: args.message.clone(),
    };
    let settings = SourceSettings::from_env();
    if !global.quiet {
        notes(&publication).iter().for_each(|note| eprint(&format!("note: {note}\n")));
    }
    for warning in local_paths::warnings(&args.artifact, &upload.card()) {
        eprint(&format!("warning: {warning}\n"));
    }
    if args.dry_run {
        return print(&dry_run(&upload, &publication, &options, &settings));
    }
    let outcome = upload.publish(&options, &settings).map_err(usage_error)?;
    if global.quiet {
        return Ok(());
    }
    print(&match outcome {
        PublishOutcome::Published { reference, page, changed, created } => {
            let prefix = if created { "created the repository and " } else { "" };
            let use_it = "use it by its name, or by this commit";
            format!("{prefix}published {} to {reference}\n{page}\n{use_it}\n", changed.join(", "))
        }
        PublishOutcome::Proposed { page, changed } => {
            format!("proposed {} in a pull request\n{page}\n", changed.join(", "))
        }
        PublishOutcome::Unchanged { reference } => {
            format!("nothing to publish: {reference} has the same files already\n")
        }
    })
}

/// The contact sheet that a run leaves beside its artifact.
fn beside(artifact: &Path) -> Option<PathBuf> {
    let folders = [Some(artifact), artifact.parent()];
    folders.into_iter().flatten().map(|folder| folder.join(SHEET)).find(|sheet| sheet.is_file())
}

/// The name of the images that the run validated on, without the folders above them.
fn images(artifact: &Path) -> Option<String> {
    #[derive(Deserialize)]
    struct Run {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        val: PathBuf,
    }
    let text = fs::read_to_string(artifact.join(RUN)).ok()?;
    let run: Run = serde_saphyr::from_str(&text).ok()?;
    Some(run.data.val.file_name()?.to_string_lossy().into_owned())
}

/// Remarks for those who will download the explainer.
fn notes(publication: &Publication) -> Vec<String> {
    #[derive(Deserialize)]
    struct Config {
        backbone: Record,
        auxiliary: Option<Record>,
        context: Option<Record>,
    }
    #[derive(Deserialize)]
    struct Record {
        name: String,
        weights: String,
    }
    let mut notes = Vec::new();
    let config = fs::read(publication.artifact.join(CONFIG)).unwrap_or_default();
    if let Ok(Config { backbone, auxiliary, context }) = serde_json::from_slice(&config) {
        for Record { name, weights } in [Some(backbone), auxiliary, context].into_iter().flatten() {
            let elsewhere = ["hf://", "https://", "embedded"].iter().any(|form| weights.starts_with(form));
            if !elsewhere {
                notes.push(format!(
                    "the weights of {name} are `{weights}`, which nobody else can download: say in the card where they \
                     are; users have to give --weights"
                ));
            }
        }
    }
    if publication.sheet.is_none() {
        notes.push(format!("no contact sheet: {SHEET} is not beside the artifact, and there is no --sheet"));
    }
    notes
}

/// The files and the card.
fn dry_run(upload: &Upload, publication: &Publication, options: &PublishOptions, settings: &SourceSettings) -> String {
    let compared = upload.compare(options, settings);
    let mut table = Table::new(["file", "size", "SHA-256", "would be"]);
    for (place, file) in upload.files().iter().enumerate() {
        let change = match compared.as_ref().ok().and_then(|changes| changes.get(place)) {
            Some(FileChange::Added) => "added",
            Some(FileChange::Replaced) => "replaced",
            Some(FileChange::None) => "left as it is",
            None => "published",
        };
        let size = HumanBytes(file.bytes.len() as u64).to_string();
        table.row([file.name, &size, &file.sha256, change]);
    }
    let mut text = format!("to {}:\n\n{}", publication.repository, table.text());
    if let Err(error) = compared {
        text += &format!("\nnot compared with the repository: {error}\n");
    }
    if publication.license.is_none() {
        text += &format!("\nmissing: {}\n", HubError::Unlicensed);
    }
    format!("{text}\nREADME.md:\n\n{}\ndry run: nothing was published\n", upload.card())
}

/// An error of the command line, or any other one.
fn usage_error(error: HubError) -> anyhow::Error {
    match error {
        HubError::Unlicensed | HubError::License(_) | HubError::Reference(_) => BadUsage(error.to_string()).into(),
        other => other.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_is_found_in_the_artifact_or_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let artifact = folder.path().join("artifact");
        fs::create_dir(&artifact).unwrap();
        assert_eq!(beside(&artifact), None);
        for place in [folder.path(), &artifact] {
            fs::write(place.join(SHEET), "").unwrap();
            assert_eq!(beside(&artifact), Some(place.join(SHEET)));
        }
    }

    #[test]
    fn images_are_named_without_the_folders_above_them() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(images(folder.path()), None);
        for (yaml, expected) in [
            ("data: {train: a, val: /home/ada/imagenet/val}\ntrain: {}\n", Some("val")),
            ("data: {train: shapes, val: shapes}\n", Some("shapes")),
            ("# imported\n", None),
        ] {
            fs::write(folder.path().join(RUN), yaml).unwrap();
            assert_eq!(images(folder.path()).as_deref(), expected);
        }
    }

    #[test]
    fn weights_that_nobody_else_can_download_are_noted() {
        let folder = tempfile::tempdir().unwrap();
        let publication = |sheet| Publication {
            artifact: folder.path().into(),
            repository: "ada/x".parse().unwrap(),
            license: None,
            sheet,
            images: None,
        };
        let config = r#"{"backbone": {"name": "vgg16", "weights": "/home/ada/vgg16.pth", "sha256": null},
            "auxiliary": {"name": "resnet50", "weights": "hf://timm/resnet50"}}"#;
        fs::write(folder.path().join(CONFIG), config).unwrap();
        let found = notes(&publication(Some("sheet.png".into())));
        assert!(found.len() == 1 && found[0].contains("/home/ada/vgg16.pth"), "{found:?}");
        assert_eq!(notes(&publication(None)).len(), 2);
    }
}
