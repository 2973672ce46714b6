"""Series: a growing curve, and its downsampling to at most 600 points that keeps every spike."""

from array import array
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKETS = 300  # maximum number; each shows two points: its minimum and its maximum


class Series:
    """Points of a curve in the order of their steps.

    NaN and infinite values are not drawn. The size of a bucket is a power of two, and buckets begin at fixed indices.
    So a drawn point stays in place while the curve grows, until buckets are merged in pairs.
    """

    def __init__(self) -> None:
        self._steps = array("d")
        self._values = array("d")
        self.first_bad: int | None = None  # step of the first value that was NaN or infinite

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, value: float) -> None:
        """Append a point. It is ignored if its step is not after the last one, so a log may be shown twice."""
        if self._steps and step <= self._steps[-1]:
            return
        if value - value == 0.0:  # neither nan nor infinite
            self._steps.append(step)
            self._values.append(value)
        elif self.first_bad is None:
            self.first_bad = step

    def at(self, step: int) -> tuple[float, float] | None:
        """Return (step, value) of the last point at or before a step; None if there is none."""
        index = bisect_right(self._steps, step) - 1
        return (self._steps[index], self._values[index]) if index >= 0 else None

    def picture(self) -> dict[str, Any]:
        """Return the points to draw as little-endian float32 bytes: `x` and `y` (at most 600), and the bucket means."""
        steps, values = np.frombuffer(self._steps), np.frombuffer(self._values)  # (points,)
        size = _bucket_size(len(steps))
        starts = np.arange(0, len(steps), size)
        if size == 1:
            return {"x": _pack(steps), "y": _pack(values), "mean_x": _pack(steps), "mean_y": _pack(values), "bucket": 1}
        drawn = _extremes(values, starts, size)
        counts = np.diff(np.append(starts, len(steps)))
        return {
            "x": _pack(steps[drawn]),
            "y": _pack(values[drawn]),
            "mean_x": _pack(np.add.reduceat(steps, starts) / counts),
            "mean_y": _pack(np.add.reduceat(values, starts) / counts),
            "bucket": size,
        }


def _bucket_size(points: int) -> int:
    size = 1
    while points > BUCKETS * size:
        size *= 2
    return size


def _extremes(values: NDArray[np.float64], starts: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Return the indices of the minimum and the maximum of each bucket, in order."""
    whole = len(values) // size  # buckets that are full
    table = values[: whole * size].reshape(whole, size)
    extremes = [table.argmin(axis=1) + starts[:whole], table.argmax(axis=1) + starts[:whole]]
    indices = np.concatenate(extremes)
    if whole < len(starts):
        rest = values[whole * size :]
        indices = np.append(indices, [rest.argmin() + whole * size, rest.argmax() + whole * size])
    return np.unique(indices)


def _pack(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f4").tobytes()
