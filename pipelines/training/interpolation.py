"""Between the network before fine-tuning and the one after it: an average of their weights is often better than both.

Wortsman et al., 2022, Robust Fine-Tuning of Zero-Shot Models, arXiv:2109.01903 (WiSE-FT).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

COEFFICIENTS = (0.25, 0.5, 0.75, 1.0)
MARGIN = 0.01  # nats; a smaller gain is no reason to leave the network that was trained


def interpolate(start: Sequence[np.ndarray], end: Sequence[np.ndarray], coefficient: float) -> list[np.ndarray]:
    """(1 - coefficient) · start + coefficient · end, weight by weight.

    Args:
        start: The weights of a model before training, as `model.get_weights()` gives them.
        end: Those after it.
        coefficient: 0 to 1, the share of `end`.
    """
    if coefficient == 1:  # exactly these
        return list(end)
    return [(one + coefficient * (other - one)).astype(one.dtype) for one, other in zip(start, end, strict=True)]


def best_coefficient(losses: Sequence[float]) -> int:
    """The number of the coefficient to use: the last one, unless another has a loss that is lower by more than 0.01 nats.

    Args:
        losses: The loss at each of `COEFFICIENTS`.
    """
    lowest = int(np.argmin(losses))
    return lowest if losses[lowest] < losses[-1] - MARGIN else len(losses) - 1
