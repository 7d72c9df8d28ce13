"""The minimum of a convex function of many numbers: limited-memory BFGS in NumPy, in the precision of the start.

SciPy's, which serves bounds too and works in double precision, takes 0.8 to 1.6 times as long to the same loss for a head with
100,000 weights (`benchmarks/head.py`).
"""

from __future__ import annotations

from collections import deque

import numpy as np

MEMORY = 10  # pairs of a step and the change of the gradient along it
SUFFICIENT = 1e-4  # of the decrease that the slope promises: Armijo's condition


def minimise(function, start: np.ndarray, tolerance: float, iterations: int = 200) -> np.ndarray:
    """Where a convex function is smallest.

    The direction is the two-loop recursion's, the step one at first and halved until it decreases the function enough
    (Nocedal and Wright, 2006, Numerical Optimization, algorithms 7.4, 7.5 and 3.1).

    Args:
        function: Of a vector like `start`; gives a number and the gradient, a new vector.
        start: A vector of float32 or float64.
        tolerance: It ends when an iteration, but the first, decreases the function by no more than this share of it, or of 1
            if it is smaller; and where the precision of the numbers allows no further decrease.
        iterations: It ends after so many at the latest.

    Returns:
        The last point: the start, where nothing near it is lower.
    """
    pairs: deque = deque(maxlen=MEMORY)
    point, (value, gradient) = start, function(start)
    for iteration in range(iterations):
        found = _along(function, point, value, gradient, _direction(gradient, pairs))
        if found is None:
            break
        other, lower, changed = found
        step, change, decrease = other - point, changed - gradient, value - lower
        point, value, gradient = found
        # The first step has no scale yet: that it gains little says nothing.
        if step @ change <= 0 or (iteration and decrease <= tolerance * max(abs(value), 1)):
            break
        pairs.append((step, change, step @ change))
    return point


def _direction(gradient, pairs):
    """Minus the gradient times the inverse Hessian that the pairs tell of."""
    direction, shares = -gradient, []
    for step, change, curvature in reversed(pairs):
        shares.append(step @ direction / curvature)
        direction -= shares[-1] * change
    if not pairs:
        return direction / max(1, np.linalg.norm(direction))
    _, change, curvature = pairs[-1]
    direction *= curvature / (change @ change)
    for step, change, curvature in pairs:
        direction += (shares.pop() - change @ direction / curvature) * step
    return direction


def _along(function, point, value, gradient, direction):
    """The point on a way where the function has decreased enough, its value and gradient there; None if there is none."""
    slope, share = gradient @ direction, 1.0
    while share > np.finfo(point.dtype).eps:
        other = point + point.dtype.type(share) * direction
        lower, changed = function(other)
        if lower <= value + SUFFICIENT * share * slope:
            return other, lower, changed
        share /= 2
    return None
