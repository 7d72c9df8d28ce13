"""The record that travels with a backbone from the first training image to the exported graph.

It describes pixels only: which size the network takes and how an image of another shape becomes that size. The range of
the values and their normalisation are inside the network, which takes RGB from 0 to 255.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from keras_cnn import arguments


@dataclass(frozen=True, init=False)  # `size` takes an integer and is always a pair
class Preprocessing:
    """How an image file becomes the input of a network.

    Args:
        size: Height and width in pixels, or one integer for a square. The attribute is always the pair.
        resize: What happens when the proportions differ. "squash": height and width are scaled independently;
            "fit": the whole image, padded with `background`; "cover": the centre, what is too long is cut off.
        background: 0 (black) to 255 (white), the colour under transparent pixels and of the padding of "fit".
        crop_fraction: Fraction of height and width, more than 0 and at most 1: the centre of the image that is used,
            before the resize. Networks trained on random crops know objects larger than whole images show them
            (Touvron et al., 2019, arXiv:1906.06423).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Preprocessing(224)
        Preprocessing(size=(224, 224), resize='squash', background=255, crop_fraction=1.0)
    """

    size: tuple[int, int]
    resize: str
    background: int
    crop_fraction: float

    def __init__(
        self,
        size: int | tuple[int, int],
        resize: Literal["squash", "fit", "cover"] = "squash",
        background: int = 255,
        crop_fraction: float = 1.0,
    ) -> None:
        owner = "Preprocessing"
        pair = arguments.pair(owner, "size", size)
        arguments.one_of(owner, "resize", resize, ("squash", "fit", "cover"))
        if arguments.integer(owner, "background", background, 0) > 255:
            raise ValueError(arguments.message(owner, "background", "at most 255", background))
        if isinstance(crop_fraction, bool) or not isinstance(crop_fraction, (int, float)) or not 0 < crop_fraction <= 1:
            raise ValueError(arguments.message(owner, "crop_fraction", "more than 0 and at most 1", crop_fraction))
        object.__setattr__(self, "size", pair)
        object.__setattr__(self, "resize", resize)
        object.__setattr__(self, "background", background)
        object.__setattr__(self, "crop_fraction", crop_fraction)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Preprocessing:
        """The record that `to_dict` wrote."""
        return cls(**record)

    def to_dict(self) -> dict[str, Any]:
        """The arguments as plain values, for JSON; `from_dict` reads them."""
        return {**asdict(self), "size": list(self.size)}
