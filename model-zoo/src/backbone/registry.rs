//! Every architecture by name. A new one is a file, a line in [`architecture`] and one in [`names`].

use super::spec::Architecture;
use super::{efficientnet, mnasnet, mobilenet, resnet, vgg, vit};

/// The names of all architectures.
pub fn names() -> [&'static str; 9] {
    [
        "vgg16",
        "resnet18",
        "resnet50",
        "vit_b_16",
        "vit_small_patch14_dinov2",
        "tf_efficientnet_lite0",
        "mobilenet_v3_small",
        "mnasnet0_5",
        "shapes_resnet",
    ]
}

/// The architecture of this name.
pub fn architecture(name: &str) -> Option<Architecture> {
    Some(match name {
        "vgg16" => vgg::vgg16(),
        "resnet18" => resnet::resnet18(),
        "resnet50" => resnet::resnet50(),
        "vit_b_16" => vit::vit_b_16(),
        "vit_small_patch14_dinov2" => vit::vit_small_patch14_dinov2(),
        "tf_efficientnet_lite0" => efficientnet::tf_efficientnet_lite0(),
        "mobilenet_v3_small" => mobilenet::mobilenet_v3_small(),
        "mnasnet0_5" => mnasnet::mnasnet0_5(),
        "shapes_resnet" => resnet::shapes_resnet(),
        _ => return None,
    })
}
