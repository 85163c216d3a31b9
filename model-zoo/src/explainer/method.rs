//! The published methods by name.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A learned explainer as published. All but the masking model share one head ([`super::TameHead`]) and differ in its
/// shape and in how it is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// T-TAME (Ntrougkas et al., 2024): three taps with attention branches, CNNs and transformers.
    Ttame,
    /// TAME (Ntrougkas et al., 2022): the same head for CNNs.
    Tame,
    /// P-TAME (Ntrougkas et al., 2025): the same head on the feature maps of a second, auxiliary classifier; of the
    /// explained one it needs logits alone, to train their gradient with respect to the image.
    Ptame,
    /// L-CAM-Img (Gkartzonika et al., 2022): one tap, no branch; the map masks the image.
    LcamImg,
    /// L-CAM-Fm (Gkartzonika et al., 2022): one tap, no branch; the map masks the tapped feature map.
    LcamFm,
    /// The fast masking model (Dabkowski and Gal, 2017): a class selector and a U-Net decoder on the classifier's
    /// feature maps.
    MaskingModel,
}

impl Method {
    /// The name in configurations and artifacts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ttame => "ttame",
            Self::Tame => "tame",
            Self::Ptame => "ptame",
            Self::LcamImg => "lcam_img",
            Self::LcamFm => "lcam_fm",
            Self::MaskingModel => "masking_model",
        }
    }

    /// The name in the paper.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ttame => "T-TAME",
            Self::Tame => "TAME",
            Self::Ptame => "P-TAME",
            Self::LcamImg => "L-CAM-Img",
            Self::LcamFm => "L-CAM-Fm",
            Self::MaskingModel => "Fast masking model",
        }
    }

    /// Whether the feature maps are an auxiliary classifier's and not the explained one's.
    pub fn has_auxiliary(self) -> bool {
        self == Self::Ptame
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_written() {
        for method in
            [Method::Ttame, Method::Tame, Method::Ptame, Method::LcamImg, Method::LcamFm, Method::MaskingModel]
        {
            assert_eq!(serde_json::to_value(method).unwrap(), method.name());
        }
    }
}
