//! Opening any explainer ([`open`]): a learned head ([`explainer_zoo::Explainer`]) or BEE ([`BeeExplainer`]), and the
//! names of classes and files for what it draws.

mod bee_explainer;
pub mod file_names;
mod names;
mod open;
mod options;

pub use bee_explainer::BeeExplainer;
pub use names::{ClassError, ClassNames};
pub use open::{OpenedExplainer, open};
pub use options::{BeeOptions, OpenError, OpenOptions, WeightOverrides, names as metric_names};
