//! Vision transformers (Dosovitskiy et al., 2021): ViT-B/16 (torchvision's and timm's names) and DINOv2's ViT-S/14
//! (Oquab et al., 2023; timm's names, layer scale).

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::layers::{Attention, LayerNorm, Linear, gelu};
use super::network::{Network, TapHook};
use super::spec::{Architecture, TapSpec, imagenet};
use crate::weights::WeightReader;

const EPSILON: f64 = 1e-6;
/// Prefix tokens: the class token.
const PREFIX: usize = 1;

#[derive(Clone, Copy, Debug)]
struct Layout {
    patch: usize,
    grid: usize,
    width: usize,
    depth: usize,
    heads: usize,
    layer_scale: bool,
}

/// ViT-B/16 at 224 pixels, ImageNet-1k; the taps are T-TAME's.
pub fn vit_b_16() -> Architecture {
    let layout = Layout { patch: 16, grid: 14, width: 768, depth: 12, heads: 12, layer_scale: false };
    Architecture {
        default_taps: &["blocks.9.norm1", "blocks.10.norm1", "blocks.11.norm1"],
        alias: torchvision,
        ..architecture("vit_b_16", layout)
    }
}

/// DINOv2's ViT-S/14 at 224 pixels (16x16 patches).
pub fn vit_small_patch14_dinov2() -> Architecture {
    let layout = Layout { patch: 14, grid: 16, width: 384, depth: 12, heads: 6, layer_scale: true };
    Architecture {
        default_taps: &["blocks.9", "blocks.10", "blocks.11"],
        ..architecture("vit_small_patch14_dinov2", layout)
    }
}

fn architecture(name: &'static str, layout: Layout) -> Architecture {
    let taps = (0..layout.depth)
        .flat_map(|i| [format!("blocks.{i}.norm1"), format!("blocks.{i}")])
        .chain(["norm".to_string()])
        .map(|name| TapSpec::tokens(name, layout.width, layout.patch, PREFIX))
        .collect();
    Architecture {
        name,
        preprocessing: imagenet(),
        taps,
        default_taps: &[],
        auxiliary_taps: None,
        alias: |_| None,
        head: "head.weight",
        build: Box::new(move |reader| Box::new(Vit::read(reader, layout))),
    }
}

/// torchvision's name of a tensor, given timm's.
pub fn torchvision(name: &str) -> Option<String> {
    Some(match name {
        "cls_token" => "class_token".into(),
        "pos_embed" => "encoder.pos_embedding".into(),
        _ => {
            let (layer, part) = name.rsplit_once('.')?;
            match layer {
                "patch_embed.proj" => format!("conv_proj.{part}"),
                "norm" => format!("encoder.ln.{part}"),
                "head" => format!("heads.head.{part}"),
                _ => {
                    let (block, module) = layer.strip_prefix("blocks.")?.split_once('.')?;
                    let module = match module {
                        "norm1" => format!("ln_1.{part}"),
                        "norm2" => format!("ln_2.{part}"),
                        "attn.qkv" => format!("self_attention.in_proj_{part}"),
                        "attn.proj" => format!("self_attention.out_proj.{part}"),
                        "mlp.fc1" => format!("mlp.0.{part}"),
                        "mlp.fc2" => format!("mlp.3.{part}"),
                        _ => return None,
                    };
                    format!("encoder.layers.encoder_layer_{block}.{module}")
                }
            }
        }
    })
}

#[derive(Debug)]
struct Vit {
    patch: usize,
    embed_weight: Tensor<4>,
    embed_bias: Tensor<1>,
    class_token: Tensor<3>,
    positions: Tensor<3>,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attention: Attention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl Block {
    fn read(reader: &mut WeightReader, name: &str, layout: Layout) -> Self {
        let width = layout.width;
        let linear = |reader: &mut _, part: &str, input, output, scale: Option<&str>| {
            Linear::read_tokens(reader, &format!("{name}.{part}"), input, output, scale)
        };
        let scale = |part: &str| layout.layer_scale.then(|| format!("{name}.{part}.gamma"));
        let (first, second) = (scale("ls1"), scale("ls2"));
        Self {
            norm1: LayerNorm::read(reader, &format!("{name}.norm1"), width, EPSILON),
            attention: Attention {
                qkv: linear(reader, "attn.qkv", width, 3 * width, None),
                projection: linear(reader, "attn.proj", width, width, first.as_deref()),
                heads: layout.heads,
            },
            norm2: LayerNorm::read(reader, &format!("{name}.norm2"), width, EPSILON),
            fc1: linear(reader, "mlp.fc1", width, 4 * width, None),
            fc2: linear(reader, "mlp.fc2", 4 * width, width, second.as_deref()),
        }
    }

    fn forward(&self, x: Tensor<3>, name: &str, hook: &mut dyn TapHook) -> Tensor<3> {
        let normed = hook.tokens(&format!("{name}.norm1"), self.norm1.forward(x.clone()));
        let x = x + self.attention.forward(normed, hook);
        let hidden = gelu(self.fc1.forward(self.norm2.forward(x.clone())));
        x + self.fc2.forward(hidden)
    }
}

impl Vit {
    fn read(reader: &mut WeightReader, layout: Layout) -> Self {
        let Layout { patch, grid, width, .. } = layout;
        let embed_weight = reader.tensor("patch_embed.proj.weight", [width, 3, patch, patch]);
        let embed_bias = reader.tensor("patch_embed.proj.bias", [width]);
        let class_token = reader.tensor("cls_token", [1, PREFIX, width]);
        let positions = reader.tensor("pos_embed", [1, PREFIX + grid * grid, width]);
        let blocks = (0..layout.depth).map(|i| Block::read(reader, &format!("blocks.{i}"), layout)).collect();
        let norm = LayerNorm::read(reader, "norm", width, EPSILON);
        let classes = reader.rows("head.weight", 1000);
        let head = Linear::read(reader, "head", width, classes);
        Self { patch, embed_weight, embed_bias, class_token, positions, blocks, norm, head }
    }

    /// `[B,3,H,W]` to patch embeddings `[B,N,width]`, row-major.
    fn embed(&self, images: Tensor<4>) -> Tensor<3> {
        let options = ConvOptions::new([self.patch; 2], [0, 0], [1, 1], 1);
        let grid = conv2d(images, self.embed_weight.clone(), Some(self.embed_bias.clone()), options);
        let [batch, width, rows, columns] = grid.dims();
        grid.reshape([batch, width, rows * columns]).swap_dims(1, 2)
    }
}

impl Network for Vit {
    fn forward(&self, images: Tensor<4>, hook: &mut dyn TapHook) -> Tensor<2> {
        let [batch, ..] = images.dims();
        let [_, _, width] = self.class_token.dims();
        let class = self.class_token.clone().expand([batch, PREFIX, width]);
        let mut x = Tensor::cat(vec![class, self.embed(images)], 1) + self.positions.clone();
        for (i, block) in self.blocks.iter().enumerate() {
            let name = format!("blocks.{i}");
            let y = block.forward(x, &name, hook);
            x = hook.tokens(&name, y);
        }
        let x = hook.tokens("norm", self.norm.forward(x));
        let [batch, ..] = x.dims(); // a replaced tap may have another batch size
        self.head.forward(x.narrow(1, 0, 1).reshape([batch, width]))
    }
}
