"""Series: a curve that grows by a point at a time, and its picture in at most 600 points that keeps every spike."""

from array import array
from bisect import bisect_right
from typing import Any

import numpy as np
from numpy.typing import NDArray

BUCKETS = 300  # two points each: the lowest and the highest


class Series:
    """Points of a curve in the order of their steps.

    Points that are no number are counted, not drawn. Buckets hold a power of two of points and begin at fixed places,
    so that a point which was drawn once stays where it is while the curve grows, until buckets are merged in pairs.
    """

    def __init__(self) -> None:
        self._steps = array("d")
        self._values = array("d")
        self.first_bad: int | None = None  # the step of the first value that was no number

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, step: int, value: float) -> None:
        """Append a point; one at a step that was passed already is ignored, so a log may be shown twice."""
        if self._steps and step <= self._steps[-1]:
            return
        if value - value == 0.0:  # neither nan nor infinite
            self._steps.append(step)
            self._values.append(value)
        elif self.first_bad is None:
            self.first_bad = step

    def at(self, step: int) -> tuple[float, float] | None:
        """Return (step, value) of the last point at or before a step, if there is one."""
        place = bisect_right(self._steps, step) - 1
        return (self._steps[place], self._values[place]) if place >= 0 else None

    def picture(self) -> dict[str, Any]:
        """Return the points to draw as little-endian float32 bytes: `x`, `y` (≤ 600), and the mean of each bucket."""
        steps, values = np.frombuffer(self._steps), np.frombuffer(self._values)  # (points,)
        size = _bucket_size(len(steps))
        starts = np.arange(0, len(steps), size)
        if size == 1:
            return {"x": _pack(steps), "y": _pack(values), "mean_x": _pack(steps), "mean_y": _pack(values), "bucket": 1}
        kept = _extremes(values, starts, size)
        counts = np.diff(np.append(starts, len(steps)))
        return {
            "x": _pack(steps[kept]),
            "y": _pack(values[kept]),
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
    """Return the places of the lowest and the highest value of each bucket, in order."""
    whole = len(values) // size  # buckets that are full
    table = values[: whole * size].reshape(whole, size)
    ends = [table.argmin(axis=1) + starts[:whole], table.argmax(axis=1) + starts[:whole]]
    places = np.concatenate(ends)
    if whole < len(starts):
        rest = values[whole * size :]
        places = np.append(places, [rest.argmin() + whole * size, rest.argmax() + whole * size])
    return np.unique(places)


def _pack(values: NDArray[np.float64]) -> bytes:
    return values.astype("<f4").tobytes()
