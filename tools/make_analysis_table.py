"""Compares `kc.analyze` with published values for networks of keras.applications: the table of docs/analysis.md.

python tools/make_analysis_table.py            # print the table
python tools/make_analysis_table.py --write    # put it into docs/analysis.md
"""

import argparse
import os
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras

from keras_cnn import analysis

PAGE = Path(__file__).parent.parent / "docs" / "analysis.md"
START, END = "<!-- made by tools/make_analysis_table.py -->\n", "<!-- end -->"


class Published(NamedTuple):
    """Field and stride of the last map as in source [1], millions of parameters as in [2], billions of MACs."""

    field: int | None
    parameters: float
    macs: float
    source: int


SOURCES = {
    1: "Araujo et al., 2019, *Computing Receptive Fields of Convolutional Neural Networks*, Distill, "
    "doi:10.23915/distill.00021, and the README of its library, github.com/google-research/receptive_field",
    2: "keras.io/api/applications, column *Parameters*",
    3: "Howard et al., 2017, *MobileNets*, arXiv:1704.04861, table 8, *Mult-Adds*",
    4: "He et al., 2015, *Deep Residual Learning*, arXiv:1512.03385, table 1, *FLOPs*, which are multiply-adds",
    5: "Tan & Le, 2019, *EfficientNet*, arXiv:1905.11946, table 2, *#FLOPs*, which are multiply-adds",
    6: "Sandler et al., 2018, *MobileNetV2*, arXiv:1801.04381, table 4, *MAdds*",
    7: "torchvision, `DenseNet121_Weights.IMAGENET1K_V1`, *GFLOPS*, which are multiply-adds",
}
NETWORKS = {
    "VGG16": Published(212, 138.4, 15.3, 3),
    "ResNet50": Published(483, 25.6, 3.8, 4),
    "ResNet101": Published(1027, 44.7, 7.6, 4),
    "ResNet152": Published(1507, 60.4, 11.3, 4),
    "InceptionV3": Published(1311, 23.9, 5.7, 5),
    "InceptionResNetV2": Published(3039, 55.9, 13.0, 5),
    "Xception": Published(None, 22.9, 8.4, 5),
    "MobileNet": Published(315, 4.3, 0.569, 3),
    "MobileNetV2": Published(None, 3.5, 0.300, 6),
    "DenseNet121": Published(None, 8.1, 2.83, 7),
    "EfficientNetB0": Published(None, 5.3, 0.39, 5),
    "NASNetMobile": Published(None, 5.3, 0.564, 6),
}


def last_map(found):
    """The last row whose units stand apart: the feature map before the global pooling."""
    return [row for row in found.rows if row.field[0].stride][-1]


def line(name):
    """One row of the table: ours beside what is published."""
    found, published = analysis.analyze(getattr(keras.applications, name)(weights=None)), NETWORKS[name]
    field = last_map(found).field[0]
    beside = " + whole" if last_map(found).global_field else ""
    size = found.input_shape[0]
    difference = round(100 * (found.macs / 1e9 / published.macs - 1), 1) + 0.0  # no "-0.0"
    theirs = f"{published.field} / 32 [1]" if published.field else "–"
    return (
        f"| {name} ({size}) | {field.size} / {field.stride}{beside} | {theirs} | {found.parameters:,} | "
        f"{published.parameters} M | {found.macs / 1e9:.3f} G | {published.macs:g} G [{published.source}] | "
        f"{difference:+.1f} % |"
    )


def table():
    head = "network (side) | field / stride | published | parameters | published [2] | MACs | published | difference"
    rule = "|".join(["---"] + ["---:"] * head.count("|"))
    notes = [f"[{number}] {text}  " for number, text in SOURCES.items()]
    return "\n".join([f"| {head} |", f"|{rule}|", *map(line, NETWORKS), "", *notes]) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the table into docs/analysis.md")
    text = table()
    if parser.parse_args().write:
        before, rest = PAGE.read_text().split(START)
        PAGE.write_text(before + START + text + END + rest.split(END)[1])
    else:
        print(text)
