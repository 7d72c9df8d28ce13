"""The image formats that are decoded, one row per format.

Everything that has to know them reads this table: the decoder, the search for images in a folder, the names of stored files,
and the doctor's findings. A new format is a row here and a decoder in `keras_cnn.images.decoding`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageFormat:
    """How to recognise the files of one format.

    Attributes:
        name: Such as "WebP".
        pillow_names: What Pillow calls it: one name, or more where Pillow tells variants apart.
        suffixes: The endings of its files, in lower case; the most common one comes first.
        signature: What every file has at its beginning: pairs of a byte position, a multiple of 4, and at most 4 bytes.
        end: The last bytes of a complete file; empty if the format has no fixed end.
        size_field: Where a file tells its own size, in 4 bytes, little-endian, and how many of its bytes that does not count;
            None if it does not tell.
    """

    name: str
    pillow_names: tuple[str, ...]
    suffixes: tuple[str, ...]
    signature: tuple[tuple[int, bytes], ...]
    end: bytes = b""
    size_field: tuple[int, int] | None = None

    def matches(self, head: bytes) -> bool:
        """Whether a file that begins with `head` has this format."""
        return all(head.startswith(expected, position) for position, expected in self.signature)

    def is_truncated(self, content: bytes) -> bool:
        """Whether a file ends before its format says so. Only for files that cannot be decoded."""
        if self.size_field:
            position, not_counted = self.size_field
            return len(content) < not_counted + int.from_bytes(content[position : position + 4], "little")
        return not content.rstrip(b"\0").endswith(self.end)


FORMATS = (
    ImageFormat(
        "JPEG",
        ("JPEG", "MPO"),  # MPO is a JPEG with a second image after the first
        (".jpg", ".jpeg", ".jpe", ".jfif", ".jif"),
        ((0, b"\xff\xd8\xff"),),
        end=b"\xff\xd9",
    ),
    ImageFormat("PNG", ("PNG",), (".png",), ((0, b"\x89PNG"),), end=b"IEND\xaeB`\x82"),
    ImageFormat("GIF", ("GIF",), (".gif",), ((0, b"GIF8"),), end=b";"),
    ImageFormat("BMP", ("BMP",), (".bmp", ".dib"), ((0, b"BM"),), size_field=(2, 0)),
    ImageFormat("WebP", ("WEBP",), (".webp",), ((0, b"RIFF"), (8, b"WEBP")), size_field=(4, 8)),
)
SUFFIXES = tuple(suffix for each in FORMATS for suffix in each.suffixes)


def find_format(head: bytes) -> ImageFormat | None:
    """The format of a file that begins with `head`; None if it is not one that is decoded.

    Example:
        >>> find_format(b"GIF89a").suffixes
        ('.gif',)
    """
    return next((each for each in FORMATS if each.matches(head)), None)
