"""Runs the PyTorch code of an artifact's model card, as it stands there, and compares maps.

    cargo run --release -p explainer-zoo --example artifact -- /tmp/artifact [ptame|masking_model]
    python model-zoo/scripts/check_pytorch.py /tmp/artifact

Needs torch and safetensors. The example leaves `features.safetensors` beside the artifact's files: the taps' maps
`tap.0`, `tap.1`, ... and the raw `maps` that the Rust head draws from them.
"""

import os
import re
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

LIMIT = 1e-4


def main():
    folder = Path(sys.argv[1])
    stored = load_file(folder / "features.safetensors")
    features = [stored[f"tap.{i}"] for i in range(len([name for name in stored if name.startswith("tap.")]))]
    code = re.search("```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)
    # The card loads the file beside it, of feature maps that whoever uses it has, and of a class for each image.
    os.chdir(folder)
    card = {"features": features, "classes": torch.zeros(len(features[0]), dtype=torch.long)}
    with torch.no_grad():
        exec(compile(code, "README.md", "exec"), card)
        if "model" in card:
            ask = lambda k: card["model"](features, torch.full((len(features[0]),), k))
            raw = torch.cat([ask(k) for k in range(stored["maps"].shape[1])], dim=1)
            shown = raw[:, :1]
        else:
            shown = raw = card["head"](features)
    maps = card["maps"]
    apart = (maps - card["heat_map"](shown)).abs().max().item()
    assert apart <= LIMIT, f"the card draws other maps, by {apart:.2e}"
    assert maps.min() >= 0 and maps.max() <= 1, "heat maps leave 0..1"
    expected = stored["maps"]
    if "model" in card:
        # A mask's raw values are logarithms, without a bound on the rounding where it is all but closed.
        raw, expected = card["heat_map"](raw), card["heat_map"](expected)
    difference = (raw - expected).abs().max().item()
    print(f"{tuple(raw.shape)} maps up to {raw.abs().max().item():.3f}, max |difference| {difference:.2e}")
    sys.exit(difference > LIMIT)


if __name__ == "__main__":
    main()
