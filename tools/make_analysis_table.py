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
    """Size and padding of the field of the last map as in source [1], parameters as in [2], billions of MACs."""

    field: tuple[int, int] | None
    parameters: int
    macs: float
    source: int


SOURCES = {
    1: "Araujo et al., 2019, *Computing Receptive Fields of Convolutional Neural Networks*, Distill, "
    "doi:10.23915/distill.00021; the table in the README of its library, github.com/google-research/receptive_field",
    2: "keras.io/api/applications, column *Parameters*, before it was rounded: github.com/keras-team/keras-io, "
    "templates/api/applications/index.md at 01b6d6c",
    3: "torchvision, `_ops` of the weights `IMAGENET1K_V1`, *GFLOPS* in its documentation, which are multiply-adds; for "
    "MobileNetV2 and EfficientNet-B0 the papers have 0.300 (arXiv:1801.04381, table 4) and 0.39 (arXiv:1905.11946, table 2)",
    4: "He et al., 2015, *Deep Residual Learning*, arXiv:1512.03385, table 1, *FLOPs*, which are multiply-adds",
    5: "Tan & Le, 2019, *EfficientNet*, arXiv:1905.11946, table 2, *#FLOPs*, which are multiply-adds",
    6: "Howard et al., 2017, *MobileNets*, arXiv:1704.04861, table 6, *Mult-Adds*",
    7: "Sandler et al., 2018, *MobileNetV2*, arXiv:1801.04381, table 4, *MAdds*",
}
NETWORKS = {
    "VGG16": Published((212, 90), 138_357_544, 15.47, 3),
    "ResNet50": Published((483, 239), 25_636_712, 3.8, 4),
    "ResNet101": Published((1027, 511), 44_707_176, 7.6, 4),
    "ResNet152": Published((1507, 751), 60_419_944, 11.3, 4),
    "InceptionV3": Published((1311, 618), 23_851_784, 5.713, 3),
    "InceptionResNetV2": Published((3039, 1482), 55_873_736, 13, 5),
    "Xception": Published(None, 22_910_480, 8.4, 5),
    "MobileNet": Published((315, 126), 4_253_864, 0.569, 6),
    "MobileNetV2": Published(None, 3_538_984, 0.301, 3),
    "DenseNet121": Published(None, 8_062_504, 2.834, 3),
    "EfficientNetB0": Published(None, 5_330_571, 0.386, 3),
    "NASNetMobile": Published(None, 5_326_716, 0.564, 7),
}


def line(name):
    """One row of the table: ours beside what is published."""
    found, published = analysis.analyze(getattr(keras.applications, name)(weights=None)), NETWORKS[name]
    field = found.last_map.receptive_field[0]
    beside = " + whole" if found.last_map.global_field else ""
    difference = round(100 * (found.macs / 1e9 / published.macs - 1), 1) + 0.0  # no "-0.0"
    size, padding = published.field or (None, None)
    return (
        f"| {name} ({found.input_shape[0]}) | {field.size} / {field.stride} / {field.padding}{beside} | "
        f"{f'{size} / 32 / {padding}' if size else '–'} | {found.parameters:,} | {published.parameters:,} | "
        f"{found.macs / 1e9:.3f} G | {published.macs:g} G [{published.source}] | {difference:+.1f} % |"
    )


def table():
    head = (
        "network (side) | field / stride / padding | published [1] | parameters | published [2] | MACs | published | "
        "difference"
    )
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
