#!/usr/bin/env python3
"""Judges a recipe on the training images alone: trains it on all but every k-th of them, k times, and measures it on the rest.

    python scripts/cross_validate.py configs/ttame_dinov2_s14_tuned.yaml --images ../shared/data/imagenet-sample/train \\
        --output /tmp/tuned
    python scripts/cross_validate.py configs/ttame_dinov2_s14_tuned.yaml --images ../shared/data/imagenet-sample/train \\
        --output /tmp/area --against /tmp/tuned objective.area=1.0

Prints AD, IC and AG over all images, each measured once by an explainer that has not learned from it, with their standard
errors; with --against also the differences to another recipe's, image by image. What is there is not computed again, so that
an interrupted run goes on where it was. Wants nothing but Python and the built program.
"""

import argparse
import csv
import json
import math
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def folds(images, count):
    """Every k-th image of the sorted folder, for k = 0, 1, ..."""
    files = sorted(path for path in images.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not 2 <= count <= len(files):
        sys.exit(f"{images}: {len(files)} images cannot be divided into {count} folds")
    return [([f for i, f in enumerate(files) if i % count != k], files[k::count]) for k in range(count)]


def listed(path, files):
    path.write_text("".join(f"{file.resolve()}\n" for file in files))
    return path


def run(*command):
    print("$", *command, file=sys.stderr)
    if subprocess.run([str(part) for part in command]).returncode != 0:
        sys.exit("stopped; the same command goes on from here")


def measured(args, k, fit, hold):
    """The values of a fold's held-out images: {image: {metric: value}}."""
    folder = args.output / f"fold{k}"
    values = folder / "evaluation.json"
    if not values.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fit, hold = listed(folder / "fit.txt", fit), listed(folder / "hold.txt", hold)
        program = [args.program, *(["--threads", args.threads] if args.threads else [])]
        if not (folder / "run" / "artifact").exists():
            # The evaluation comes afterwards, on all images: the run's own may be short.
            own = [f"data.train={fit}", f"data.val={hold}", "train.validate_images=1"]
            run(*program, "--config", args.config, "--resume", "auto", "--output", folder / "run", *own, *args.change)
        run(*program, "evaluate", folder / "run" / "artifact", "--images", hold, "--json", values)
    return {image["name"]: image["values"] for image in json.loads(values.read_text())["per_image"]}


def claim(args):
    """Keeps the output folder for one recipe."""
    note = args.output / "recipe.json"
    images = str(args.images.resolve())
    recipe = {"config": pathlib.Path(args.config).read_text(), "change": args.change, "images": images, "folds": args.folds}
    if note.exists() and json.loads(note.read_text()) != recipe:
        sys.exit(f"{args.output}: holds the results of another recipe; choose another --output")
    args.output.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps(recipe, indent=1))


def mean_and_error(values):
    mean = sum(values) / len(values)
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1) / len(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="YAML file of a run")
    parser.add_argument("change", nargs="*", metavar="KEY=VALUE", help="keys to change in it")
    parser.add_argument("--images", type=pathlib.Path, required=True, help="folder of training images")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="folder for runs and results")
    parser.add_argument("--against", type=pathlib.Path, help="another recipe's output, on the same folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--program", type=pathlib.Path, default=ROOT / "target/release/explainer-train")
    args = parser.parse_intermixed_args()

    parts = folds(args.images, args.folds)
    claim(args)
    values = {}
    for k, (fit, hold) in enumerate(parts):
        values |= measured(args, k, fit, hold)
    with open(args.output / "values.csv", "w", newline="") as file:
        names = sorted(next(iter(values.values())), key=lambda name: (name.split("@")[0], -int(name.split("@")[1])))
        table = csv.writer(file)
        table.writerow(["image", *names])
        table.writerows([image, *(row[name] for name in names)] for image, row in sorted(values.items()))

    other = None
    if args.against:
        with open(args.against / "values.csv", newline="") as file:
            other = {row.pop("image"): row for row in csv.DictReader(file)}
        if set(other) != set(values):
            sys.exit(f"{args.against}: measured on other images")
    print(f"{len(values)} images, {args.folds} folds" + (f"; difference to {args.against}" if other else ""))
    for name in names:
        mean, error = mean_and_error([row[name] for row in values.values()])
        line = f"{name:8} {mean:7.2f} ± {error:.2f}"
        if other:
            mean, error = mean_and_error([row[name] - float(other[image][name]) for image, row in values.items()])
            line += f"   {mean:+7.2f} ± {error:.2f}"
        print(line)


if __name__ == "__main__":
    main()
