#!/usr/bin/env python3
"""Times training steps and explanations beside a PyTorch program, in turns, and prints Markdown tables of ratios.

    python3 scripts/bench_pytorch.py --peer 'PYTHON ../shared/bench/peer.py' [--rounds 3] [--work training_step explanation]
                                     [--backbones tf_efficientnet_lite0 ...] [--libtorch] [--write docs/src/benchmarks/performance.md]

The peer is a command that takes `train-step NAME --batch N --steps N --threads N [--bf16]` and `explain NAME --images N --threads N`
and prints a JSON object with `seconds` (the median), `peak_rss_mib` and `torch`. This program's side is `cargo bench --bench
explainers`, which computes the maps of the requested classes only; the peer computes those of all classes.

--libtorch adds the LibTorch engine, in f32 and, beside the peer's, in bf16, and the floor: the operations and bytes of a step
(scripts/count_operations.py) over the best rates of this machine. It needs `scripts/libtorch --install`.
--write puts the tables between the marks of that file instead of on standard output, with how a step grows besides.

Each round runs all sides one after the other, each in a process of its own; a figure is the median over the rounds of the
processes' medians, the spread is from the smallest to the largest of them, memory the largest of the processes'. A ratio is the
median of the rounds' own ratios. Alone on the machine.
"""

import argparse
import json
import os
import pathlib
import platform
import re
import shlex
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BENCH = "explainers"
# The peer's name of each backbone, the images of a training step, and the options of its export as TorchScript.
BACKBONES = {
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0.in1k", 32, ["timm/tf_efficientnet_lite0", "blocks.2 blocks.4 blocks.6"]),
    "vit_small_patch14_dinov2": (
        "vit_small_patch14_dinov2",
        32,
        ["timm/vit_small_patch14_dinov2", "blocks.9 blocks.10 blocks.11", "--option", "img_size=224", "--resize", "256",
         "--crop", "224", "--classes", "1000"],
    ),
    "resnet50": ("resnet50", 16, ["torchvision/resnet50", "layer2 layer3 layer4"]),
    "vgg16": ("vgg16", 8, ["torchvision/vgg16", "features.16 features.23 features.30"]),
    "vit_b_16": (
        "vit_b_16",
        8,
        ["torchvision/vit_b_16", " ".join(f"encoder.layers.encoder_layer_{i}.ln_1" for i in (9, 10, 11))],
    ),
}
WORK = ("training_step", "explanation")
# What the peer is timed on in bf16.
REDUCED = ("tf_efficientnet_lite0", "vit_small_patch14_dinov2", "resnet50")
STEPS, IMAGES, THREADS = 5, 20, 2
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}
# NAME  FASTEST │ SLOWEST │ MEDIAN │ MEAN │ SAMPLES │ ITERATIONS, behind the lines of a tree.
ROW = re.compile(r"[│├╰─ ]*(?P<name>\w+) +[\d.]+ \S+ +│ [\d.]+ \S+ +│ (?P<median>[\d.]+) (?P<unit>\S+) +│")
MARKS = ("<!-- begin: scripts/bench_pytorch.py -->\n", "<!-- end: scripts/bench_pytorch.py -->\n")
# A step's passes: clean, masked, and back to the pixels. An explanation has the first.
PASSES = {"training_step": 3, "explanation": 1}


class Program:
    """The bench, built with one engine."""

    def __init__(self, environment, features=(), scripts=None, device="flex"):
        self.environment = environment | {"RAYON_NUM_THREADS": str(THREADS), "EXPLAINER_DEVICE": device}
        if scripts:
            self.environment["EXPLAINER_TORCHSCRIPTS"] = str(scripts)
        # As `cargo test` builds it, so that nothing is built twice.
        command = ["cargo", "test", "--release", "--workspace", "--bench", BENCH, "--no-run", "--message-format=json"]
        command += [f"--features={','.join(features)}"] if features else []
        out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=self.environment).stdout
        named = [m["executable"] for m in map(json.loads, out.splitlines()) if m.get("executable") and m["target"]["name"] == BENCH]
        if not named:
            sys.exit(f"cargo built no bench called {BENCH}")
        self.path = named[-1]

    def table(self, pattern):
        """Seconds by the name of each bench that fits, and the process's peak memory in MiB."""
        text, memory = measured([self.path, "--bench", "--color", "never", pattern], self.environment)
        found = {}
        for line in text.splitlines():
            if row := ROW.match(line):
                found[row["name"]] = float(row["median"]) * UNITS[row["unit"]]
        if not found:
            sys.exit(f"no time of {pattern} in:\n{text}")
        return found, memory

    def time(self, work, backbone):
        """Seconds and MiB of one process."""
        found, memory = self.table(f"{work}.*{backbone}$")
        return found[backbone], memory


def measured(command, environment):
    """The output of a command, and its peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, cwd=ROOT, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        text = out.read()
    if status != 0:
        sys.exit(f"{shlex.join(map(str, command))} failed with status {os.waitstatus_to_exitcode(status)}:\n{text}")
    return text, usage.ru_maxrss / 1024


class Peer:
    """The PyTorch program."""

    def __init__(self, command, bf16=False):
        self.command, self.bf16, self.version = command, ["--bf16"] if bf16 else [], None

    def time(self, work, backbone):
        """Seconds and MiB of one process."""
        name, batch, _ = BACKBONES[backbone]
        rest = ["train-step", name, "--batch", batch, "--steps", STEPS]
        if work == "explanation":
            rest = ["explain", name, "--images", IMAGES]
        text, memory = measured([*self.command, *rest, "--threads", THREADS, *self.bf16], dict(os.environ))
        answer = json.loads(text.splitlines()[-1])
        self.version = answer["torch"]
        return answer["seconds"], max(memory, answer["peak_rss_mib"])


class LibTorch:
    """What `scripts/libtorch` finds, and the classifiers exported with it."""

    def __init__(self):
        lines = subprocess.run([ROOT / "scripts/libtorch"], check=True, stdout=subprocess.PIPE, text=True).stdout
        script = f"{lines}\nenv -0"
        out = subprocess.run(["bash", "-c", script], check=True, stdout=subprocess.PIPE).stdout.decode()
        self.environment = dict(pair.split("=", 1) for pair in out.split("\0") if "=" in pair)

    def exported(self, bf16, backbones):
        """The folder of these classifiers, with random weights, exported again, so that no file of an older exporter is timed."""
        folder = ROOT / "target/bench_torchscript" / ("bf16" if bf16 else "f32")
        for name, (_, _, (model, taps, *rest)) in BACKBONES.items():
            path = folder / f"{name}.pt"
            if name not in backbones or (bf16 and name not in REDUCED):
                continue
            command = ["python", "model-zoo/scripts/export_torchscript.py", model, path, "--weights", "random"]
            command += ["--for-cpu", *(["--bfloat16"] if bf16 else []), *rest, "--filter", "bilinear", "--taps", *taps.split()]
            subprocess.run(list(map(str, command)), cwd=ROOT, check=True, stdout=sys.stderr, env=self.environment)
        return folder

    def counts(self):
        """What scripts/count_operations.py counts and measures."""
        command = ["python", "scripts/count_operations.py", str(THREADS)]
        out = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=self.environment).stdout
        return json.loads(out)


def rounds(sides, work, backbone, count, label):
    """For each side its seconds and MiB in each round."""
    found = [[] for _ in sides]
    for turn in range(count):
        for own, side in zip(found, sides):
            own.append(side.time(work, backbone))
        print(f"{label} {turn + 1}: {', '.join(f'{own[-1][0]:.3f} s' for own in found)}", file=sys.stderr)
    return found


def spread(values, digits=3):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def seconds(side):
    return [s for s, _ in side]


def memory(side):
    return max(m for _, m in side)


def ratio(own, other):
    return statistics.median(a / b for a, b in zip(seconds(own), seconds(other)))


def name_of(work, backbone):
    images = f", batch {BACKBONES[backbone][1]}" if work == "training_step" else ""
    return f"{work.replace('_', ' ')}, {backbone}{images}"


class Floor:
    """The least time that a pass takes by what it has to compute and to move."""

    def __init__(self, counts, flex):
        rates, _ = flex.table("rates")
        ours = THREADS * 10 * 2 * 1024**3 / rates["ten_products_each"]
        copied = THREADS * 10 * 2 * 64 * 2**20 / rates["ten_copies_each"]
        self.flops, self.bytes = max(ours, counts["flops_per_second"]), max(copied, counts["bytes_per_second"])
        self.text = (
            f"Matrix products run at {ours / 1e9:.0f} GFLOP/s here (PyTorch's at {counts['flops_per_second'] / 1e9:.0f}), copies at "
            f"{copied / 1e9:.1f} GB/s ({counts['bytes_per_second'] / 1e9:.1f}); the floor takes the larger."
        )
        self.counts = counts["backbones"]

    def row(self, work, backbone, own):
        """GFLOP, MB, floor, and the measured time over it."""
        counted = self.counts[backbone]
        images = BACKBONES[backbone][1] if work == "training_step" else 1
        flops = PASSES[work] * images * counted["flops"]
        # Weights once for each pass, however many images there are.
        moved = PASSES[work] * (images * counted["activation_bytes"] + counted["weight_bytes"])
        floors = flops / self.flops, moved / self.bytes
        time = statistics.median(seconds(own))
        return (
            f"| {name_of(work, backbone)} | {flops / 1e9:.1f} | {moved / 1e9:.2f} | {floors[0]:.3f} | {floors[1]:.3f} "
            f"| {time:.3f} | {max(floors) / time:.0%} |"
        )


def beside(args, flex, libtorch, floor):
    """The table of f32, and the floors."""
    peer = Peer(args.peer)
    sides = [flex, libtorch, peer] if libtorch else [flex, peer]
    rows, floors = [], []
    for work in args.work:
        for backbone in args.backbones:
            own, *torch, other = rounds(sides, work, backbone, args.rounds, f"{work} {backbone}")
            row = f"| {name_of(work, backbone)} | {spread(seconds(other))} | {spread(seconds(own))} | {ratio(own, other):.2f} "
            for side in torch:
                row += f"| {spread(seconds(side))} | {ratio(side, other):.2f} "
            row += f"| {memory(other):.0f} | {memory(own):.0f} | {memory(own) / memory(other):.2f} "
            for side in torch:
                row += f"| {memory(side):.0f} "
            rows.append(row + "|")
            if floor:
                floors.append(floor.row(work, backbone, own))
    engine = ("| LibTorch, s | ratio ", "| LibTorch, MiB ") if libtorch else ("", "")
    head = f"| work | PyTorch, s | `flex`, s | ratio {engine[0]}| PyTorch, MiB | `flex`, MiB | ratio {engine[1]}|"
    return [head, rule(head), *rows], floors, peer.version


def rule(head):
    return "|---" * (head.count("|") - 1) + "|"


def reduced(args, torch):
    """The table of bf16."""
    sides = [Program(torch.environment, ["tch"], torch.exported(True, args.backbones), args.device), Peer(args.peer, bf16=True)]
    head = "| work, bf16 | PyTorch, s | LibTorch, s | ratio | PyTorch, MiB | LibTorch, MiB |"
    rows = [head, rule(head)]
    for backbone in [name for name in args.backbones if name in REDUCED]:
        own, other = rounds(sides, "training_step", backbone, args.rounds, f"bf16 {backbone}")
        rows.append(
            f"| {name_of('training_step', backbone)} | {spread(seconds(other))} | {spread(seconds(own))} | {ratio(own, other):.2f} "
            f"| {memory(other):.0f} | {memory(own):.0f} |"
        )
    return rows


def growth(flex):
    """How the time of a step depends on images, classes and taps."""
    lines = []
    for what in ("images", "classes", "taps"):
        found, peak = flex.table(f"growth.*{what}")
        cells = [f"{number}: {time:.3f} s" + (f" ({1e3 * time / int(number):.0f} ms each)" if what == "images" else "")
                 for number, time in found.items()]
        lines.append(f"| {what} | {', '.join(cells)} | {peak:.0f} |")
    head = "| a step with this number of | | MiB with the most |"
    return [head, rule(head), *lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, type=shlex.split, help="the PyTorch program, with its interpreter")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (3)")
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    parser.add_argument("--libtorch", action="store_true", help="the LibTorch engine, bf16 and the floor too")
    parser.add_argument("--device", default="flex", help="where LibTorch's head computes: flex (the default) or tch")
    parser.add_argument("--write", type=pathlib.Path, help="a file whose part between the marks is replaced")
    args = parser.parse_args()
    if args.write and any(args.write.read_text().count(mark) != 1 for mark in MARKS):
        sys.exit(f"{args.write}: expected one line {MARKS[0].strip()} and one {MARKS[1].strip()}")
    flex = Program(dict(os.environ))
    torch = LibTorch() if args.libtorch else None
    engine = Program(torch.environment, ["tch"], torch.exported(False, args.backbones), args.device) if torch else None
    floor = Floor(torch.counts(), flex) if torch else None
    table, floors, version = beside(args, flex, engine, floor)

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    parts = [
        [f"Commit {commit.strip()}, PyTorch {version}" + (", LibTorch 2.9.0" if torch else "") + f", {THREADS} threads, "
         f"{cpu[1] if cpu else platform.machine()}, {args.rounds} rounds; seconds: median (smallest–largest) of the rounds."],
        table,
    ]
    if torch:
        if "training_step" in args.work:
            parts.append(reduced(args, torch))
        head = "| work | GFLOP | GB moved | s to compute | s to move | `flex`, s | floor over time |"
        parts += [[floor.text], [head, rule(head), *floors]]
    if args.write:
        parts.append(growth(flex))
    text = "\n\n".join("\n".join(part) for part in parts) + "\n"
    if not args.write:
        print(text)
        return
    before, rest = args.write.read_text().split(MARKS[0])
    _, after = rest.split(MARKS[1])
    args.write.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


if __name__ == "__main__":
    main()
