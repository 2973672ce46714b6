"""Rows that are computed to be kept go together with rows of like length, whatever else is computed."""

import itertools

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from workbench.speed.prefix_cache import fill


class Examples:
    def __init__(self, lengths, entry="input_ids"):
        self.lengths, self.entry = lengths, entry

    def __len__(self):
        return len(self.lengths)

    def padded(self, indices):
        return {self.entry: torch.zeros(len(indices), 1)}


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=400))
@example([7] * 300)
@example([*range(1, 200)] * 2)
def test_texts_fill_batches_with_next_to_no_padding(lengths):
    parts = fill.fill_batches(Examples(lengths))
    order = [index for part in parts for index in part]
    assert order == sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for part in parts:
        real, padded = sum(lengths[index] for index in part), len(part) * lengths[part[-1]]
        assert len(part) <= fill.MAX_TEXTS
        assert padded <= fill.MAX_TOKENS or len(part) == 1
        if real - lengths[part[-1]] >= fill.FULL_TOKENS and len(part) > 1:
            assert padded <= (1 + fill.MAX_PADDING) * real
    for one, other in itertools.pairwise(parts):  # none is cut without need
        rows, length = len(one) + 1, lengths[other[0]]
        tokens = sum(lengths[index] for index in one)
        is_loose = tokens >= fill.FULL_TOKENS and rows * length > (1 + fill.MAX_PADDING) * (tokens + length)
        assert len(one) == fill.MAX_TEXTS or rows * length > fill.MAX_TOKENS or is_loose


def test_images_go_together_in_equal_numbers():
    sizes = [len(part) for part in fill.fill_batches(Examples([1] * 40, "pixel_values"))]
    assert sizes == [16, 16, 8]
