"""What kind a file in a folder of images is: by its suffix if that is enough, otherwise by its first bytes.

Folders have millions of files. So no file is opened if its suffix is that of an image, or of a file that often accompanies
images.
"""

from __future__ import annotations

import os

from keras_cnn.images.formats import SUFFIXES, ImageFormat, find_format

IMAGE, FOREIGN, COMPANION, OTHER = "image", "foreign", "companion", "other"
# Tables, notes and annotations, and files of operating systems (Thumbs.db, desktop.ini).
COMPANIONS = (
    *(".txt", ".md", ".html", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".cfg", ".ini"),
    *(".db", ".log"),
)
BY_SUFFIX = "not an image file by its suffix"
HEAD = 32  # bytes
# Possible sizes of a BMP header in bytes; the first two letters alone may be any text.
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)
OTHER_FORMATS = {
    "TIFF": ((0, b"II*\0"), (0, b"MM\0*"), (0, b"II+\0"), (0, b"MM\0+")),
    "HEIF": tuple((4, b"ftyp" + brand) for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")),
    "AVIF": ((4, b"ftypavif"), (4, b"ftypavis")),
    "JPEG 2000": ((4, b"jP  "), (0, b"\xff\x4f\xff\x51")),
    "JPEG XL": ((4, b"JXL "), (0, b"\xff\x0a")),
    "JPEG XR": ((0, b"II\xbc"),),
    "PSD": ((0, b"8BPS"),),
    "OpenEXR": ((0, b"\x76\x2f\x31\x01"),),
    "icon": ((0, b"\0\0\1\0"),),
    "Netpbm": tuple((0, b"P%d" % number + blank) for number in range(1, 8) for blank in (b"\n", b" ", b"\r")),
}


def kind_of(path: str) -> tuple[str, str]:
    """The kind of a regular file, and the reason why it cannot be used as an image; "" for an image."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in SUFFIXES:
        return IMAGE, ""
    if suffix in COMPANIONS:
        return COMPANION, f"{BY_SUFFIX} ({suffix})"
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return OTHER, f"a file that cannot be read: {error.strerror}"
    if decoded_format(head):
        return IMAGE, ""
    name = foreign_format(head)
    if name:
        return FOREIGN, reason_for_format(name)
    return OTHER, f"not an image file by its first bytes ({suffix or 'no suffix'})"


def reason_for_format(name: str) -> str:
    """The reason why files of this format are excluded."""
    article = "an" if name[0] in "AEIOUi" else "a"
    return f"{article} {name} file, which TensorFlow cannot decode: convert it to JPEG or PNG"


def is_companion(reason: str) -> bool:
    """Whether a reason is that of a file which often accompanies images, so that nobody misses it."""
    return reason.startswith(BY_SUFFIX)


def foreign_format(head: bytes) -> str:
    """The name of the image format of a file that begins with these bytes, if it cannot be decoded; "" otherwise."""
    for name, signatures in OTHER_FORMATS.items():
        if any(head.startswith(signature, offset) for offset, signature in signatures):
            return name
    return ""


def decoded_format(head: bytes) -> ImageFormat | None:
    """The format of a file that begins so, if it is one that is decoded."""
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") not in BMP_HEADERS:
        return None
    return find_format(head)
