import math
from dataclasses import replace

import pytest
import tiny
import torch
import transformers as tf
from datasets import Dataset
from transformers.tokenization_utils_base import VERY_LARGE_INTEGER

from workbench.models import Backbone, blocks
from workbench.plan.choices import Data
from workbench.tasks import TABLE, image_classification
from workbench.tasks.examples import IGNORED, longest_input


def encoded(kind, count=30, **choice):
    backbone = tiny.backbone(kind)
    return backbone, TABLE[backbone.task].encode(tiny.rows(kind, count), backbone, Data(**choice))


def test_a_sample_is_seeded_in_order_and_without_repeats():
    _, examples = encoded("bert")
    first, again, other = (examples.sample(10, seed=seed) for seed in (1, 1, 2))
    assert first.rows == again.rows != other.rows
    assert all(mine is its for mine, its in zip(first.items, again.items, strict=True))
    assert len({id(item) for item in first.items}) == 10
    assert examples.sample(99, seed=0) is examples


def test_sorted_batches_hold_every_example_once_shortest_first():
    _, examples = encoded("bert")
    batches = examples.sorted_batches(8)
    order = [index for batch in batches for index in batch]
    assert sorted(order) == list(range(30))
    lengths = [examples.lengths[index] for index in order]
    assert lengths == sorted(lengths)


def test_sorted_batches_keep_to_a_budget_of_tokens_or_hold_one_example():
    _, examples = encoded("bert")
    batches = examples.sorted_batches(8, tokens=20)
    assert sorted(index for batch in batches for index in batch) == list(range(30))
    sizes = [(len(batch), len(batch) * max(examples.lengths[index] for index in batch)) for batch in batches]
    assert all(rows <= 8 and (rows == 1 or tokens <= 20) for rows, tokens in sizes)
    assert max(rows for rows, _ in sizes) > 1
    assert all(len(batch) == 1 for batch in examples.sorted_batches(8, tokens=1))
    assert replace(examples, items=[], lengths=[], labels=[]).sorted_batches(8) == []


@pytest.mark.parametrize(("kind", "task"), [("bert", None), ("gpt2", "language-modeling"), ("vit", None)])
def test_targets_are_those_of_the_batch(kind, task):
    backbone = tiny.backbone(kind, task=task)
    examples = TABLE[backbone.task].encode(tiny.rows(kind, 9), backbone, Data(max_length=6, window_overlap=2))
    if kind == "bert":
        examples = replace(examples, labels=[IGNORED, *examples.labels[1:]])
    for indices in ([0], [0, 1, 2], [5, 3]):
        lacking = kind == "bert" and 0 in indices
        assert examples.targets(indices) == int((examples.batch(indices)["labels"] != IGNORED).sum()) - lacking


def test_an_outline_decodes_one_image_whatever_is_asked_for(monkeypatch):
    decoded, made = [], image_classification.pixels
    monkeypatch.setattr(image_classification, "pixels", lambda *given: decoded.append(1) or made(*given))
    _, examples = encoded("vit")
    for indices in ([3, 4], [5], list(range(30))):
        whole, outline = examples.batch(indices), examples.without_pixels(indices)
        assert outline["pixel_values"].shape == whole["pixel_values"].shape
        assert torch.equal(outline["labels"], whole["labels"])
    assert len(decoded) == 3 + 1


def test_texts_are_cut_at_the_limit_and_counted():
    _, examples = encoded("bert", max_length=4)
    assert max(examples.lengths) == 4
    assert "reach the limit of 4 tokens" in examples.notes[0]


def test_the_limit_is_no_more_than_the_model_has_positions_for():
    assert longest_input(tiny.backbone("bert"), 10_000) == 64


@pytest.mark.parametrize("longest", [VERY_LARGE_INTEGER, 1e30, None, -1, 0])
def test_a_tokenizer_without_a_longest_input_leaves_it_to_the_model(longest):
    backbone = tiny.backbone("bert")
    backbone.preprocessor.model_max_length = longest
    assert longest_input(backbone, 10_000) == 64
    assert type(longest_input(backbone, 10)) is int
    assert max(TABLE[backbone.task].encode(tiny.rows("bert"), backbone, Data(max_length=7)).lengths) == 7


def xlnet(longest=VERY_LARGE_INTEGER):
    """XLNet counts positions from one token to another, so its configuration says -1 for how many there are."""
    config = tf.XLNetConfig(vocab_size=24, d_model=16, n_layer=2, n_head=2, d_inner=32, num_labels=2, pad_token_id=0)
    model, tokenizer = tf.XLNetForSequenceClassification(config).eval(), tiny.tokenizer()
    tokenizer.model_max_length = longest
    return Backbone("xlnet", model, tokenizer, "text-classification", blocks.find(model))


def test_a_model_without_a_longest_input_leaves_it_to_the_tokenizer_and_the_plan():
    assert longest_input(xlnet(), 10_000) == 10_000
    assert longest_input(xlnet(longest=512), 10_000) == 512
    backbone = xlnet()
    examples = TABLE[backbone.task].encode(tiny.rows("bert"), backbone, Data(max_length=7))
    assert max(examples.lengths) == 7
    nats, targets = TABLE[backbone.task].nats(backbone.model, examples.batch(range(4)))
    assert nats.isfinite()
    assert targets == 4


def test_images_become_pixels_of_the_size_asked_for():
    for side, expected in ((None, 16), (24, 24)):
        _, examples = encoded("vit", 4, image_size=side)
        assert examples.batch([0, 1])["pixel_values"].shape == (2, 3, expected, expected)


def test_batches_carry_their_labels():
    _, examples = encoded("resnet", 6)
    assert torch.equal(examples.batch([1, 2, 3])["labels"], torch.tensor([1, 0, 1]))


@pytest.mark.parametrize("architecture", ["vit", "resnet", "convnext"])
def test_any_backbone_takes_another_image_size(architecture):
    shape = {"num_channels": 3}
    config, processor = {
        "vit": (tf.ViTConfig(**tiny.SIZES, image_size=16, patch_size=8, **shape), tf.ViTImageProcessor()),
        "resnet": (tf.ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]), tf.ConvNextImageProcessor()),
        "convnext": (tf.ConvNextConfig(hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1]), tf.ConvNextImageProcessor()),
    }[architecture]
    model = tf.AutoModelForImageClassification.from_config(config)
    backbone = Backbone("any", model, processor, "image-classification", blocks.find(model))
    examples = TABLE["image-classification"].encode(tiny.rows("vit", 4), backbone, Data(image_size=48))
    logits, targets = TABLE["image-classification"].score(model, examples.batch([0, 1]))
    assert (logits.shape, targets.tolist()) == ((2, 2), [0, 1])


def test_the_trivial_baseline_counts_targets_only():
    backbone, examples = encoded("bert", 5)
    marked = replace(examples, labels=[0, 0, 1, IGNORED, IGNORED])
    found = TABLE["text-classification"].baseline(marked, marked, backbone.model.config)
    shares = [3 / 5, 2 / 5]  # one row a class is added
    assert found["accuracy"] == 2 / 3
    assert found["loss"] == pytest.approx(-(2 * math.log(shares[0]) + math.log(shares[1])) / 3, abs=1e-12)


def test_a_text_without_a_token_is_left_out_of_a_classifier_and_said():
    backbone = tiny.backbone("gpt2", task="text-classification")
    backbone.preprocessor.backend_tokenizer.normalizer = None
    texts = Dataset.from_dict({"text": ["good film", "   ", "so dull"], "label": [1, 0, 0]})
    found = TABLE["text-classification"].encode(texts, backbone, Data())
    assert (found.notes, found.labels, found.row(1)) == (("1 of 3 texts left out: without any token",), [1, 0], 2)
