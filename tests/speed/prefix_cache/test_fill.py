"""Activations are computed in batches of similar length, which depend on the lengths of the examples alone."""

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
def test_batches_of_texts_have_almost_no_padding(lengths):
    batches = fill.fill_batches(Examples(lengths))
    order = [index for batch in batches for index in batch]
    assert order == sorted(range(len(lengths)), key=lambda index: (lengths[index], index))
    for batch in batches:
        real, padded = sum(lengths[index] for index in batch), len(batch) * lengths[batch[-1]]
        assert len(batch) <= fill.MAX_TEXTS
        assert padded <= fill.MAX_TOKENS or len(batch) == 1
        if real - lengths[batch[-1]] >= fill.FULL_TOKENS and len(batch) > 1:
            assert padded <= (1 + fill.MAX_PADDING) * real
    for one, other in itertools.pairwise(batches):  # no batch ends too early
        rows, length = len(one) + 1, lengths[other[0]]
        tokens = sum(lengths[index] for index in one)
        would_be_padded = tokens >= fill.FULL_TOKENS and rows * length > (1 + fill.MAX_PADDING) * (tokens + length)
        assert len(one) == fill.MAX_TEXTS or rows * length > fill.MAX_TOKENS or would_be_padded


def test_batches_of_images_have_a_fixed_size():
    sizes = [len(batch) for batch in fill.fill_batches(Examples([1] * 40, "pixel_values"))]
    assert sizes == [16, 16, 8]
