#!/usr/bin/env python3
"""Counts operations and bytes of a backbone's forward pass of one image, and measures PyTorch's peak rates on this machine.

    python scripts/count_operations.py THREADS

Prints JSON. For each backbone: floating-point operations of convolutions and matrix products (a multiplication and an addition are
two), bytes of f32 that its layers read and write when each reads its input once and writes its output once, and bytes of weights.
BatchNorm, activations and what comes without weights are left out: a program can fuse them with their neighbours. Then the best of
ten products of 2048 x 2048 matrices, and of ten copies of 256 MiB. Needs torch, torchvision and timm: `scripts/libtorch`.
"""

import json
import sys
import time

import timm
import torch
import torchvision
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

BACKBONES = {
    "tf_efficientnet_lite0": lambda: timm.create_model("tf_efficientnet_lite0"),
    "vit_small_patch14_dinov2": lambda: timm.create_model("vit_small_patch14_dinov2", num_classes=1000, img_size=224),
    "resnet50": lambda: torchvision.models.resnet50(),
    "vgg16": lambda: torchvision.models.vgg16(),
    "vit_b_16": lambda: torchvision.models.vit_b_16(),
}
COUNTED = (torch.nn.Conv2d, torch.nn.Linear, torch.nn.LayerNorm, torch.nn.MultiheadAttention)


def counted(model):
    moved = 0

    def hook(module, inputs, output):
        nonlocal moved
        output = output[0] if isinstance(output, tuple) else output
        moved += 4 * (inputs[0].numel() + output.numel())

    for module in model.modules():
        if isinstance(module, COUNTED):
            module.register_forward_hook(hook)
    # The counter sees no fused attention.
    torch.backends.mha.set_fastpath_enabled(False)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 224, 224))
    weights = sum(p.numel() for p in model.parameters())
    return {"flops": counter.get_total_flops(), "activation_bytes": moved, "weight_bytes": 4 * weights}


def best(job, repeats=10):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    a = torch.rand(2048, 2048)
    product = torch.empty(2048, 2048)
    source = torch.ones(64 << 20)
    target = torch.zeros(64 << 20)
    print(json.dumps({
        "flops_per_second": 2 * 2048**3 / best(lambda: torch.mm(a, a, out=product)),
        "bytes_per_second": 2 * 4 * source.numel() / best(lambda: target.copy_(source)),
        "backbones": {name: counted(make()) for name, make in BACKBONES.items()},
    }))


if __name__ == "__main__":
    main()
