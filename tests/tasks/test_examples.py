import tiny
import torch

from workbench.choices import Data
from workbench.tasks import TABLE
from workbench.tasks.examples import longest_input


def encoded(kind, count=30, **choice):
    backbone = tiny.backbone(kind)
    return backbone, TABLE[backbone.task].encode(tiny.rows(kind, count), backbone, Data(**choice))


def test_a_sample_is_seeded_in_order_and_without_repeats():
    _, examples = encoded("bert")
    first, again, other = (examples.sample(10, seed=seed) for seed in (1, 1, 2))
    assert first.items == again.items != other.items
    assert len({id(item) for item in first.items}) == 10
    assert examples.sample(99, seed=0) is examples


def test_sorted_batches_hold_every_example_once_longest_first():
    _, examples = encoded("bert")
    batches = examples.sorted_batches(8)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(30))
    lengths = [examples.lengths[index] for index in order]
    assert lengths == sorted(lengths, reverse=True)


def test_texts_are_cut_at_the_limit_and_counted():
    _, examples = encoded("bert", max_length=4)
    assert max(examples.lengths) == 4
    assert "reach the limit of 4 tokens" in examples.notes[0]


def test_the_limit_is_no_more_than_the_model_has_positions_for():
    assert longest_input(tiny.backbone("bert"), 10_000) == 64


def test_images_become_pixels_of_the_size_asked_for():
    for side, expected in ((None, 16), (24, 24)):
        _, examples = encoded("vit", 4, image_size=side)
        assert examples.batch([0, 1])["pixel_values"].shape == (2, 3, expected, expected)


def test_batches_carry_their_labels():
    _, examples = encoded("resnet", 6)
    assert torch.equal(examples.batch([1, 2, 3])["labels"], torch.tensor([1, 0, 1]))
