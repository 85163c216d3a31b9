#!/usr/bin/env python3
"""Times training steps and explanations beside a PyTorch program, in turns, and prints a Markdown table of ratios.

    python3 scripts/bench_pytorch.py --peer 'PYTHON ../shared/bench/peer.py' [--rounds 3] [--work training_step explanation]
                                     [--backbones tf_efficientnet_lite0 ...]

The peer is a command that takes `train-step NAME --batch N --steps N --threads N` and `explain NAME --images N --threads N` and prints
a JSON object with `seconds` (the median), `peak_rss_mib` and `torch`. This program's side is `cargo bench --bench explainers`,
which draws the maps of the classes asked for only; the peer draws those of all classes.
Each round runs one and then the other, each in a process of its own; a figure is the median over the rounds of the processes'
medians, the spread is from the smallest to the largest of them, memory the largest of the processes'. Alone on the machine.
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
# The peer's name of each backbone, and the images of a training step.
BACKBONES = {
    "tf_efficientnet_lite0": ("tf_efficientnet_lite0.in1k", 32),
    "vit_small_patch14_dinov2": ("vit_small_patch14_dinov2", 32),
    "resnet50": ("resnet50", 16),
    "vgg16": ("vgg16", 8),
    "vit_b_16": ("vit_b_16", 8),
}
WORK = ("training_step", "explanation")
STEPS, IMAGES, THREADS = 5, 20, 2
UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}


def measured(command):
    """The output of a command, and its peak memory in MiB."""
    with tempfile.TemporaryFile("w+") as out:
        # The head's own threads are those of rayon.
        process = subprocess.Popen(command, stdout=out, cwd=ROOT, env=os.environ | {"RAYON_NUM_THREADS": str(THREADS)})
        _, status, usage = os.wait4(process.pid, 0)
        out.seek(0)
        text = out.read()
    if status != 0:
        sys.exit(f"{shlex.join(map(str, command))} failed with status {os.waitstatus_to_exitcode(status)}:\n{text}")
    return text, usage.ru_maxrss / 1024


def build():
    """Builds the bench, and finds its program."""
    # As `cargo test` builds it, so that nothing is built twice.
    command = ["cargo", "test", "--release", "--workspace", "--bench", BENCH, "--no-run", "--message-format=json"]
    lines = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    for message in map(json.loads, lines):
        if message.get("executable") and message["target"]["name"] == BENCH:
            return message["executable"]
    sys.exit(f"cargo built no bench called {BENCH}")


def ours(program, work, backbone):
    """Seconds and MiB of one process of ours."""
    text, memory = measured([program, "--bench", "--color", "never", f"{work}.*{backbone}$"])
    # NAME  FASTEST │ SLOWEST │ MEDIAN │ MEAN │ SAMPLES │ ITERATIONS
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("│")]
        if any(re.search(rf"\b{backbone}\b", cell) for cell in cells) and len(cells) >= 6:
            number, unit = cells[-4].split()
            return float(number) * UNITS[unit], memory
    sys.exit(f"no time of {work} on {backbone} in:\n{text}")


def peer(command, work, backbone):
    """Seconds and MiB of one process of the peer's, and its version."""
    name, batch = BACKBONES[backbone]
    if work == "training_step":
        rest = ["train-step", name, "--batch", batch, "--steps", STEPS]
    else:
        rest = ["explain", name, "--images", IMAGES]
    text, memory = measured([*command, *map(str, rest), "--threads", str(THREADS)])
    answer = json.loads(text.splitlines()[-1])
    return answer["seconds"], max(memory, answer["peak_rss_mib"]), answer["torch"]


def spread(seconds):
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}–{max(seconds):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, type=shlex.split, help="the PyTorch program, with its interpreter")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each side (3)")
    parser.add_argument("--work", nargs="+", choices=WORK, default=WORK)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=list(BACKBONES))
    args = parser.parse_args()
    program = build()
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    rows, versions = [], set()
    for work in args.work:
        for backbone in args.backbones:
            own, other = [], []
            for turn in range(args.rounds):
                own.append(ours(program, work, backbone))
                *timed, version = peer(args.peer, work, backbone)
                other.append(timed)
                versions.add(version)
                print(f"{work} {backbone} {turn + 1}: {own[-1][0]:.3f} s, {other[-1][0]:.3f} s", file=sys.stderr)
            (own_s, own_mib), (other_s, other_mib) = (list(zip(*side)) for side in (own, other))
            images = f", batch {BACKBONES[backbone][1]}" if work == "training_step" else ""
            ratio = statistics.median(own_s) / statistics.median(other_s)
            rows.append(
                f"| {work.replace('_', ' ')}, {backbone}{images} | {spread(other_s)} | {spread(own_s)} | {ratio:.2f} "
                f"| {max(other_mib):.0f} | {max(own_mib):.0f} | {max(own_mib) / max(other_mib):.2f} |"
            )
    print(f"Commit {commit.strip()}, PyTorch {', '.join(sorted(versions))}, {THREADS} threads, "
          f"{args.rounds} rounds, {platform.machine()}; seconds: median (smallest–largest) of the rounds.\n")
    print("| work | PyTorch, s | this program, s | ratio | PyTorch, MiB | this program, MiB | ratio |")
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
