"""Writes a torchvision or timm classifier as a TorchScript that `backbone: {name: torchscript, ...}` reads.

    python model-zoo/scripts/export_torchscript.py timm/tf_efficientnet_lite0 model.pt --taps blocks.2 blocks.4 blocks.6
    python model-zoo/scripts/export_torchscript.py torchvision/convnext_tiny model.pt --weights mine.pth --taps features.5
    python model-zoo/scripts/export_torchscript.py timm/resnet50 --layers

Needs torch, and timm or torchvision; safetensors for such weights. Use the PyTorch that the program runs with: an older
LibTorch may not know what a newer one writes.

The file has these methods, `packed` and `observed` with --for-cpu alone:

    forward(images [B,3,H,W]) -> (logits [B,K], {tap: feature}), or logits alone without --taps
    replaced(images, i, feature) -> logits with `feature` in the place of tap i
    packed() -> the convolutions' weights as oneDNN has them for one image
    observed(image, packed) -> as forward, without a gradient
    explainer_record() -> JSON: how images are prepared, and what else the program wants to know

A classifier of any other kind: `from export_torchscript import export`.
"""

import argparse
import copy
import functools
import json
import math
import sys
from pathlib import Path
from typing import List, Optional

import torch

FORMAT = 1
# Most that the written file may differ from the model it was made of, relative to the largest value.
LIMITS = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


class Tapped(torch.nn.Module):
    """A classifier whose `taps` are shown, or replaced."""

    def __init__(self, model, taps):
        super().__init__()
        self.model = model
        # In a plain object: none of it is part of the module that is written.
        self.shared = Shared()
        self.shared.hooks = [model.get_submodule(n).register_forward_hook(self.shared.hook(n)) for n in taps]

    def all_packed(self, images, packed):
        """Logits and taps, with these weights in the convolutions."""
        for convolution, weight in zip(self.shared.packable, packed):
            convolution.take(weight)
        result = self.all(images)
        for convolution in self.shared.packable:
            convolution.give_back()
        return result

    def all(self, images):
        """Logits and taps."""
        self.shared.seen.clear()
        logits = self.model(laid_out(images))
        return (logits, *self.shared.seen.values()) if self.shared.seen else logits


class Shared:
    """What passes between hooks and methods."""

    def __init__(self):
        self.seen, self.other, self.last, self.packable = {}, {}, {}, []

    def hook(self, name):
        def show(module, inputs, output):
            if not torch.is_tensor(output) or output.dim() not in (3, 4):
                found = tuple(output.shape) if torch.is_tensor(output) else type(output).__name__
                sys.exit(f"tap {name} is {found}, no map [B,C,H,W] and no tokens [B,N,C]; take another layer")
            if name in self.seen:
                sys.exit(f"tap {name} runs more than once in a forward pass; take another layer")
            if name not in self.last:
                self.last[name] = channels_last(output.shape)
            self.seen[name] = output.permute(0, 3, 1, 2) if self.last[name] else output
            if name in self.other:
                feature = self.other[name]
                return feature.permute(0, 2, 3, 1) if self.last[name] else feature
            return None

        return show


def laid_out(x):
    """In the layout in which convolutions are fastest, on CPUs and on GPUs."""
    return x.contiguous(memory_format=torch.channels_last)


def run_once(model, images, hooks):
    """One pass, and the hooks are gone."""
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()


def folded(model, images, taps):
    """Each BatchNorm folded into the convolution before it, which is what it amounts to in a classifier that does not learn.

    A convolution is left alone where it is a tap, or runs more than once.
    """
    outputs, pairs, runs = {}, [], {}

    def convolved(name):
        def hook(module, inputs, output):
            outputs[id(output)] = name, output  # held, so that no other tensor gets its number
            runs[name] = runs.get(name, 0) + 1

        return hook

    def normalised(name):
        def hook(module, inputs, output):
            pairs.append((outputs.get(id(inputs[0]), (None, None))[0], name))

        return hook

    hooks = []
    for name, module in model.named_modules():
        if type(module) is torch.nn.Conv2d:
            hooks.append(module.register_forward_hook(convolved(name)))
        elif isinstance(module, torch.nn.BatchNorm2d) and module.track_running_stats:
            hooks.append(module.register_forward_hook(normalised(name)))
    run_once(model, images, hooks)
    other = copy.deepcopy(model)
    for conv, norm in pairs:
        if conv in taps or runs.get(conv) != 1 or sum(pair[1] == norm for pair in pairs) != 1:
            continue
        parent, _, name = norm.rpartition(".")
        old = other.get_submodule(norm)
        fused = torch.nn.utils.fusion.fuse_conv_bn_eval(other.get_submodule(conv), old)
        parent_of_conv, _, own = conv.rpartition(".")
        setattr(other.get_submodule(parent_of_conv), own, fused.requires_grad_(False))
        # timm's comes with the activation behind it.
        setattr(other.get_submodule(parent), name, getattr(old, "act", torch.nn.Identity()))
    return other


class Pointwise(torch.nn.Module):
    """A linear layer of tokens [B,N,C] as a 1x1 convolution of their columns: the same sums, computed by oneDNN instead of MKL."""

    def __init__(self, weight, bias):
        super().__init__()
        weight = weight.detach()[:, :, None, None].contiguous(memory_format=torch.channels_last)
        self.weight, self.bias = torch.nn.Parameter(weight, requires_grad=False), bias

    def forward(self, x):
        # Tokens in rows are an image of one column with channels last: nothing is copied.
        columns = x.permute(0, 2, 1).unsqueeze(3)
        return self._conv_forward(columns, self.weight, self.bias).squeeze(3).permute(0, 2, 1)

    # As torch.nn.Conv2d has it.
    def _conv_forward(self, x, weight, bias):
        return torch.nn.functional.conv2d(x, weight, bias)


class SelfAttention(torch.nn.Module):
    """PyTorch's multi-head attention of tokens [B,N,C] to themselves, its linear layers as convolutions."""

    def __init__(self, attention):
        super().__init__()
        self.heads = attention.num_heads
        self.packed = Pointwise(attention.in_proj_weight, attention.in_proj_bias)
        self.projection = Pointwise(attention.out_proj.weight, attention.out_proj.bias)

    def forward(self, x, *_, **__):
        batch, tokens, width = x.shape
        parts = self.packed(x).reshape(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = torch.nn.functional.scaled_dot_product_attention(parts[0], parts[1], parts[2])
        return self.projection(seen.transpose(1, 2).reshape(batch, tokens, width)), None


def to_itself(module, inputs, options):
    """Whether a call of PyTorch's attention is one that SelfAttention answers alike."""
    plain = module.batch_first and module._qkv_same_embed_dim and module.bias_k is None and not module.add_zero_attn
    same = len(inputs) == 3 and inputs[0] is inputs[1] is inputs[2] and inputs[0].dim() == 3
    return plain and same and options.get("need_weights") is False and set(options) == {"need_weights"}


def pointwise(model, images):
    """Its linear layers of tokens as convolutions."""
    calls = {}

    def hook(name):
        def note(module, inputs, options, output):
            attends = isinstance(module, torch.nn.MultiheadAttention)
            fits = to_itself(module, inputs, options) if attends else inputs[0].dim() == 3
            calls[name] = calls.get(name, True) and fits

        return note

    kinds = (torch.nn.Linear, torch.nn.MultiheadAttention)
    named = [(name, module) for name, module in model.named_modules() if type(module) in kinds]
    hooks = [module.register_forward_hook(hook(name), with_kwargs=True) for name, module in named]
    run_once(model, images, hooks)
    other = copy.deepcopy(model)
    for name, old in named:
        if calls.get(name):
            parent, _, own = name.rpartition(".")
            linear = type(old) is torch.nn.Linear
            setattr(other.get_submodule(parent), own, Pointwise(old.weight, old.bias) if linear else SelfAttention(old))
    return other


class Packable:
    """A convolution whose weights can be given to it as oneDNN has them for one image, which lays them out in every pass otherwise.

    That is a quarter of an image's time. Several images repay it, and for them this layout is the slower one.
    """

    def __init__(self, name, module, size):
        self.name, self.module, self.size = name, module, size
        pair = {key: list(getattr(module, key, default)) for key, default in (("padding", (0, 0)), ("stride", (1, 1)), ("dilation", (1, 1)))}
        self.steps = pair["padding"], pair["stride"], pair["dilation"], 1

    def take(self, packed):
        self.module._conv_forward = lambda x, weight, bias: convolution()(x, packed, bias, *self.steps)

    def give_back(self):
        del self.module._conv_forward

    def source(self):
        """The expression that lays its weights out."""
        path = "self.model"
        for part in self.name.split("."):
            path = f"getattr({path}, {part!r})"
        arguments = ", ".join(map(str, (*self.steps, self.size)))
        return f"torch.ops.mkldnn._reorder_convolution_weight({path}.weight, {arguments})"


@functools.cache
def convolution():
    """oneDNN's convolution. In a function, since a tracer cannot pass its list of scalars."""

    def convolve(
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: Optional[torch.Tensor],
        padding: List[int],
        stride: List[int],
        dilation: List[int],
        groups: int,
    ):
        return torch.ops.mkldnn._convolution_pointwise(x, weight, bias, padding, stride, dilation, groups, "none", [], "")

    return torch.jit.script(convolve)


def packable(model, images):
    """The dense convolutions that run once in a pass."""
    sizes = {}

    def hook(name):
        def note(module, inputs, output):
            size = inputs[0].shape
            # A linear layer's tokens are a column of cells.
            sizes.setdefault(name, []).append([1, size[2], size[1], 1] if len(size) == 3 else [1, *size[1:]])

        return note

    def plain(module):
        if type(module) is torch.nn.Conv2d:
            return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
        return isinstance(module, Pointwise)

    found = {name: module for name, module in model.named_modules() if plain(module)}
    run_once(model, images, [module.register_forward_hook(hook(name)) for name, module in found.items()])
    return [Packable(name, found[name], size[0]) for name, size in sizes.items() if len(size) == 1]


def the_same(model, other, images, what):
    """The other model, if its logits are the model's."""
    with torch.no_grad():
        expected, found = model(images), other(images)
    error = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30)).item()
    if error <= LIMITS[torch.float32]:
        return other
    print(f"{what}: logits would be off by {error:.1e}, so that it is left out")
    return model


def channels_last(shape):
    """Whether a map is [B,H,W,C], as Swin's are: its square side then comes first."""
    return len(shape) == 4 and shape[1] == shape[2] != shape[3]


def replacing(number, name):
    """The method that puts another feature in the place of one tap."""

    def replaced(self, images, feature):
        self.shared.seen.clear()
        self.shared.other = {name: feature}
        logits = self.model(laid_out(images))
        self.shared.other = {}
        return logits

    replaced.__name__ = f"replaced_{number}"
    return replaced


def export(
    model, path, preprocessing, taps=(), prefix_tokens=0, dtype=torch.float32, frozen=False, for_cpu=False, title=None
):
    """Writes `model` to `path`. `preprocessing`: resize, crop, filter (bilinear or bicubic), mean, std.

    `taps` are module paths. `prefix_tokens` stand before the patches of tokens. `frozen` folds weights into
    the program, after which taps cannot be replaced. `for_cpu` makes it faster on CPUs.
    """
    torch.backends.mha.set_fastpath_enabled(False)  # it has no gradient
    torch.manual_seed(0)
    model = model.eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    unknown = [name for name in taps if name not in dict(model.named_modules())]
    if unknown:
        sys.exit(f"no layer {', '.join(unknown)}; --layers lists them")

    side = preprocessing["crop"]
    # Before the weights are rounded.
    sample = torch.randn(2, 3, side, side)
    model = the_same(model, folded(model, sample, taps), sample, "folding BatchNorm")
    if for_cpu and dtype == torch.float32:
        model = the_same(model, pointwise(model, sample), sample, "linear layers as convolutions")
    model = model.to(dtype).to(memory_format=torch.channels_last)
    # Two of them, and a gradient: neither the size of the batch nor a pass without a graph must end up in the program.
    images = torch.randn(2, 3, side, side, dtype=dtype).requires_grad_(True)
    parts = packable(model, images.detach()) if for_cpu and not frozen else []
    tapped = Tapped(model, taps)
    logits, *features = tapped.all(images) if taps else [tapped.all(images)]
    order = list(tapped.shared.seen)
    missing = [name for name in taps if name not in order]
    if missing:
        sys.exit(f"{', '.join(missing)}: not reached in a forward pass; take other layers")
    for name in order:
        if tapped.shared.last[name]:
            print(f"{name}: channels came last and are put first")
    methods = {"all": images}
    if parts:
        tapped.shared.packable = parts
        methods["all_packed"] = (images.detach(), [part.module.weight for part in parts])
    if not frozen:
        own = {f"replaced_{i}": replacing(i, name) for i, name in enumerate(order)}
        tapped.__class__ = type("Tapped", (Tapped,), own)
        for i in range(len(order)):
            methods[f"replaced_{i}"] = (images, features[i].detach().clone().requires_grad_(True))
    traced = torch.jit.trace_module(tapped, methods, check_trace=False)

    record = {
        "format": FORMAT,
        "model": title or type(model).__name__,
        "torch": torch.__version__,
        "preprocessing": preprocessing,
        "dtype": str(dtype).removeprefix("torch."),
        "taps": order,
        "prefix_tokens": {n: prefix_tokens for n, f in zip(order, features) if f.dim() == 3},
        "replaces": not frozen and bool(order),
        "packs": bool(parts),
    }
    for source in sources(order, record, frozen, parts):
        traced.define(source)
    if frozen:
        traced = torch.jit.freeze(traced.eval(), preserved_attrs=["explainer_record"])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    torch.jit.save(traced, path)
    print(f"{path}: logits {tuple(logits.shape[1:])}" + "".join(f", {n} {tuple(f.shape[1:])}" for n, f in zip(order, features)))
    check(tapped, path, images, LIMITS[dtype])
    for hook in tapped.shared.hooks:
        hook.remove()


def sources(taps, record, frozen, packable):
    """The methods that the program calls."""
    yield f"def explainer_record(self) -> str:\n    return {json.dumps(record)!r}\n"
    calls = [("def forward(self, images: Tensor)", "self.all(images)")]
    if packable:
        yield f"def packed(self) -> List[Tensor]:\n    return [{', '.join(part.source() for part in packable)}]\n"
        calls.append(("def observed(self, images: Tensor, packed: List[Tensor])", "self.all_packed(images, packed)"))
    for head, call in calls:
        if not taps:
            yield f"{head} -> Tensor:\n    return {call}\n"
            continue
        values = ", ".join(f"tap_{i}" for i in range(len(taps)))
        named = ", ".join(f"{name!r}: tap_{i}" for i, name in enumerate(taps))
        yield (
            f"{head} -> Tuple[Tensor, Dict[str, Tensor]]:\n"
            f"    logits, {values} = {call}\n"
            f"    return logits, {{{named}}}\n"
        )
    if not taps:
        return
    if not frozen:
        cases = "".join(f"    if tap == {i}:\n        return self.replaced_{i}(images, feature)\n" for i in range(len(taps)))
        yield (
            "def replaced(self, images: Tensor, tap: int, feature: Tensor) -> Tensor:\n"
            f"{cases}    raise RuntimeError('there is no such tap')\n"
        )


def check(tapped, path, images, limit):
    """Compares what was written with the model: logits, taps, gradient, on another number of images."""
    loaded = torch.jit.load(path)
    images = torch.cat([images, images[:1] * 0.5]).detach()

    def named(returned):
        logits, taps = returned if isinstance(returned, tuple) and isinstance(returned[1], dict) else (returned, {})
        if isinstance(logits, tuple):
            logits, taps = logits[0], dict(zip(tapped.shared.seen, logits[1:]))
        return {"logits": logits, **taps}

    def run(call):
        leaf = images.clone().requires_grad_(True)
        found = named(call(leaf))
        (gradient,) = torch.autograd.grad(found["logits"].float().square().sum(), leaf)
        return found | {"gradient": gradient}

    expected, found = run(tapped.all), run(loaded)
    if tapped.shared.packable:
        with torch.no_grad():
            each = [named(loaded.observed(image, loaded.packed())) for image in images.split(1)]
        packed = {name: torch.cat([one[name] for one in each]) for name in each[0]}
        expected |= {f"{name}, weights packed": expected[name] for name in packed}
        found |= {f"{name}, weights packed": value for name, value in packed.items()}
    for name, value in expected.items():
        scale = value.abs().max().item()
        error = (found[name] - value).abs().max().item() / max(scale, 1e-30)
        print(f"  {name}: off by {error:.1e} of the largest value")
        if not error <= limit:
            sys.exit(f"{name}: more than {limit:.0e} off; this classifier cannot be traced")


def from_timm(name, weights, classes, options):
    """A timm model, its preprocessing and its tokens before the patches."""
    import timm

    state = state_dict(weights)
    if state is not None:
        head = timm.get_pretrained_cfg(name).classifier
        head = head[0] if isinstance(head, (tuple, list)) else head
        classes = state[f"{head}.weight"].shape[0]
    options = options if classes is None else options | {"num_classes": classes}
    model = timm.create_model(name, pretrained=weights is None, scriptable=True, exportable=True, **options)
    if state is not None:
        model.load_state_dict(state)
    data = timm.data.resolve_model_data_config(model)
    crop = data["input_size"][-1]
    preprocessing = {
        "resize": math.floor(crop / data["crop_pct"]),
        "crop": crop,
        "filter": data["interpolation"],
        "mean": list(data["mean"]),
        "std": list(data["std"]),
    }
    return model, preprocessing, getattr(model, "num_prefix_tokens", 0)


def from_torchvision(name, weights, classes, options):
    """A torchvision model and its preprocessing."""
    from torchvision import models

    published = models.get_model_weights(name).DEFAULT
    state = state_dict(weights)
    if state is not None:
        # The last matrix among the weights is the head.
        heads = [tensor for key, tensor in state.items() if key.endswith("weight") and tensor.dim() == 2]
        classes = heads[-1].shape[0]
    if weights is None:
        model = models.get_model(name, weights=published, **options)
    else:
        options = options if classes is None else options | {"num_classes": classes}
        model = models.get_model(name, weights=None, **options)
    if state is not None:
        model.load_state_dict(state)
    own = published.transforms()
    preprocessing = {
        "resize": own.resize_size[0],
        "crop": own.crop_size[0],
        "filter": own.interpolation.value,
        "mean": list(own.mean),
        "std": list(own.std),
    }
    return model, preprocessing, 1 if hasattr(model, "class_token") else 0


def state_dict(weights):
    """The tensors of a file; none where there is none."""
    if weights in (None, "random"):
        return None
    if weights.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(weights)
    return torch.load(weights, map_location="cpu", weights_only=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="timm/NAME or torchvision/NAME")
    parser.add_argument("output", nargs="?", help="the file to write")
    parser.add_argument("--weights", help="a file of weights, or `random`; by default the published ones are downloaded")
    parser.add_argument("--classes", type=int, help="number of classes with random weights")
    parser.add_argument("--option", action="append", default=[], metavar="KEY=N", help="a number for the model's constructor")
    parser.add_argument("--taps", nargs="+", default=[], metavar="LAYER", help="layers to show, by module path")
    parser.add_argument("--layers", action="store_true", help="list the layers that can be taps, and stop")
    parser.add_argument("--bfloat16", action="store_true", help="weights and computation in bf16")
    parser.add_argument("--frozen", action="store_true", help="weights as constants; taps cannot be replaced then")
    parser.add_argument(
        "--for-cpu", action="store_true", help="faster on CPUs: packed weights; f32 transformers' linear layers as convolutions"
    )
    parser.add_argument("--resize", type=int, help="short side after resizing")
    parser.add_argument("--crop", type=int, help="side of the crop; not every model can have another one")
    parser.add_argument("--filter", choices=["bilinear", "bicubic"])
    parser.add_argument("--mean", type=float, nargs=3)
    parser.add_argument("--std", type=float, nargs=3)
    options = parser.parse_args()

    library, _, name = options.model.partition("/")
    if library not in ("timm", "torchvision") or not name:
        parser.error(f"{options.model}: expected timm/NAME or torchvision/NAME")
    source = from_timm if library == "timm" else from_torchvision
    own = {key: int(value) for key, _, value in (option.partition("=") for option in options.option)}
    model, preprocessing, prefix = source(name, options.weights, options.classes, own)
    for key in preprocessing:
        given = getattr(options, key)
        preprocessing[key] = preprocessing[key] if given is None else given
    if preprocessing["filter"] not in ("bilinear", "bicubic"):
        parser.error(f"images are resized by {preprocessing['filter']}; choose with --filter")
    if options.layers:
        return layers(model, preprocessing["crop"])
    if options.output is None:
        parser.error("say which file to write")
    dtype = torch.bfloat16 if options.bfloat16 else torch.float32
    export(model, options.output, preprocessing, options.taps, prefix, dtype, options.frozen, options.for_cpu, options.model)
    return None


def layers(model, side):
    """Prints the layers that show maps or tokens."""

    def show(name):
        def hook(module, inputs, output):
            if torch.is_tensor(output) and output.dim() in (3, 4):
                print(f"{name:40} {tuple(output.shape[1:])}")

        return hook

    for name, module in model.eval().named_modules():
        if name:
            module.register_forward_hook(show(name))
    with torch.no_grad():
        model(torch.zeros(1, 3, side, side))


if __name__ == "__main__":
    main()
