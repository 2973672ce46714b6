"""The form that every benchmark here has: alternate, take medians, print a table, and with --json one object.

`python benchmarks/<claim>.py [--quick] [--json]`. A ratio is the peer's median divided by ours: above 1, we are faster.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import workbench  # noqa: F401 - before torch: it says how OpenMP's idle threads wait

# isort: split
import torch

Row = dict[str, Any]


def arguments(description: str, *, trials: int | None = None) -> argparse.Namespace:
    """Return what was asked for on the command line: quick, json, and trials where the benchmark counts such."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions and a smaller case: does it run at all?"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    if trials is not None:
        parser.add_argument("--trials", type=int, default=trials, help=f"trials of each case ({trials})")
    return parser.parse_args()


def alternate(ours: Callable[[], float], peer: Callable[[], float], *, repetitions: int) -> tuple[float, float]:
    """Return the median seconds of ours and of the peer's, taken in turn, swapping who goes first; a warm-up each."""
    ours(), peer()
    taken: dict[Callable[[], float], list[float]] = {ours: [], peer: []}
    for repetition in range(repetitions):
        for measure in (ours, peer) if repetition % 2 == 0 else (peer, ours):
            taken[measure].append(measure())
    return statistics.median(taken[ours]), statistics.median(taken[peer])


def in_turn(sides: Mapping[str, Callable[[int], Any]], *, repetitions: int) -> dict[str, list[Any]]:
    """Return what each side gives, called with the number of each repetition; another one goes first each time."""
    names, given = list(sides), {name: [] for name in sides}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            given[name].append(sides[name](repetition))
    return given


def row(case: str, peer: str, seconds: tuple[float, float], *, repetitions: int, **fields: Any) -> Row:
    """Return one line of a result from the median seconds of ours and of the peer's."""
    ours, theirs = seconds
    timings = {"ours_seconds": ours, "peer_seconds": theirs}
    return {"case": case, "peer": peer, "ratio": theirs / ours, "repetitions": repetitions, **timings, **fields}


def count_row(case: str, peer: str, counts: tuple[int, int], *, of: int, **fields: Any) -> Row:
    """Return one line of a result from how many of so many trials went well for us and for the peer.

    The ratio is ours divided by the peer's, a count of 0 taken for 1: above 1, more of ours went well.
    """
    ours, theirs = counts
    ratio = max(ours, 1) / max(theirs, 1)
    return {
        "case": case,
        "peer": peer,
        "ratio": ratio,
        "repetitions": of,
        "of": of,
        "ours": ours,
        peer: theirs,
        **fields,
    }


def shown(rows: list[Row]) -> list[Row]:
    """Return the rows, told on standard error as soon as they are there: a long benchmark may be broken off."""
    for line in rows:
        print(json.dumps(line), file=sys.stderr, flush=True)
    return rows


def report(name: str, rows: list[Row], *, as_json: bool) -> None:
    """Print the table, and the object if asked for."""
    columns = list(dict.fromkeys(column for line in rows for column in line))
    lines = [[_cell(line.get(column, "")) for column in columns] for line in rows]
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    for line in (columns, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if as_json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
        print(json.dumps({"benchmark": name, "device": f"{device}, {torch.get_num_threads()} threads", "rows": rows}))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
