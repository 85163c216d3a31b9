"""Loads an artifact into the PyTorch module of its model card and compares maps.

    cargo run --release -p explainer-zoo --example artifact -- /tmp/artifact [ptame|masking_model]
    python model-zoo/scripts/check_pytorch.py /tmp/artifact

Needs torch and safetensors. The example leaves `features.safetensors` beside the artifact's files: the taps' maps
`tap.0`, `tap.1`, ... and the raw `maps` that the Rust head draws from them.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

LIMIT = 1e-4


def main():
    folder = Path(sys.argv[1])
    about = json.loads((folder / "config.json").read_text())
    shape, masking = about["head"], about["method"] == "masking_model"
    file = "masking_model.py" if masking else "head.py"
    source = (Path(__file__).parent.parent / "src/artifact" / file).read_text()
    assert source in (folder / "README.md").read_text(), f"the model card shows another module than {file}"
    card = {}
    exec(compile(source, file, "exec"), card)

    head = card["MaskingModel" if masking else "Head"](**shape)
    print(head.load_state_dict(load_file(folder / "model.safetensors"), strict=True))
    head.eval()
    stored = load_file(folder / "features.safetensors")
    features = [stored[f"tap.{i}"] for i in range(len(shape["channels"]))]
    with torch.no_grad():
        if masking:
            ask = lambda k: head(features, torch.full((len(features[0]),), k))
            raw = torch.cat([ask(k) for k in range(shape["classes"])], dim=1)
        else:
            raw = head(features)
    maps = card["heat_map"](raw)
    assert maps.min() >= 0 and maps.max() <= 1, "heat maps leave 0..1"
    difference = (raw - stored["maps"]).abs().max().item()
    print(f"{tuple(raw.shape)} maps up to {raw.abs().max().item():.3f}, max |difference| {difference:.2e}")
    sys.exit(difference > LIMIT)


if __name__ == "__main__":
    main()
