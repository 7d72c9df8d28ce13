"""Make the small image files that the tests decode: tests/data/images, and those to be refused in its folder refused.

    python tools/make_image_files.py

Most are written by Pillow from one photo of scikit-image. What Pillow does not write is put together here byte by byte,
after the definitions of the formats. The same packages give the same files again.
"""

from __future__ import annotations

import io
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data

TARGET = Path(__file__).parent.parent / "tests" / "data" / "images"
ORIENTATION = 0x0112
BOMB = 12_000  # pixels, both ways


def photo() -> Image.Image:
    """Part of a photo, wider than high, different in each corner."""
    return Image.fromarray(data.cat()[40:240, 100:400]).resize((24, 16), Image.Resampling.LANCZOS)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int, big_endian: bool = False) -> bytes:
    """Exif data with a maker and an orientation, after the name that precedes them in a JPEG file."""
    order = ">" if big_endian else "<"
    header = (b"MM" if big_endian else b"II") + struct.pack(order + "HI", 42, 8)
    maker = struct.pack(order + "HHI4s", 0x010F, 2, 4, b"abc\0")
    entry = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, orientation, 0)
    return b"Exif\0\0" + header + struct.pack(order + "H", 2) + maker + entry + bytes(4)


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def jpegs(image: Image.Image) -> dict[str, bytes]:
    files = {
        "rgb.jpg": encoded(image, "JPEG", quality=90),
        "gray.jpg": encoded(image.convert("L"), "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "restarts.jpg": encoded(image, "JPEG", restart_marker_blocks=1),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
    }
    # The same numbers, said to be luminance, chrominance and black: the last byte of the Adobe segment.
    place = files["cmyk.jpg"].index(b"Adobe") + 11
    files["ycck.jpg"] = files["cmyk.jpg"][:place] + b"\2" + files["cmyk.jpg"][place + 1 :]
    for orientation in range(1, 9):
        files[f"orientation_{orientation}.jpg"] = encoded(image, "JPEG", exif=exif(orientation))
    files["orientation_big_endian.jpg"] = encoded(image, "JPEG", exif=exif(6, big_endian=True))
    plain = files["rgb.jpg"]
    others = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>") + segment(0xFE, b"a comment") + b"\xff\xff"
    files["orientation_in_fifth_segment.jpg"] = plain[:20] + others + segment(0xE1, exif(6)) + plain[20:]
    return files


def png(width: int, height: int, depth: int, colour: int, rows: bytes, **chunks: bytes) -> bytes:
    def chunk(name: bytes, payload: bytes) -> bytes:
        return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    more = b"".join(chunk(name.encode(), payload) for name, payload in chunks.items())
    pixels = chunk(b"IDAT", zlib.compress(rows, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + pixels + chunk(b"IEND", b"")


def pngs(image: Image.Image, transparent: Image.Image) -> dict[str, bytes]:
    gray, colour = np.asarray(image.convert("L")), np.asarray(image)
    deep = (gray.astype(">u2") * 257 + 3).clip(0, 65535).astype(">u2")
    height, width = gray.shape
    return {
        "rgb.png": encoded(image, "PNG"),
        "gray.png": encoded(image.convert("L"), "PNG"),
        "one_bit.png": encoded(image.convert("1"), "PNG"),
        "palette.png": encoded(image.quantize(16), "PNG"),
        "palette_alpha.png": encoded(transparent.quantize(16, Image.Quantize.FASTOCTREE), "PNG"),
        "rgba.png": encoded(transparent, "PNG"),
        "gray_alpha.png": encoded(transparent.convert("LA"), "PNG"),
        "gray_transparent.png": encoded(image.convert("L"), "PNG", transparency=int(gray[3, 4])),
        "rgb_transparent.png": encoded(image, "PNG", transparency=tuple(map(int, colour[3, 4]))),
        "gray_16.png": png(width, height, 16, 0, b"".join(b"\0" + row.tobytes() for row in deep)),
        "orientation.png": encoded(image, "PNG", exif=exif(6)[6:]),
        "really_a_png.jpg": encoded(image, "PNG"),
    }


def gifs(image: Image.Image) -> dict[str, bytes]:
    drawn = image.quantize(16)
    turned = [image.rotate(angle).quantize(16) for angle in (90, 180)]
    plain = encoded(drawn, "GIF", interlace=0, optimize=False)
    # The descriptor of the image follows header and colours: it is moved on a canvas of 30 by 20 pixels.
    canvas = plain[:6] + struct.pack("<HH", 30, 20) + plain[10:]
    place = plain.index(b"\x2c\0\0\0\0") + 1
    return {
        "plain.gif": plain,
        "interlaced.gif": encoded(drawn, "GIF", interlace=1),
        "transparent.gif": encoded(drawn, "GIF", transparency=drawn.getpixel((4, 3)), comment=b"a comment"),
        "animated.gif": encoded(drawn, "GIF", save_all=True, append_images=turned),
        "on_larger_canvas.gif": canvas[:place] + struct.pack("<HH", 5, 2) + canvas[place + 4 :],
    }


def bmp(pixels: np.ndarray, header: int = 40, height: int | None = None, compression: int = 0, fields=()) -> bytes:
    """An uncompressed file with the unchanged bytes of the pixels."""
    rows, columns, channels = pixels.shape
    information = struct.pack("<IiiHHI", header, columns, height or rows, 1, 8 * channels, compression)
    information += struct.pack("<IiiII", pixels.size, 0, 0, 0, 0) + b"".join(
        struct.pack("<I", field) for field in fields
    )
    information = information.ljust(header, b"\0")
    start = 14 + len(information)
    return b"BM" + struct.pack("<IHHI", start + pixels.size, 0, 0, start) + information + pixels.tobytes()


def bmps(image: Image.Image, transparent: Image.Image) -> dict[str, bytes]:
    blue_first = np.asarray(transparent)[..., [2, 1, 0, 3]]
    unused = blue_first.copy()
    unused[..., 3] = 0
    fields = (0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    return {
        "rgb.bmp": encoded(image, "BMP"),
        "gray.bmp": encoded(image.convert("L"), "BMP"),
        "palette.bmp": encoded(image.quantize(16), "BMP"),
        "top_down.bmp": bmp(blue_first[..., :3], height=-image.height),
        "fourth_byte_unused.bmp": bmp(unused[::-1]),
        "rgba.bmp": bmp(blue_first[::-1], header=108, compression=3, fields=fields),
    }


def webps(image: Image.Image, transparent: Image.Image) -> dict[str, bytes]:
    frames = {"save_all": True, "append_images": [image.rotate(90)]}
    animated = encoded(image, "WEBP", **frames)
    # The position of the first frame, in steps of two pixels, moved on a canvas of 30 by 20 pixels.
    place = animated.index(b"ANMF") + 8
    moved = animated[:24] + bytes([29, 0, 0, 19, 0, 0]) + animated[30:place] + bytes([2, 0, 0, 1, 0, 0])
    return {
        "lossy.webp": encoded(image, "WEBP"),
        "lossless.webp": encoded(image, "WEBP", lossless=True),
        "alpha.webp": encoded(transparent, "WEBP"),
        "lossless_alpha.webp": encoded(transparent, "WEBP", lossless=True, exact=True),
        "animated.webp": animated,
        "animated_alpha.webp": encoded(transparent, "WEBP", lossless=True, exact=True, **frames),
        "animated_on_larger_canvas.webp": moved + animated[place + 6 :],
        "orientation.webp": encoded(image, "WEBP", exif=exif(6)),
    }


def refused(image: Image.Image, whole: dict[str, bytes]) -> dict[str, bytes]:
    """Files that are no images, or that would take far more memory or time than their size."""
    size = struct.pack("<HH", BOMB, BOMB)
    progressive = whole["progressive.jpg"]
    frame, scan = progressive.index(b"\xff\xc2") + 5, progressive[progressive.rindex(b"\xff\xda") : -2]
    gif, webp = whole["plain.gif"], whole["animated.webp"]
    place = gif.index(b"\x2c\0\0\0\0") + 5
    examples = ("rgb.jpg", "rgb.png", "plain.gif", "rgb.bmp", "lossy.webp")
    truncated = {f"truncated{Path(name).suffix}": whole[name][: len(whole[name]) * 9 // 10] for name in examples}
    return truncated | {
        "empty.jpg": b"",
        "text.jpg": b"This is not an image.\n",
        "tiff.tif": encoded(image, "TIFF"),
        "header_alone.jpg": whole["rgb.jpg"][:40],
        "header_alone.gif": gif[: place - 5],
        "one_bit.bmp": encoded(image.convert("1"), "BMP"),
        "run_length.bmp": bmp(np.asarray(image.convert("L"))[..., None], compression=1),
        "bomb.png": png(BOMB, BOMB, 1, 0, bytes((1 + BOMB // 8) * BOMB)),
        "bomb.bmp": bmp(np.zeros((1, 1, 3), "uint8"), height=2**31 - 1),
        "bomb.gif": gif[:6] + size + gif[10:],
        "bomb_frame.gif": gif[:place] + size + gif[place + 4 :],
        "bomb.webp": webp[:24] + 2 * (BOMB - 1).to_bytes(3, "little") + webp[30:],
        "bomb_progressive.jpg": progressive[:frame] + size[::-1] + progressive[frame + 4 :],
        # Fewer pixels than the limit, but each further scan of twelve bytes visits all of them again.
        "bomb_of_scans.jpg": progressive[:frame]
        + struct.pack(">HH", 9000, 9000)
        + progressive[frame + 4 : -2]
        + 20 * scan,
    }


def write(folder: Path, files: dict[str, bytes]):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def main():
    Image.MAX_IMAGE_PIXELS = None
    image = photo()
    transparent = image.convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(image.size).rotate(90))
    whole = jpegs(image) | pngs(image, transparent) | gifs(image) | bmps(image, transparent) | webps(image, transparent)
    shutil.rmtree(TARGET, ignore_errors=True)
    write(TARGET, whole)
    write(TARGET / "refused", refused(image, whole))
    files = [path for path in TARGET.rglob("*") if path.is_file()]
    print(f"{len(files)} files, {sum(path.stat().st_size for path in files):,} bytes in {TARGET}")


if __name__ == "__main__":
    main()
