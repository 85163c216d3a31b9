#!/usr/bin/env python3
"""Times AD, IC, insertion and deletion beside a straightforward PyTorch version, in turns, and compares the figures.

    python scripts/bench_evaluate.py checkpoints/ttame_efficientnet_lite0_tuned/artifact --images ../shared/data/clothing/val

Wants torch, timm, safetensors and pillow; the artifact is a T-TAME head on a classifier that timm has under the name in its
config.json. PyTorch's side is what one would write down in an afternoon: PIL, the model with hooks at its taps, the head
from the artifact's own card, masks and perturbed images in batches of 32. Prints a Markdown table for docs/src/benchmarks/performance.md:
seconds of the whole process, images/s of the evaluation alone, peak memory, ratios, and the figures of both.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def pytorch(args):
    """PyTorch's side, in a process of its own; prints one JSON object."""
    import timm
    import torch
    import torch.nn.functional as F
    from PIL import Image
    from safetensors.torch import load_file

    torch.set_num_threads(args.threads)
    sys.path.insert(0, str(ROOT / "model-zoo/src/artifact"))
    from head import Head, heat_map

    artifact = pathlib.Path(args.artifact)
    config = json.loads((artifact / "config.json").read_text())
    shape, look = config["head"], config["preprocessing"]
    model = timm.create_model(config["backbone"]["name"], num_classes=shape["classes"])
    model.load_state_dict({k: v.float() for k, v in load_file(config["backbone"]["weights"]).items()})
    head = Head(shape["channels"], shape["classes"], shape["map_size"], shape["branches"], shape["fuse_bias"])
    head.load_state_dict(load_file(artifact / "model.safetensors"))
    model.eval(), head.eval()
    seen = {}
    for tap in config["taps"]:
        model.get_submodule(tap).register_forward_hook(lambda _m, _i, out, tap=tap: seen.__setitem__(tap, out))
    mean, std = (torch.tensor(look[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    side = look["crop"]

    def load(path):
        image = Image.open(path).convert("RGB")
        scale = look["resize"] / min(image.size)
        size = [round(length * scale) for length in image.size]
        image = image.resize(size, Image.Resampling[look["filter"].upper()])
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.crop((left, top, left + side, top + side))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        return pixels.view(1, side, side, 3).permute(0, 3, 1, 2).float() / 255

    def score(images, classes):
        parts = zip(images.split(32), classes.split(32))
        return torch.cat([model(x).softmax(1).gather(1, t[:, None])[:, 0] for x, t in parts])

    def blur(images):
        place = torch.arange(11.0) - 5
        kernel = torch.exp(-place.square() / 50)
        kernel = (kernel / kernel.sum()).repeat(3, 1, 1)
        images = F.conv2d(images, kernel[:, :, None, :], padding=(0, 5), groups=3)
        return F.conv2d(images, kernel[:, :, :, None], padding=(5, 0), groups=3)

    def area(curve):
        return (curve.sum() - (curve[0] + curve[-1]) / 2).item() / (len(curve) - 1)

    files = [line for line in pathlib.Path(args.list).read_text().splitlines() if line]
    figures = {name: [] for name in args.names}
    start = time.perf_counter()
    with torch.inference_mode():
        for first in range(0, len(files), 32):
            pixels = torch.cat([load(path) for path in files[first : first + 32]])
            images = (pixels - mean) / std
            logits = model(images)
            whole, classes = logits.softmax(1).max(1)
            maps = head([seen[tap] for tap in config["taps"]])
            maps = heat_map(maps[torch.arange(len(maps)), classes][:, None])
            maps = F.interpolate(maps, (side, side), mode="bilinear", align_corners=False)
            for percent in (100, 50, 15):
                bound = torch.quantile(maps.flatten(1), 1 - percent / 100, dim=1).view(-1, 1, 1, 1)
                kept = torch.where(maps < bound, torch.zeros(()), maps)
                left = score((pixels * kept - mean) / std, classes)
                figures[f"ad@{percent}"] += (100 * (whole - left).clamp_min(0) / whole).tolist()
                figures[f"ic@{percent}"] += (100.0 * (left > whole)).tolist()
            for one in range(len(images)):
                image, soft = images[one : one + 1], blur(images[one : one + 1])
                order = maps[one].flatten().argsort(descending=True)
                counts = [side * side * step // args.steps for step in range(args.steps + 1)]
                shown = torch.zeros(len(counts), side * side)
                for step, count in enumerate(counts):
                    shown[step, order[:count]] = 1
                shown = shown.view(-1, 1, side, side)
                same = classes[one].expand(len(counts))
                figures[f"insertion@{args.steps}"].append(area(score(shown * image + (1 - shown) * soft, same)))
                figures[f"deletion@{args.steps}"].append(area(score((1 - shown) * image, same)))
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    means = {name: statistics.fmean(values) for name, values in figures.items()}
    print(json.dumps({"seconds": seconds, "peak": peak, "figures": means, "torch": torch.__version__}))


def ours(args, folder):
    """This program's side."""
    out = folder / "figures.json"
    command = [args.program, "evaluate", args.artifact, "--images", args.list, "--metrics", ",".join(args.names)]
    before = time.perf_counter()
    command += ["--threads", str(args.threads), "--quiet", "--json", out]
    child = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - before
    if status != 0:
        sys.exit("explainer-train failed")
    found = json.loads(out.read_text())
    figures = {one["name"]: one["mean"] for one in found["metrics"]}
    return {"wall": wall, "seconds": found["seconds"], "peak": usage.ru_maxrss / 1024, "figures": figures}


def theirs(args):
    """PyTorch's side, and how long its process took."""
    before = time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--list", args.list, "--pytorch"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return {"wall": time.perf_counter() - before, **json.loads(done.stdout)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact")
    parser.add_argument("--images", required=True, help="folder; its first images of every class")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=14, help="of insertion and of deletion")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--program", default=str(ROOT / "target/release/explainer-train"))
    parser.add_argument("--list", help=argparse.SUPPRESS)
    parser.add_argument("--pytorch", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.names = [f"{name}@{percent}" for percent in (100, 50, 15) for name in ("ad", "ic")]
    args.names += [f"insertion@{args.steps}", f"deletion@{args.steps}"]
    if args.pytorch:
        return pytorch(args)

    kinds = {".jpg", ".jpeg", ".png", ".webp"}
    files = sorted(path for path in pathlib.Path(args.images).resolve().rglob("*") if path.suffix.lower() in kinds)
    if len(files) < args.count:
        sys.exit(f"{args.images} has {len(files)} images, {args.count} are wanted")
    files = [files[i * len(files) // args.count] for i in range(args.count)]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        args.list = str(folder / "images.txt")
        pathlib.Path(args.list).write_text("".join(f"{path}\n" for path in files))
        rounds = [(ours(args, folder), theirs(args)) for _ in range(args.rounds)]

    def middle(side, key):
        return statistics.median(both[side][key] for both in rounds)

    print(f"{args.count} images, {args.steps} steps, {args.rounds} rounds in turns, {args.threads} threads, "
          f"torch {rounds[0][1]['torch']}\n")
    print("| | this program | PyTorch | ratio | ratio of each round |\n|---|---|---|---|---|")
    for title, key in (("whole process, s", "wall"), ("evaluation alone, s", "seconds"), ("peak memory, MiB", "peak")):
        ratios = ", ".join(f"{mine[key] / other[key]:.2f}" for mine, other in rounds)
        mine, other = middle(0, key), middle(1, key)
        print(f"| {title} | {mine:.1f} | {other:.1f} | {mine / other:.2f} | {ratios} |")
    print("\n| figure | this program | PyTorch |\n|---|---|---|")
    for name in args.names:
        print(f"| {name} | {rounds[0][0]['figures'][name]:.3f} | {rounds[0][1]['figures'][name]:.3f} |")


if __name__ == "__main__":
    main()
