"""Every loss and metric, against a count over single rows that shares no code with the product.

The count tokenizes, cuts and scores one row at a time: no batch, no padding, no Examples. Shapes: GPT-2, Llama, BERT
and ViT, with tied and untied output layers, as language models and as classifiers, with adapters, and with a tokenizer
that pads on the left.
"""

import math

import numpy as np
import pytest
import tiny
import torch
from datasets import Dataset
from PIL import Image
from rounding import same_loss
from torch.nn import functional as F

from workbench import models, packs
from workbench.plan.choices import Data
from workbench.plan.plan import Plan
from workbench.runs import build
from workbench.seeding import seeded
from workbench.tasks import TABLE, cross_entropy
from workbench.tasks.examples import IGNORED
from workbench.training import engine, evaluate, learner

pytestmark = pytest.mark.slow

LIMIT = 10  # tokens of a window
ROWS = 23  # in batches of 4, windows of 3: the last window of an epoch is short, and so is its last batch
CASES = {
    "BERT": ("bert", {}),
    "ViT": ("vit", {}),
    "GPT-2, tied": ("gpt2", {}),
    "GPT-2, padded left": ("gpt2", {"side": "left"}),
    "Llama, tied": ("llama", {}),
    "Llama, untied": ("llama", {"untied": True}),
    "GPT-2 classifier": ("gpt2", {"task": "text-classification"}),
    "Llama classifier, padded left": ("llama", {"task": "text-classification", "side": "left"}),
    "BERT with LoRA": ("bert", {"method": "lora"}),
    "ViT with LoRA": ("vit", {"method": "lora"}),
    "GPT-2 with LoRA": ("gpt2", {"method": "lora"}),
    "Llama classifier with LoRA": ("llama", {"task": "text-classification", "method": "lora"}),
    "Llama, windows overlap": ("llama", {"overlap": 4}),
}
PLAN = Plan().change(trainable="all", precision="fp32", clip_norm=None, epochs=1, weight_decay=0, lora_rank=2)
each_case = pytest.mark.parametrize("case", CASES)


def rows(kind, *, classes, count=ROWS, seed=0):
    """Rows of which some have nothing to learn from: no label, or a text of one word."""
    draw = np.random.default_rng(seed)
    if kind == "vit":
        contents = [Image.fromarray(draw.integers(0, 255, (16, 16, 3), dtype=np.uint8)) for _ in range(count)]
    else:
        contents = tiny.texts(count, longest=2 * LIMIT, seed=seed)
        contents[5] = "good"
    labels = [IGNORED if row % 9 == 7 else int(draw.integers(classes)) for row in range(count)]
    return Dataset.from_dict({"image" if kind == "vit" else "text": contents, "label": labels})


def made(case, **changes):
    """Return a learner of this case and the rows that it trains on and is measured on."""
    kind, options = CASES[case][0], dict(CASES[case][1])
    overlap, method, untied = options.pop("overlap", 1), options.pop("method", "weights"), options.pop("untied", False)
    backbone = tiny.backbone(kind, labels=3, **options)
    plan = PLAN.change(method=method, max_length=LIMIT, window_overlap=overlap, **changes)
    train, validation = rows(kind, classes=3), rows(kind, classes=3, seed=1)
    with seeded(1), torch.no_grad():
        if untied:
            head = backbone.model.lm_head
            head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
        encoded = [TABLE[backbone.task].encode(part, backbone, plan.data) for part in (train, validation)]
        built = build.make_learner(backbone, *encoded, plan.change(evaluation_rows=10**6))
        for name, parameter in built.model.named_parameters():  # far enough from zero to tell classes and words apart
            parameter.add_(0.3 * torch.randn_like(parameter)) if "norm" not in name.lower() else None
    return built, train, validation


def single(learner, row):
    """Yield (nats, predicted, true) of each target of one row, from the model's own logits for it alone."""
    model, preprocessor = learner.model.eval(), learner.backbone.preprocessor
    if learner.backbone.task == "language-modeling":
        yield from sliding(model, preprocessor(row["text"])["input_ids"], learner.plan.data.window_overlap)
    elif row["label"] != IGNORED:
        inputs = (
            preprocessor(images=[row["image"]], return_tensors="pt")
            if "image" in row
            else preprocessor(row["text"], truncation=True, max_length=LIMIT, return_tensors="pt")
        )
        yield from scored(model(**inputs).logits, torch.tensor([row["label"]]))


def sliding(model, tokens, overlap):
    """The sliding window as the field writes it: move on by a stride, score what has not been scored yet."""
    end_before = 1  # the first token has nothing before it
    for start in range(0, len(tokens), LIMIT - overlap):
        end = min(start + LIMIT, len(tokens))
        if end > end_before:
            logits = model(input_ids=torch.tensor([tokens[start:end]])).logits[0]
            yield from scored(logits[end_before - start - 1 : -1], torch.tensor(tokens[end_before:end]))
        end_before = max(end, end_before)


def scored(logits, truth):
    nats = F.cross_entropy(logits.double(), truth, reduction="none")
    return zip(nats, logits.argmax(-1).tolist(), truth.tolist(), strict=True)


def counted(learner, rows):
    return [target for row in rows for target in single(learner, row)]


def f1_by_hand(found):
    """Return macro and weighted F1 from true and false positives, counted."""
    macro, weighted, classes = 0.0, 0.0, {label for pair in found for label in pair}
    for label in classes:
        right = sum(p == r == label for p, r in found)
        wrong = sum((p == label) != (r == label) for p, r in found)
        score = 2 * right / (2 * right + wrong)
        macro += score / len(classes)
        weighted += score * sum(r == label for _, r in found) / len(found)
    return macro, weighted


@each_case
def test_validation_numbers_are_the_count_over_single_rows_whatever_the_batch_size(case):
    built, _, validation = made(case)
    with torch.no_grad():
        targets = counted(built, validation)
    loss = math.fsum(nats.item() for nats, _, _ in targets) / len(targets)
    pairs = [(predicted, true) for _, predicted, true in targets]
    for batch_size in (1, 5, 64):
        built.plan = built.plan.change(batch_size=batch_size)
        *_, ended = evaluate.evaluate(built)
        assert ended.targets == len(targets)
        assert ended.metrics["loss"] == same_loss(loss)
        if built.backbone.task == "language-modeling":
            assert math.log(ended.metrics["perplexity"]) == same_loss(loss)
        else:
            assert ended.metrics["accuracy"] == sum(p == r for p, r in pairs) / len(pairs)
            expected = pytest.approx(f1_by_hand(pairs), abs=1e-12)
            assert (ended.metrics["macro_f1"], ended.metrics["weighted_f1"]) == expected
            assert len({p for p, _ in pairs}) > 1  # or accuracy and F1 would show little


@each_case
@pytest.mark.parametrize(("batch_size", "accumulation_steps"), [(4, 3), (1, 8)])
def test_training_losses_add_up_to_the_count_over_single_rows(case, batch_size, accumulation_steps):
    """While the weights stand still, an epoch's steps, the short last one too, score each target once."""
    built, train, _ = made(case, batch_size=batch_size, accumulation_steps=accumulation_steps)
    built.optimizer.step = lambda: None
    with torch.no_grad():
        targets = counted(built, train)
    steps = [engine.take_step(built) for _ in range(built.steps)]
    assert sum(step.targets for step in steps) == len(targets)
    assert len(built.train) % (batch_size * accumulation_steps)  # the last window is partial
    assert len({step.loss for step in steps}) == len(steps) > 1
    found = math.fsum(step.loss * step.targets for step in steps) / len(targets)
    assert found == same_loss(math.fsum(nats.item() for nats, _, _ in targets) / len(targets))


@each_case
def test_a_step_over_an_epoch_has_the_gradient_of_the_mean_over_all_targets(case):
    built, train, _ = made(case, batch_size=4, accumulation_steps=99)
    targets = counted(built, train)
    loss = torch.stack([nats for nats, _, _ in targets]).mean()
    learning = [parameter for parameter in built.model.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(loss, learning, allow_unused=True)
    step = engine.take_step(built)
    assert step.loss == same_loss(loss.item())
    assert step.gradient_norm == pytest.approx(
        torch.nn.utils.get_total_norm([g for g in expected if g is not None]).item(), rel=1e-4
    )


@each_case
def test_adapters_and_output_layers_are_what_the_case_says(case):
    built, _, _ = made(case)
    names = [name for name, _ in built.model.named_parameters()]
    assert any("lora_B" in name and tensor.any() for name, tensor in built.model.state_dict().items()) == (
        "LoRA" in case
    )
    if built.backbone.task == "language-modeling":
        assert ("lm_head.weight" in names) == ("untied" in case)


@pytest.mark.parametrize("overlap", [1, 2, 5, 9])
def test_a_sliding_window_scores_each_token_once_in_its_own_context(overlap):
    """One long text: the same targets for every overlap, and the perplexity of the field's own loop."""
    backbone = tiny.backbone("llama")
    text = " ".join(tiny.texts(1, longest=150, seed=4))
    choice = Data(max_length=LIMIT, window_overlap=overlap)
    examples = TABLE["language-modeling"].encode(Dataset.from_dict({"text": [text]}), backbone, choice)
    tokens = backbone.preprocessor(text)["input_ids"]
    assert len(tokens) > 5 * LIMIT
    built = build.make_learner(backbone, examples, examples, PLAN.change(batch_size=3, evaluation_rows=1000))
    *_, ended = evaluate.evaluate(built)
    with torch.no_grad():
        nats = [nats.item() for nats, _, _ in sliding(built.model, tokens, overlap)]
    assert ended.targets == len(nats) == len(tokens) - 1
    assert math.log(ended.metrics["perplexity"]) == same_loss(math.fsum(nats) / len(nats))


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_rows_marked_as_having_no_label_are_left_out_and_said(kind):
    backbone = tiny.backbone(kind, labels=3)
    found = TABLE[backbone.task].encode(rows(kind, classes=3), backbone, Data())
    assert found.notes[0] == "2 of 23 rows left out: without a label (-100)"
    assert [found.row(index) for index in range(len(found))] == [row for row in range(ROWS) if row not in (7, 16)]
    whole = TABLE[backbone.task].encode(rows(kind, classes=3, count=7), backbone, Data())
    assert (whole.notes, len(whole)) == ((), 7)


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_a_label_that_is_no_target_costs_nothing_in_a_batch_either(kind):
    built = made("BERT" if kind == "bert" else "ViT")[0]
    batch = built.train.batch([0, 1, 2])
    built.model.eval()
    with torch.no_grad():
        expected = cross_entropy.summed(*learner.score(built, built.train.batch([0, 2]))).item()
        batch["labels"][1] = IGNORED
        logits, targets = learner.score(built, batch)
        assert (len(logits), len(targets)) == (2, 2)
        assert cross_entropy.summed(logits, targets).item() == same_loss(expected)
        batch["labels"][:] = IGNORED
        assert cross_entropy.summed(*learner.score(built, batch)).item() == 0


def test_the_loss_over_a_vocabulary_of_49_152_words_is_exact_too():
    """Counted by fp32 log-softmax, the loss of this very model comes out 1.5e-5 nats of 6.3 too low."""
    packs.get("smollm2-135m")
    backbone = models.load("smollm2-135m", task="language-modeling")
    texts = ["The quality of mercy is not strained; it droppeth as the gentle rain from heaven. " * 2, "We saw a film."]
    examples = TABLE["language-modeling"].encode(Dataset.from_dict({"text": texts}), backbone, Data(max_length=LIMIT))
    built = build.make_learner(backbone, examples, examples, PLAN.change(trainable="last 1"))
    built.model.eval()
    with torch.no_grad():
        tokens = [backbone.preprocessor(text)["input_ids"] for text in texts]
        nats = [nats.item() for ids in tokens for nats, _, _ in sliding(built.model, ids, 1)]
    for batch_size in (1, 8):
        built.plan = built.plan.change(batch_size=batch_size)
        *_, ended = evaluate.evaluate(built)
        assert ended.metrics["loss"] == same_loss(math.fsum(nats) / len(nats))
