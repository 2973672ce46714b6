"""How far the random tests go: few cases that are always the same, or with `--deep SEED` many, drawn from that seed.

`make test-deep` takes a fresh seed, and pytest's header shows it; the same seed repeats a failure. The tests that are
marked `deep` run with that option only.
"""

import random

SEED: int | None = None  # None: the first tier; set by conftest.py before any test is imported


def cases(few: int, many: int) -> int:
    """Return how many cases to try: few in the first tier, many in the deep one."""
    return few if SEED is None else many


def draw() -> random.Random:
    """Return a generator for what a test draws itself."""
    return random.Random(SEED or 0)
