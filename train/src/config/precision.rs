//! The floating-point format of frozen networks.

use explainer_zoo::device;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The floating-point format of frozen networks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits with 8 bits of precision, on devices that support it: `cuda`. Explainer, loss and optimizer stay f32.
    Bf16,
}

impl Precision {
    /// Whether it is the default, which `to_yaml` leaves out.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Precision> for device::Precision {
    fn from(given: Precision) -> Self {
        match given {
            Precision::F32 => Self::F32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}
