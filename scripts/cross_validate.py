#!/usr/bin/env python3
"""Judges a recipe on the training images alone: trains it on all but every n-th of them, n times, and measures it on the rest.

    python scripts/cross_validate.py configs/experiments/ttame_dinov2_s14_tuned.yaml --images ../shared/data/imagenet-sample/train \\
        --output /tmp/tuned
    python scripts/cross_validate.py configs/experiments/ttame_dinov2_s14_tuned.yaml --images ../shared/data/imagenet-sample/train \\
        --output /tmp/area --against /tmp/tuned objective.area=1.0

Prints AD, IC and AG over all images, each measured once by an explainer that has not learned from it, with their standard
errors; with --against also the differences to another recipe's, image by image. Folds that are there are not computed again
(by whatever build of the program), and an interrupted run goes on from its last checkpoint. Wants nothing but Python and the
built program.
"""

import argparse
import csv
import hashlib
import json
import math
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
# Keys of a fold. Validation runs once, at the end: with more validations the run would keep the head that is best on the
# held-out images.
OWN = ("data.train", "data.val", "train.validate_every")


def images_of(folder):
    """The images of a folder and its sub-folders, without hidden ones, sorted."""
    found = []
    for at, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [os.path.join(at, name) for name in files if not name.startswith(".")]
    return sorted(os.path.abspath(path) for path in found if pathlib.Path(path).suffix.lower() in SUFFIXES)


def folds(files, count):
    """`count` pairs of training and held-out images; pair k holds out images k, k + count, k + 2 count, ..."""
    if not 2 <= count <= len(files):
        sys.exit(f"{len(files)} images cannot be divided into {count} folds")
    return [([f for i, f in enumerate(files) if i % count != k], files[k::count]) for k in range(count)]


def listed(path, files):
    """A list file; a path may contain commas and spaces."""
    path.write_text("".join('"' + file.replace('"', '""') + '"\n' for file in files))
    return path


def run(*command):
    print("$", *command, file=sys.stderr)
    try:
        child = subprocess.Popen([str(part) for part in command], stdout=sys.stderr)
    except OSError as error:
        sys.exit(f"{command[0]}: {error}; build it with `cargo build --release`")
    try:
        code = child.wait()
    except KeyboardInterrupt:
        child.wait()  # it was interrupted too, and writes a checkpoint
        sys.exit("interrupted; the same command continues from here")
    if code != 0:
        sys.exit(f"stopped with exit code {code}; the same command continues from here")


def measured(args, k, fit, hold):
    """The values of a fold's held-out images: {image: {metric: value}}."""
    folder = args.output / f"fold{k}"
    values, artifact = folder / "evaluation.json", folder / "run" / "artifact"
    if not values.exists():
        folder.mkdir(parents=True, exist_ok=True)
        hold = listed(folder / "hold.txt", hold)
        program = [args.program, *(["--threads", args.threads] if args.threads else [])]
        if not (artifact / "config.json").exists():
            own = [json.dumps(str(listed(folder / "fit.txt", fit))), json.dumps(str(hold)), 10**9]
            own = [f"{key}={value}" for key, value in zip(OWN, own)]
            run(*program, "--config", args.config, "--resume", "auto", "--output", folder / "run", *args.change, *own)
        if not (artifact / "config.json").exists():
            sys.exit(f"{folder}: the run was stopped; the same command continues from here")
        run(*program, "evaluate", artifact, "--images", hold, "--json", values)
    return {image["name"]: image["values"] for image in json.loads(values.read_text())["per_image"]}


def claim(args, files):
    """Binds the output folder to one recipe and these images, and checks that --against has the same images and folds."""
    digest = hashlib.sha256("\n".join(files).encode()).hexdigest()
    same = {"images": digest, "folds": args.folds}
    recipe = same | {"config": pathlib.Path(args.config).read_text(), "change": args.change}
    note = args.output / "recipe.json"
    if note.exists() and json.loads(note.read_text()) != recipe:
        sys.exit(f"{args.output}: holds the results of another recipe or of other images; choose another --output")
    if args.against:
        try:
            other = json.loads((args.against / "recipe.json").read_text())
        except (OSError, ValueError) as error:
            sys.exit(f"--against {args.against}: {error}; it must be the --output of a finished cross-validation")
        if any(other.get(key) != value for key, value in same.items()):
            sys.exit(f"--against {args.against}: was measured on other images or folds")
    args.output.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(recipe, indent=1))


def mean_and_error(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / len(values))


def of(folder, chosen):
    """All values in the folds' result files."""
    every = {}
    for k in chosen:
        try:
            text = (folder / f"fold{k}" / "evaluation.json").read_text()
        except OSError as error:
            sys.exit(f"{error}; its cross-validation is not finished")
        every |= {image["name"]: image["values"] for image in json.loads(text)["per_image"]}
    return every


def table(values, other, names):
    """A line for each metric; pairs in which it is undefined on one side are left out."""
    for name in names:
        defined = [row[name] for row in values.values() if row[name] is not None]
        line = f"{name:8} {mean_and_error(defined)[0]:7.2f} ± {mean_and_error(defined)[1]:.2f}" if defined else f"{name:8} undefined"
        pairs = [(row[name], other[image][name]) for image, row in values.items() if image in other]
        pairs = [own - others for own, others in pairs if own is not None and others is not None]
        if pairs:
            line += "   {:+7.2f} ± {:.2f}".format(*mean_and_error(pairs))
        yield line


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="YAML file of a run")
    parser.add_argument("change", nargs="*", metavar="KEY=VALUE", help="keys to change in it")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder of training images")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for runs and results")
    parser.add_argument("--against", type=pathlib.Path, help="another recipe's output, on the same folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--only", metavar="K,...", help="some of the folds, counted from 0")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/explainer-train")
    args = parser.parse_intermixed_args()
    for change in args.change:
        if change.partition("=")[0] in OWN:
            parser.error(f"{change}: is what holds the images of a fold out")

    files = images_of(args.images)
    parts = folds(files, args.folds)
    every = [str(k) for k in range(args.folds)]
    chosen = every if args.only is None else args.only.split(",")
    if not set(chosen) <= set(every):
        parser.error(f"--only: found {args.only}, expected numbers from 0 to {args.folds - 1} with commas between them")
    chosen = sorted({int(k) for k in chosen})
    claim(args, files)
    other = of(args.against, chosen) if args.against else {}
    values = {}
    for k in chosen:
        values |= measured(args, k, *parts[k])
    names = sorted(next(iter(values.values())), key=lambda name: (name.split("@")[0], -int(name.split("@")[1])))
    with open(args.output / "values.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", *names])
        writer.writerows([image, *(row[name] for name in names)] for image, row in sorted(values.items()))
    which = f"{args.folds} folds" if args.only is None else f"folds {', '.join(map(str, chosen))} of {args.folds}"
    print(f"{len(values)} images, {which}" + (f"; difference to {args.against}" if args.against else ""))
    for line in table(values, other, names):
        print(line)


if __name__ == "__main__":
    main()
