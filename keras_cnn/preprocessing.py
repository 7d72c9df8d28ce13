"""The record that travels with a backbone from the first training image to the exported graph.

It speaks of pixels only: which size the network sees and how a picture of another shape becomes that size. The range of
the numbers and their normalisation are inside the network, which takes RGB from 0 to 255.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from keras_cnn import arguments


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes the input of a network.

    Args:
        size: Height and width in pixels, an integer for a square.
        resize: What happens when the proportions differ. "squash": height and width are scaled each on its own;
            "fit": the whole picture, with `background` beside it; "cover": the centre, with the overhang cut off.
        background: 0 (black) to 255 (white), put behind transparent pixels and beside a picture that is fitted.
        crop: Share of height and width, more than 0 and at most 1: the middle of the picture that is kept, before the
            resize. Networks that learned from random crops know things larger than whole pictures show them (Touvron et
            al., 2019, arXiv:1906.06423).

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Preprocessing(224)
        Preprocessing(size=(224, 224), resize='squash', background=255, crop=1.0)
    """

    size: tuple[int, int]
    resize: str = "squash"
    background: int = 255
    crop: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "size", arguments.per_axis("Preprocessing", "size", self.size, 2))
        arguments.one_of("Preprocessing", "resize", self.resize, ("squash", "fit", "cover"))
        arguments.integer("Preprocessing", "background", self.background, 0)
        if self.background > 255:
            raise ValueError(arguments.message("Preprocessing", "background", "at most 255", self.background))
        if isinstance(self.crop, bool) or not isinstance(self.crop, (int, float)) or not 0 < self.crop <= 1:
            raise ValueError(arguments.message("Preprocessing", "crop", "more than 0 and at most 1", self.crop))

    def to_dict(self) -> dict:
        """The arguments as plain values, for JSON; `Preprocessing(**record)` gives the same record again."""
        return {**asdict(self), "size": list(self.size)}
