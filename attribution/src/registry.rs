//! Every method by name.

use std::fmt;
use std::str::FromStr;

use crate::cam::{ablation_cam, abs_cam, fd_cam, grad_cam, grad_cam_pp, layer_cam, opti_cam, score_cam};
use crate::gradient::{iia, integrated_gradients, smooth_grad};
use crate::method::Built;
use crate::perturbation::{extremal, meaningful, rise, sidu};
use crate::transformer::{daam, rollout, transformer_attribution, vit_cx};
use crate::trivial;
use crate::{AttributionError, AttributionMethod, MethodContext, MethodInfo};

/// A method for a context, given the number behind its `@`.
type Build = fn(&MethodContext<'_>, usize) -> Built;

/// Every method: one line each.
const METHODS: &[(MethodInfo, Build)] = &[
    (grad_cam::INFO, grad_cam::build),
    (grad_cam_pp::INFO, grad_cam_pp::build),
    (layer_cam::INFO, layer_cam::build),
    (score_cam::INFO, score_cam::build),
    (ablation_cam::INFO, ablation_cam::build),
    (abs_cam::INFO, abs_cam::build),
    (fd_cam::INFO, fd_cam::build),
    (rise::INFO, rise::build),
    (sidu::INFO, sidu::build),
    (integrated_gradients::INFO, integrated_gradients::build),
    (smooth_grad::INFO, smooth_grad::build),
    (iia::INFO, iia::build),
    (opti_cam::INFO, opti_cam::build),
    (meaningful::INFO, meaningful::build),
    (extremal::INFO, extremal::build),
    (rollout::INFO, rollout::build),
    (transformer_attribution::INFO, transformer_attribution::build),
    (vit_cx::INFO, vit_cx::build),
    (daam::INFO, daam::build),
    (trivial::RANDOM, trivial::random),
    (trivial::CENTRE_GAUSSIAN, trivial::centre_gaussian),
    (trivial::EDGES, trivial::edges),
    (trivial::UNIFORM, trivial::uniform),
];

/// A method by its name, `NAME` or `NAME@NUMBER`, such as `rise@4000`.
#[derive(Clone, Copy)]
pub struct MethodSpec {
    info: &'static MethodInfo,
    build: Build,
    number: usize,
}

impl MethodSpec {
    /// What is known of the method.
    pub fn info(&self) -> &'static MethodInfo {
        self.info
    }

    /// Its name in tables.
    pub fn title(&self) -> &'static str {
        self.info.title
    }

    /// The method for a classifier.
    ///
    /// # Errors
    /// [`AttributionError`] where the classifier does not have what the method needs.
    pub fn build(&self, context: &MethodContext<'_>) -> Result<Box<dyn AttributionMethod>, AttributionError> {
        (self.build)(context, self.number)
    }
}

impl FromStr for MethodSpec {
    type Err = AttributionError;

    /// # Errors
    /// [`AttributionError::Unknown`] lists the methods there are; [`AttributionError::Parameter`] says what is expected
    /// behind the `@`.
    fn from_str(text: &str) -> Result<Self, AttributionError> {
        let (name, number) = match text.trim().split_once('@') {
            Some((name, number)) => (name, Some(number)),
            None => (text.trim(), None),
        };
        let unknown = || AttributionError::Unknown { name: name.into(), known: names() };
        let (info, build) = METHODS.iter().find(|(info, _)| info.name == name).ok_or_else(unknown)?;
        let wrong = |found: &str, expected: &str| AttributionError::Parameter {
            name: name.into(),
            found: found.into(),
            expected: expected.into(),
        };
        let number = match (info.parameter, number) {
            (Some((_, default)), None) => default,
            (None, None) => 0,
            (None, Some(found)) => return Err(wrong(found, "nothing: it has no parameter")),
            (Some(_), Some(found)) => {
                let number = found.parse().ok().filter(|number| (1..=1_000_000).contains(number));
                number.ok_or_else(|| wrong(found, "a whole number, 1 to 1000000"))?
            }
        };
        Ok(Self { info, build: *build, number })
    }
}

impl fmt::Display for MethodSpec {
    /// The name from which it is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.info.parameter {
            Some((_, default)) if default != self.number => write!(f, "{}@{}", self.info.name, self.number),
            _ => f.write_str(self.info.name),
        }
    }
}

impl fmt::Debug for MethodSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MethodSpec({self})")
    }
}

/// Every method, in the registry's order.
pub fn methods() -> impl Iterator<Item = &'static MethodInfo> {
    METHODS.iter().map(|(info, _)| info)
}

/// Every method with the form of its parameter: `rise[@MASKS]`.
pub fn names() -> Vec<String> {
    methods().map(MethodInfo::form).collect()
}

/// All methods as a Markdown table: name, title, family, paper, what they need, passes.
pub fn table() -> String {
    let mut table =
        String::from("| name | method | family | paper | needs | passes an image |\n|---|---|---|---|---|---|\n");
    for info in methods() {
        let default = info.parameter.map_or(String::new(), |(_, default)| format!(", n = {default}"));
        let paper = if info.paper.is_empty() { "-" } else { info.paper };
        let (form, family, access) = (info.form(), info.family.title(), info.access.title());
        let MethodInfo { title, passes, .. } = info;
        table.push_str(&format!("| `{form}` | {title} | {family} | {paper} | {access} | {passes}{default} |\n"));
    }
    table
}
