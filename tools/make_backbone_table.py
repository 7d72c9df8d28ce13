"""Lists the networks of `load_backbone`: the table of docs/backbones.md.

python tools/make_backbone_table.py            # print the table
python tools/make_backbone_table.py --write    # put it into docs/backbones.md
"""

import argparse
import gc
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np

from keras_cnn import load_backbone
from keras_cnn.backbones import applications, efficientnet_lite

PAGE = Path(__file__).parent.parent / "docs" / "backbones.md"
START, END = "<!-- made by tools/make_backbone_table.py -->\n", "<!-- end -->"
HEAD = "handle | size | channels at stride 2, 4, 8, 16, 32 | parameters | images 0..255 become"


def line(handle):
    keras.backend.clear_session()
    gc.collect()
    try:
        backbone, sizes = load_backbone(handle, (None, None, 3), weights=None), "any"
    except ValueError:
        backbone, sizes = load_backbone(handle, weights=None), "given"
    channels = {stage.stride: str(stage.channels) for stage in backbone.stages}
    maps = " · ".join(channels.get(2**level, "–") for level in range(1, 6))
    size = f"{backbone.preprocessing.size[0]}{'' if sizes == 'any' else '*'}"
    parameters = f"{backbone.model.count_params() / 1e6:.1f} M"
    return f"| `{handle}` | {size} | {maps} | {parameters} | {normalisation(backbone.model)} |"


def normalisation(model):
    """In words, what stands between the images and the network."""
    layers = {layer.name: layer for layer in model.layers}
    if "normalize" not in layers:
        return "what they are: the network does it"
    scale, offset = (np.atleast_1d(value) for value in (layers["normalize"].scale, layers["normalize"].offset))
    order = "BGR, " if any("flip" in operation.name for operation in model.operations) else ""
    if len(scale) == 1 or (len(set(scale)) == 1 and len(set(offset)) == 1):
        low, high = offset[0], scale[0] * 255 + offset[0]
        return f"{order}{low:.3g} .. {high:.3g}"
    mean, std = -offset / scale, 1 / scale
    minus = f"x − ({', '.join(f'{value:.2f}' for value in mean)})"
    return f"{order}{minus}" if set(std) == {1.0} else f"{order}({minus}) / ({', '.join(f'{v:.2f}' for v in std)})"


def table():
    handles = [*efficientnet_lite.VARIANTS, *(f"keras:{name}" for name in applications.names())]
    rule = "|---|---:|---|---:|---|"
    return "\n".join([f"| {HEAD} |", rule, *map(line, handles)]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/backbones.md")
    write, text = parser.parse_args().write, table()
    if write:
        before, rest = PAGE.read_text().split(START)
        PAGE.write_text(before + START + text + END + rest.split(END)[1])
    else:
        print(text)
