//! The generated pages of the book (`docs/src/reference`), from registries, specs, the schemas and the command line.

mod keys;

use std::fmt::Write;

use clap::{Arg, ArgAction, Command, CommandFactory};
use explainer_metrics::{Direction, MetricSpec, Requirement};
use explainer_train::cli::Cli;
use explainer_train::config::{CompareConfig, Config};
use explainer_zoo::backbone::architecture;

/// What stands below the title of every generated page.
const NOTE: &str = "<!-- Generated: UPDATE=1 cargo test --release -p explainer-tests reference -->\n";

/// Every generated page: its file in `docs/src/reference`, and its text.
///
/// # Panics
/// Where a registry does not know a name that it lists.
#[must_use]
pub fn pages() -> Vec<(&'static str, String)> {
    let page = |title: &str, lead: &str, body: &str| format!("# {title}\n\n{NOTE}\n{lead}\n\n{}\n", body.trim());
    vec![
        (
            "commands.md",
            page(
                "Commands",
                "`explainer-train --config FILE [KEY=VALUE]...` trains. Sub-commands do the rest. Exit codes: 0 done, \
                 1 failed, 2 bad usage or configuration.",
                &commands(),
            ),
        ),
        (
            "configuration.md",
            page(
                "Configuration keys",
                "Keys of a training run's YAML file. `explainer-train config schema` prints the same as JSON Schema. On \
                 the command line a key is `section.key=value`.",
                &keys::configuration(&Config::schema()),
            ),
        ),
        (
            "comparison.md",
            page(
                "Comparison keys",
                "Keys of the YAML file of `explainer-train compare`. `explainer-train config schema --compare` prints the \
                 same as JSON Schema.",
                &keys::configuration(&CompareConfig::schema()),
            ),
        ),
        (
            "explainers.md",
            page(
                "Explainers",
                "Values of `explainer.method` and their keys. [Learned explainers](../concepts/learned-explainers.md) \
                 compares their parameters, costs and needs.",
                &keys::explainers(&Config::schema()),
            ),
        ),
        (
            "backbones.md",
            page(
                "Backbones",
                "Values of `backbone.name` and `auxiliary.name`; also `torchscript`, any classifier as a \
                 [TorchScript](../guide/torchscript.md). Taps are listed from input to output: name, channels, stride in \
                 pixels.",
                &backbones(),
            ),
        ),
        (
            "methods.md",
            page(
                "Attribution methods",
                "Methods without training: `evaluate --against NAME`, or `{method: NAME}` in a comparison. A number after \
                 `@`, n, replaces the default. C is the number of channels of the layer, N a number of clusters. Passes through \
                 the classifier are counted as they are made; the files of `attribution/src/` have the equations.",
                &explainer_attribution::table(),
            ),
        ),
        (
            "metrics.md",
            page(
                "Metrics",
                "Names for `evaluate --metrics` and the key `metrics` of a comparison. A parameter after `@` may be left \
                 out; the name shown is then the default. Passes are forward passes of the classifier for one map, beside \
                 the clean pass of its image.",
                &metrics(),
            ),
        ),
    ]
}

/// Text for a cell of a table: on one line, with `|` escaped.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

/// The part of a registry's form before its parameter: `ad` of `ad[@PERCENT]`.
fn stem(form: &str) -> &str {
    form.split('[').next().unwrap_or(form)
}

fn metrics() -> String {
    let mut out = String::new();
    for (family, forms) in explainer_metrics::names_by_family() {
        let title = family.to_string();
        let (first, rest) = title.split_at(1);
        let _ = writeln!(out, "## {}{rest}\n", first.to_uppercase());
        out += "| metric | measures | unit | range | better | passes | needs | source |\n";
        out += "|---|---|---|---|---|---|---|---|\n";
        forms.iter().for_each(|form| out += &metric_row(form));
        out.push('\n');
    }
    out
}

fn metric_row(form: &str) -> String {
    let metric = explainer_metrics::metric(stem(form)).unwrap_or_else(|error| panic!("{error}"));
    let MetricSpec { name, title, better, unit, range, source, passes, needs, .. } = metric.spec();
    let better = match better {
        Direction::Higher => "higher",
        Direction::Lower => "lower",
    };
    let needs = match needs {
        Requirement::Nothing => "",
        Requirement::Objects => "objects",
        Requirement::Fixations => "fixations",
        Requirement::Explainer => "the explainer",
        Requirement::Randomised => "the explainer, a randomised classifier",
    };
    let end = |value: f64| match value {
        f64::INFINITY => "∞".to_owned(),
        f64::NEG_INFINITY => "-∞".to_owned(),
        _ => ((value * 1e4).round() / 1e4).to_string(),
    };
    let default = if name == stem(form) { String::new() } else { format!(" (default `{name}`)") };
    let [low, high] = range.map(end);
    let (form, title, source) = (cell(form), cell(&title), cell(source));
    format!("| `{form}`{default} | {title} | {unit} | {low} to {high} | {better} | {passes} | {needs} | {source} |\n")
}

fn backbones() -> String {
    let mut out = String::from(
        "| name | input | mean; standard deviation | default taps | taps as auxiliary |\n|---|---|---|---|---|\n",
    );
    let known: Vec<_> = explainer_zoo::backbone::names()
        .iter()
        .map(|name| architecture(name).unwrap_or_else(|| panic!("no architecture {name}")))
        .collect();
    let list = |taps: &[&str]| taps.iter().map(|tap| format!("`{tap}`")).collect::<Vec<_>>().join(", ");
    for backbone in &known {
        let preprocessing = &backbone.preprocessing;
        let _ = writeln!(
            out,
            "| `{}` | {} | {:?}; {:?} | {} | {} |",
            backbone.name,
            preprocessing.crop,
            preprocessing.mean,
            preprocessing.std,
            list(backbone.default_taps),
            list(backbone.auxiliary_taps.unwrap_or(backbone.default_taps)),
        );
    }
    for backbone in &known {
        let tap = |tap: &explainer_zoo::backbone::TapSpec| {
            let tokens = tap.prefix_tokens.map_or(String::new(), |n| format!(", tokens behind {n}"));
            format!("`{}` ({} × /{}{tokens})", tap.name, tap.channels, tap.stride)
        };
        let taps = backbone.taps.iter().map(tap).collect::<Vec<_>>().join(", ");
        let _ = write!(out, "\n## {}\n\n{taps}\n", backbone.name);
    }
    out
}

fn commands() -> String {
    let mut root = Cli::command();
    root.build();
    let mut out = String::from("## Training\n\n");
    options(&mut out, &root);
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        describe(&mut out, command, command.get_name(), 2);
    }
    out
}

fn describe(out: &mut String, command: &Command, name: &str, level: usize) {
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    let _ = write!(out, "\n{} {name}\n\n{}.\n\n", "#".repeat(level), about.trim_end_matches('.'));
    let subcommands: Vec<_> = command.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    let usage = command.clone().render_usage().to_string();
    let _ = write!(out, "```text\n{}\n```\n\n", usage.trim_start_matches("Usage: ").trim());
    options(out, command);
    for command in subcommands {
        describe(out, command, &format!("{name} {}", command.get_name()), level + 1);
    }
}

fn options(out: &mut String, command: &Command) {
    let shown = |arg: &&Arg| !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version");
    let own = |arg: &&Arg| command.get_name() == "explainer-train" || !arg.is_global_set();
    let mut rows = String::new();
    for arg in command.get_arguments().filter(shown).filter(own) {
        let value = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
        let takes = matches!(arg.get_action(), ArgAction::Set | ArgAction::Append);
        let name = match (arg.get_long(), takes) {
            (Some(long), true) => format!("--{long} {value}"),
            (Some(long), false) => format!("--{long}"),
            (None, _) => value,
        };
        let short = arg.get_short().map_or(String::new(), |short| format!(", `-{short}`"));
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let default = arg.get_default_values().iter().filter_map(|value| value.to_str()).collect::<Vec<_>>().join(" ");
        let default = if default.is_empty() || !takes || help.contains("[default") {
            String::new()
        } else {
            format!(" [default: `{default}`]")
        };
        let _ = writeln!(rows, "| `{}`{short} | {}{default} |", name.replace('|', "\\|"), cell(&help));
    }
    if !rows.is_empty() {
        let _ = writeln!(out, "| option | meaning |\n|---|---|\n{}", rows.trim_end());
    }
}
