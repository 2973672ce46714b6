"""What all benchmarks share: options, alternating measurements, medians, a table, and with --json one JSON object.

`python benchmarks/<claim>.py [--quick] [--json]`. A ratio is the peer's median divided by ours: above 1, we are faster.
"""

import argparse
import json
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

import workbench  # noqa: F401 - before torch, because it sets how idle OpenMP threads wait

# isort: split
import torch

Row = dict[str, Any]


def arguments(description: str, *, trials: int | None = None) -> argparse.Namespace:
    """Return the options of the command line: quick, json, and trials for benchmarks that count trials."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument(
        "--quick", action="store_true", help="fewer repetitions and smaller cases, to check that it works"
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    if trials is not None:
        parser.add_argument("--trials", type=int, default=trials, help=f"trials of each case ({trials})")
    return parser.parse_args()


def alternate(ours: Callable[[], float], peer: Callable[[], float], *, repetitions: int) -> tuple[float, float]:
    """Return the median seconds of ours and of the peer, measured alternately after one warm-up run each.

    The order of the two is swapped in every repetition.
    """
    ours(), peer()
    taken: dict[Callable[[], float], list[float]] = {ours: [], peer: []}
    for repetition in range(repetitions):
        for measure in (ours, peer) if repetition % 2 == 0 else (peer, ours):
            taken[measure].append(measure())
    return statistics.median(taken[ours]), statistics.median(taken[peer])


def in_turn(sides: Mapping[str, Callable[[int], Any]], *, repetitions: int) -> dict[str, list[Any]]:
    """Call each side once per repetition, with the number of the repetition, and return all results.

    In every repetition another side goes first.
    """
    names, results = list(sides), {name: [] for name in sides}
    for repetition in range(repetitions):
        first = repetition % len(names)
        for name in names[first:] + names[:first]:
            results[name].append(sides[name](repetition))
    return results


def row(case: str, peer: str, seconds: tuple[float, float], *, repetitions: int, **fields: Any) -> Row:
    """Return a row made from the median seconds of ours and of the peer."""
    ours, theirs = seconds
    timings = {"ours_seconds": ours, "peer_seconds": theirs}
    return {"case": case, "peer": peer, "ratio": theirs / ours, "repetitions": repetitions, **timings, **fields}


def count_row(case: str, peer: str, counts: tuple[int, int], *, of: int, **fields: Any) -> Row:
    """Return a row made from the number of successful trials, out of `of`, of ours and of the peer.

    The ratio is our count divided by the peer's, where 0 counts as 1: above 1, more of our trials succeeded.
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
    """Print the rows to stderr and return them, so that they are not lost if a long benchmark is interrupted."""
    for each in rows:
        print(json.dumps(each), file=sys.stderr, flush=True)
    return rows


def report(name: str, rows: list[Row], *, as_json: bool) -> None:
    """Print the table, and with `as_json` the JSON object as the last line."""
    columns = list(dict.fromkeys(column for each in rows for column in each))
    lines = [[_cell(each.get(column, "")) for column in columns] for each in rows]
    widths = [max(map(len, column)) for column in zip(columns, *lines, strict=True)]
    for line in (columns, *lines):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))
    if as_json:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "cpu"
        print(json.dumps({"benchmark": name, "device": f"{device}, {torch.get_num_threads()} threads", "rows": rows}))


def _cell(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
