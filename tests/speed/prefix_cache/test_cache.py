"""The activations of frozen blocks are computed once, and every number of a run is the same with and without it."""

import dataclasses
import functools
import weakref

import pytest
import tiny
import torch
import transformers as tf
from rounding import same_loss
from torch.nn import functional as F
from torch.nn.modules.module import register_module_forward_hook

from workbench.events import CacheProgressed, CacheReady, CacheRefused, EvaluationEnded, RunStarted, StepEnded
from workbench.models import Backbone, blocks
from workbench.plan.choices import Data
from workbench.plan.plan import Plan
from workbench.runs.build import make_learner
from workbench.seeding import seeded
from workbench.speed.prefix_cache import budget, fill, find_cut, store
from workbench.speed.prefix_cache.rows import CachedSplits
from workbench.tasks import TABLE
from workbench.tasks.examples import IGNORED, Examples
from workbench.training import engine
from workbench.training.adjust import Change, adjust
from workbench.training.settings import Settings

PLAN = Plan().change(
    trainable="last 1", batch_size=6, epochs=3, precision="fp32", dropout=0.1, learning_rate=3e-3, evaluate_every=5,
    max_length=10, lora_rank=2,
)  # fmt: skip


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path / "activations"))
    store._MEMORY.clear()


def make(kind, plan=PLAN, *, task=None, examples=None, model=None):
    backbone = tiny.backbone(kind, task=task, dropout=0.1)
    if model is not None:
        backbone = Backbone(kind, model, backbone.preprocessor, "text-classification", blocks.find(model))
    train, validation = examples or [
        TABLE[backbone.task].encode(tiny.rows(kind, count), backbone, plan.data) for count in (40, 14)
    ]
    return make_learner(backbone, train, validation, plan, settings=Settings().overridden_by(plan.tuning))


def prepared(learner):
    """Yield the events of preparing the shortcuts of a learner."""
    for shortcut in learner.shortcuts:
        yield from shortcut.prepare(learner, ("validation", "train"))


def events_of(learner):
    return list(engine.train(learner))


def numbers(events):
    losses = [event.loss for event in events if isinstance(event, StepEnded)]
    measured = [event.metrics["loss"] for event in events if isinstance(event, EvaluationEnded)]
    return torch.tensor([*losses, *measured], dtype=torch.float64)


def ready(events):
    return [event for event in events if isinstance(event, CacheReady)]


CASES = {
    "BERT": ("bert", {}),
    "BERT, head": ("bert", {"trainable": "head"}),
    "BERT with LoRA": ("bert", {"method": "lora"}),
    "BERT, shuffled": ("bert", {"batching": "shuffled", "accumulation_steps": 2}),
    "BERT, budget of tokens": ("bert", {"batch_tokens": 40}),
    "GPT-2": ("gpt2", {}),
    "GPT-2, padded": ("gpt2", {"packing": "off"}),
    "GPT-2, head": ("gpt2", {"trainable": "head"}),
    "GPT-2 classifier": ("gpt2", {"task": "text-classification", "trainable": "head"}),
    "Llama with LoRA": ("llama", {"method": "lora"}),
    "Llama, tied head": ("llama", {"trainable": "head"}),
    "ViT": ("vit", {}),
    "ViT, head": ("vit", {"trainable": "head"}),
    "ResNet": ("resnet", {}),
    "ResNet, head": ("resnet", {"trainable": "head"}),
}
QUICK = ("BERT", "Llama with LoRA", "ResNet")


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES]
)
def test_a_run_has_the_same_numbers_with_and_without_the_cache(case):
    kind, options = CASES[case][0], dict(CASES[case][1])
    task = options.pop("task", None)
    plan = PLAN.change(**options)
    cached = events_of(made := make(kind, plan, task=task))
    plain = events_of(other := make(kind, plan.change(prefix_cache="off"), task=task))
    assert [event.split for event in ready(cached)] == ["validation", "train"]
    assert not ready(plain)
    assert torch.allclose(numbers(cached), numbers(plain), rtol=1e-5, atol=0)
    for (name, one), two in zip(made.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.allclose(one, two, atol=2e-4), name


@pytest.mark.slow
@pytest.mark.parametrize("case", ["BERT", "BERT with LoRA", "GPT-2, padded", "Llama, tied head", "ViT, head", "ResNet"])
def test_a_run_in_bf16_has_the_same_numbers_up_to_rounding(case):
    kind, options = CASES[case]
    plan = PLAN.change(**options, precision="bf16", learning_rate=1e-4)
    cached, plain = (events_of(make(kind, plan.change(prefix_cache=cache))) for cache in ("auto", "off"))
    assert len(ready(cached)) == 2
    assert torch.allclose(numbers(cached), numbers(plain), rtol=0.02, atol=0)


@pytest.mark.slow
def test_the_frozen_blocks_run_once_per_row_for_any_number_of_epochs():
    made, rows = make("bert", PLAN.change(epochs=20, evaluate_every=3)), []
    attention = made.model.bert.encoder.layer[0].attention
    attention.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    events = events_of(made)
    checks = 20  # batches that run to find the cut and to compare the cached rows
    assert 54 <= sum(rows) <= 54 + 4 * checks
    assert len([event for event in events if isinstance(event, StepEnded)]) == 140


def test_runs_share_cached_activations_and_a_new_cache_has_the_same_bits():
    first, second = events_of(make("bert")), events_of(make("bert", PLAN.change(learning_rate=0.01, seed=3)))
    assert [event.reused for event in ready(first)] == [False, False]
    assert [event.reused for event in ready(second)] == [True, True]
    store.clear()
    again = events_of(make("bert"))
    assert [event.reused for event in ready(again)] == [False, False]
    assert torch.equal(numbers(first), numbers(again))


def test_another_process_finds_the_activations_on_disk():
    first = events_of(make("bert"))
    store._MEMORY.clear()  # as in another process
    second = events_of(make("bert"))
    assert [event.reused for event in ready(second)] == [True, True]
    assert torch.equal(numbers(first), numbers(second))


@pytest.mark.slow
@pytest.mark.parametrize("change", ["weight", "token", "precision", "limit", "boundary"])
def test_activations_are_not_reused_if_anything_below_the_cut_differs(change):
    events_of(make("bert"))
    plan, examples = PLAN, None
    made = make("bert", PLAN)
    if change == "weight":
        with torch.no_grad():
            made.model.bert.embeddings.LayerNorm.bias[3] += 1e-6
        made = make_learner(made.backbone, made.train, made.validation, PLAN)
    elif change == "token":
        items = [(ids.clone(), label) for ids, label in made.train.items]
        items[7][0][0] += 1
        made = make("bert", plan, examples=(dataclasses.replace(made.train, items=items), made.validation))
    else:
        plan = PLAN.change(
            **{"precision": {"precision": "bf16"}, "limit": {"max_length": 6}, "boundary": {"trainable": "head"}}[
                change
            ]
        )
        made = make("bert", plan, examples=examples)
    found = ready(events_of(made))
    assert found[-1].reused is False


class Scaled(tf.BertForSequenceClassification):
    """Multiplies the output of the embeddings."""

    factor = 1.0

    def __init__(self, config):
        super().__init__(config)
        self.bert.embeddings.register_forward_hook(lambda module, args, out: out * self.factor)
        self.bert.embeddings.factor = self.factor


def test_activations_are_not_reused_if_an_attribute_of_a_frozen_module_differs():
    def scaled(factor):
        with seeded(0):
            model = type("Scaled", (Scaled,), {"factor": factor, "__module__": __name__})(
                tiny.backbone("bert").model.config
            )
        return make("bert", PLAN, model=model)

    assert [event.reused for event in ready(events_of(scaled(1.0)))] == [False, False]
    assert [event.reused for event in ready(events_of(scaled(1.0)))] == [True, True]
    assert [event.reused for event in ready(events_of(scaled(2.0)))] == [False, False]


TYPED = """
class Layer(tf.models.bert.modeling_bert.BertLayer):
    def forward(self, x, *args, **kwargs):
        return super().forward({given}, *args, **kwargs)

class Mine(tf.BertForSequenceClassification):
    def __init__(self, config):
        super().__init__(config)
        for layer in self.bert.encoder.layer:
            layer.__class__ = Layer
"""


def test_activations_are_not_reused_if_a_forward_in_a_notebook_cell_differs():
    def events(given):
        cell = {"tf": tf, "__name__": "__main__"}
        exec(TYPED.format(given=given), cell)
        with seeded(0):
            model = cell["Mine"](tiny.backbone("bert").model.config)
        return ready(events_of(make("bert", PLAN, model=model)))

    reused = [[event.reused for event in events(given)] for given in ("x", "x", "2 * x")]
    assert reused == [[False, False], [True, True], [False, False]]


def test_activations_are_not_reused_with_a_hook_or_a_forward_of_the_user():
    events_of(make("bert"))
    made = make("bert")
    made.model.bert.embeddings.register_forward_hook(lambda module, args, out: 2 * out)
    assert [event.reused for event in ready(events_of(made))] == [False, False]
    made = make("bert")
    embeddings = made.model.bert.embeddings
    embeddings.forward = functools.partial(doubled, embeddings.forward)
    assert [event.reused for event in ready(events_of(made))] == [False, False]


def doubled(forward, *args, **kwargs):
    return 2 * forward(*args, **kwargs)


def test_activations_are_not_reused_if_the_format_of_the_rows_differs():
    """Whether rows are cached position by position depends on the lengths in the other split too."""
    made = make("gpt2", task="text-classification")
    alike = made.train.sample(20, seed=0)
    alike = dataclasses.replace(
        alike, items=[(torch.arange(3, 8) + number % 9, number % 2) for number in range(20)], lengths=[5] * 20
    )
    longer = dataclasses.replace(alike, items=[*alike.items[:-1], (torch.arange(3, 10), 1)], lengths=[5] * 19 + [7])
    plan = PLAN.change(trainable="last 1")
    of_one, of_more = (
        ready(events_of(make("gpt2", plan, task="text-classification", examples=(alike, validation))))
        for validation in (dataclasses.replace(alike), longer)
    )
    assert len(of_one) == len(of_more) == 2


@pytest.mark.parametrize(("lacking", "places"), [(1, ["memory", "disk"]), (0, ["memory", "memory"])])
def test_the_budget_holds_for_both_splits_together(lacking, places, monkeypatch):
    sizes = [64 * sum(examples.lengths) for made in (make("bert"),) for examples in (made.validation, made.train)]
    monkeypatch.setattr(budget, "budget", lambda asked: sum(sizes) - lacking)
    for _ in range(2):  # computed, and then found
        events = ready(events_of(make("bert")))
        assert [event.size_bytes for event in events] == sizes
        assert [event.place for event in events] == places


def test_a_smaller_budget_than_before_is_observed():
    events_of(make("bert"))
    events = ready(events_of(make("bert", PLAN.change(cache_memory_mb=0))))
    assert [(event.place, event.reused) for event in events] == [("disk", True)] * 2


def test_a_file_that_cant_be_read_is_not_reported_as_a_full_disk():
    made = make("vit")

    def broken(items):
        if len(items) > 3:
            raise OSError("cannot identify image file")
        return made.train.collate(items)

    train = dataclasses.replace(made.train, collate=broken, outline=None)
    events = prepared(make("vit", examples=(train, made.validation)))
    (why,) = [event.what for event in events if isinstance(event, CacheRefused)]
    assert why == "caching failed with OSError: cannot identify image file"


def test_activations_mapped_from_disk_have_the_same_bits():
    in_memory = events_of(make("bert"))
    store.clear()
    on_disk = events_of(make("bert", PLAN.change(cache_memory_mb=0)))
    assert [event.place for event in ready(in_memory)] == ["memory"] * 2
    assert [(event.place, event.budget_bytes) for event in ready(on_disk)] == [("disk", 0)] * 2
    assert torch.equal(numbers(in_memory), numbers(on_disk))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "llama", "vit", "resnet"])
def test_activations_computed_from_a_lower_cut_have_the_same_bits(kind):
    events_of(make(kind, PLAN.change(trainable="last 1")))
    moved = ready(events_of(made := make(kind, PLAN.change(trainable="head"))))
    advanced = values(made)
    assert [event.advanced_from for event in moved] == ["block 2"] * 2
    store.clear()
    events_of(made := make(kind, PLAN.change(trainable="head")))
    for one, other in zip(advanced, values(made), strict=True):
        assert torch.equal(one, other), "a new cache has other bits"


def test_moving_the_cut_up_by_a_block_runs_only_that_block_and_once_per_row(monkeypatch):
    events_of(make("bert", PLAN.change(trainable="last 1")))
    made, rows = make("bert", PLAN.change(trainable="head")), {0: 0, 1: 0}
    run, is_filling = fill.Fill.run, []

    def counted(self, writer):
        is_filling.append(True)
        kept = yield from run(self, writer)
        is_filling.clear()
        return kept

    monkeypatch.setattr(fill.Fill, "run", counted)
    numbers_of = {made.model.bert.encoder.layer[number].attention: number for number in rows}

    def count(module, args, out):
        if is_filling and module in numbers_of:
            rows[numbers_of[module]] += len(args[0])

    hook = register_module_forward_hook(count)  # not on the model: its own hooks are part of the key
    try:
        assert all(event.advanced_from for event in prepared(made) if isinstance(event, CacheReady))
    finally:
        hook.remove()
    assert rows == {0: 0, 1: 54}  # training and validation examples


def values(learner):
    return [learner.shortcuts[-1].cached.of(examples).stored.values for examples in (learner.train, learner.validation)]


def test_the_cut_moves_during_a_run_and_trained_blocks_are_cached_with_their_new_weights():
    made = make("bert", PLAN.change(trainable="all", epochs=4))
    steps = {4: "last 1", 9: "head", 14: "last 2", 19: "last 1"}

    def changes(step):
        return [Change({"trainable": steps[step]})] if step in steps else []

    cached = list(engine.train(made, changes=changes))
    store.clear()
    plain = list(
        engine.train(make("bert", PLAN.change(trainable="all", epochs=4, prefix_cache="off")), changes=changes)
    )
    assert torch.allclose(numbers(cached), numbers(plain), rtol=2e-5, atol=0)
    found = [(event.boundary, event.advanced_from) for event in ready(cached) if event.split == "train"]
    assert found == [("block 2", ""), ("head", "block 2"), ("block 2", "")]


def test_less_than_an_epoch_caches_only_the_validation_split():
    events = events_of(make("bert", PLAN.change(max_steps=3)))
    assert [event.split for event in ready(events)] == ["validation"]


def test_progress_is_reported_with_the_time_left(monkeypatch):
    monkeypatch.setattr(fill, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(fill, "MAX_TEXTS", 8)
    events = [event for event in events_of(make("bert")) if isinstance(event, CacheProgressed)]
    assert [event.rows_done for event in events if event.split == "train"] == [8, 16, 24, 32, 40]
    assert all(event.seconds_left >= 0 for event in events)
    assert events[-1].seconds_left == 0


def test_a_loss_is_reported_while_the_validation_split_is_computed(monkeypatch):
    monkeypatch.setattr(fill, "REPORT_SECONDS", 0.0)
    events = events_of(make("bert"))
    first = next(event for event in events if isinstance(event, EvaluationEnded))
    (progress,) = [event for event in events if isinstance(event, CacheProgressed) and event.split == "validation"]
    assert events.index(progress) < events.index(first)
    assert progress.loss == same_loss(first.metrics["loss"])


@pytest.mark.parametrize("how", ["full", "not writable"])
def test_activations_are_held_in_memory_if_the_disk_has_no_room(how, monkeypatch, tmp_path):
    whole = events_of(make("bert"))
    store.clear()
    if how == "full":
        monkeypatch.setattr(budget, "SPARE", 10**18)
    else:
        (tmp_path / "file").write_text("in the way")
        monkeypatch.setenv("FINETUNE_WORKBENCH_ACTIVATIONS", str(tmp_path / "file"))
    for _ in range(2):
        events = events_of(make("bert"))
        assert [(event.place, event.reused) for event in ready(events)] == [("memory", False)] * 2
        assert torch.equal(numbers(events), numbers(whole))


def test_training_examples_of_one_length_and_validation_examples_of_others():
    made = make("bert")
    items = [(ids[:5], label) for ids, label in made.train.items if len(ids) >= 5]
    train = dataclasses.replace(made.train, items=items, lengths=[5] * len(items), labels=[label for _, label in items])
    cached = events_of(make("bert", examples=(train, made.validation)))
    plain = events_of(make("bert", PLAN.change(prefix_cache="off"), examples=(train, made.validation)))
    assert len(ready(cached)) == 2
    assert torch.allclose(numbers(cached), numbers(plain), rtol=1e-5, atol=0)


def test_cached_rows_hold_their_examples_so_that_no_other_object_gets_their_id():
    made = make("bert")
    list(prepared(made))
    examples = weakref.ref(made.validation)
    made.validation = dataclasses.replace(made.validation)
    assert made.shortcuts[-1].batch(made, made.validation, [0]) is None
    assert made.shortcuts[-1].cached.of(examples()) is not None


def test_an_interrupted_fill_can_be_repeated():
    made = make("bert")
    events = prepared(made)
    with pytest.raises(KeyboardInterrupt):
        next(events), events.throw(KeyboardInterrupt)
    assert len(ready(list(prepared(made)))) == 2


class TestRefused:
    def why(self, made):
        events = events_of(made)
        assert not ready(events)
        assert made.shortcuts[-1].cached is None
        return [event.what for event in events if isinstance(event, CacheRefused)]

    def test_silently_if_nothing_is_frozen_or_the_plan_says_off(self):
        assert self.why(make("bert", PLAN.change(trainable="all"))) == []
        assert self.why(make("bert", PLAN.change(prefix_cache="off"))) == []

    def test_if_only_the_embeddings_are_frozen(self):
        assert self.why(make("bert", PLAN.change(trainable="last 2"))) == [
            "the only frozen block, embeddings, takes almost no time to compute"
        ]

    def test_if_the_inputs_are_random(self):
        made = make("vit")

        def jittered(items):
            batch = made.train.collate(items)
            return {**batch, "pixel_values": batch["pixel_values"] + torch.rand(())}

        train = dataclasses.replace(made.train, collate=jittered, outline=None, content=None)
        (why,) = self.why(make("vit", examples=(train, made.validation)))
        assert "random augmentation" in why

    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    def test_if_the_activations_of_a_row_depend_on_its_batch(self, precision):
        plan = PLAN.change(precision=precision)
        made = make("bert", plan)
        with torch.no_grad():  # with weights near zero, no row would depend on anything
            for parameter in made.model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
        made = make_learner(
            made.backbone, made.train, made.validation, plan, settings=Settings().overridden_by(plan.tuning)
        )
        share = 1.0 if precision == "fp32" else 0.01  # in bf16, this looks like rounding
        made.model.bert.encoder.layer[0].forward = leaking(made.model.bert.encoder.layer[0].forward, share)
        (why,) = self.why(made)
        assert "depend on its batch" in why

    def test_if_the_model_raises_an_error_when_the_cut_is_searched(self, monkeypatch):
        def strange(*_):
            raise RuntimeError("element 0 of tensors does not require grad")

        monkeypatch.setattr(find_cut, "find", strange)
        (why,) = self.why(make("bert"))
        assert why == "caching failed with RuntimeError: element 0 of tensors does not require grad"

    def test_if_the_model_raises_an_error_when_it_starts_at_the_cut(self, monkeypatch):
        made, running = make("bert"), CachedSplits.running

        def strange(*given):
            running(*given)
            raise RuntimeError("no mask")

        monkeypatch.setattr(CachedSplits, "running", strange)
        (why,) = self.why(made)
        assert why == "caching failed with RuntimeError: no mask"

    def test_if_neither_disk_nor_memory_has_room(self, monkeypatch):
        monkeypatch.setattr(budget, "SPARE", 10**18)
        (why,) = self.why(make("bert", PLAN.change(cache_memory_mb=0)))
        assert "No space left on device" in why

    def test_if_a_frozen_tensor_has_changed(self):
        made = make("bert")
        with torch.no_grad():
            made.model.bert.embeddings.LayerNorm.bias[3] += 1
        (why,) = self.why(made)
        assert why == "a frozen tensor has changed"

    @pytest.mark.slow
    def test_if_blocks_share_values_that_the_first_block_computes(self):
        config = tf.T5Config(
            vocab_size=24, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2, decoder_start_token_id=0,
            num_labels=2, pad_token_id=0, eos_token_id=2,
        )  # fmt: skip
        with seeded(0):
            model = tf.T5ForSequenceClassification(config)
        found = make("bert").train
        items = [(torch.cat([ids[:6], torch.tensor([2])]), label) for ids, label in found.items]
        examples = dataclasses.replace(found, items=items, lengths=[len(ids) for ids, _ in items])
        (why,) = self.why(
            make(
                "bert",
                PLAN.change(trainable=("block 2", "head"), dropout=None),
                examples=(examples, examples),
                model=model,
            )
        )
        assert "block 2 reads" in why


def leaking(forward, share):
    """Return a forward in which each row of a batch depends on the other rows."""

    def run(hidden_states, *args, **kwargs):
        out = forward(hidden_states, *args, **kwargs)
        return out + share * out.mean(0, keepdim=True)

    return run


def token_examples(count, *, side, on_padding, seed=0):
    """Return texts with a class for each token, padded on one side; with `on_padding`, padding has a class too."""
    draw = torch.Generator().manual_seed(seed)
    items = []
    for _ in range(count):
        ids = torch.randint(3, 20, (int(torch.randint(2, 9, (), generator=draw)),), generator=draw)
        items.append((ids, ids % 3))

    def padded(tensors, value):
        longest = max(map(len, tensors))
        pads = [(0, longest - len(t)) if side == "right" else (longest - len(t), 0) for t in tensors]
        return torch.stack([F.pad(tensor, pad, value=value) for tensor, pad in zip(tensors, pads, strict=True)])

    def collate(items):
        ids, labels = zip(*items, strict=True)
        mask = padded([torch.ones_like(one) for one in ids], 0)
        return {
            "input_ids": padded(ids, 0), "attention_mask": mask,
            "labels": padded(labels, 1 if on_padding else IGNORED),
        }  # fmt: skip

    return Examples(items, [len(ids) for ids, _ in items], [labels for _, labels in items], collate)


TOKENS = {"vocab_size": 24, "num_labels": 3, "pad_token_id": 0, **tiny.SIZES}


def token_model(kind):
    with seeded(0):
        if kind == "bert":
            return tf.BertForTokenClassification(tf.BertConfig(**TOKENS, max_position_embeddings=40)).eval()
        return tf.LlamaForTokenClassification(tf.LlamaConfig(**TOKENS, num_key_value_heads=2)).eval()


@pytest.mark.slow
@pytest.mark.parametrize("on_padding", [False, True])
@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_token_classifiers_have_the_same_numbers_with_padding_on_either_side_and_labels_on_padding(
    kind, side, on_padding
):
    examples = [token_examples(count, side=side, on_padding=on_padding, seed=count) for count in (40, 14)]

    def outcome(**changes):
        made = make(kind, PLAN.change(dropout=0.0, **changes), examples=examples, model=token_model(kind))
        made.task = TokenTask()
        return events_of(made)

    cached, plain = outcome(), outcome(prefix_cache="off")
    if (kind, side) == ("bert", "left"):  # it counts positions from the left edge of the batch
        assert "depend on its batch" in next(event.what for event in cached if isinstance(event, CacheRefused))
    else:
        assert len(ready(cached)) == 2
    assert torch.allclose(numbers(cached), numbers(plain), rtol=1e-5, atol=0)


class TokenTask(type(TABLE["text-classification"])):
    def baseline(self, train, validation, config):
        return {"loss": 1.0}


def test_changes_of_frozen_blocks_are_still_detected():
    made = make("bert")
    events_of(made)
    assert made.changed_frozen_tensors() == ()
    with torch.no_grad():
        made.model.bert.encoder.layer[0].output.dense.bias[0] += 1
    assert made.changed_frozen_tensors() == ("bert.encoder.layer.0.output.dense.bias",)


def test_the_run_reports_the_cut_before_the_first_evaluation():
    events = events_of(make("bert"))
    kinds = [type(event) for event in events]
    assert kinds.index(RunStarted) < kinds.index(CacheReady) < kinds.index(EvaluationEnded)
    found = ready(events)[1]
    assert (found.boundary, found.rows, found.step) == ("block 2", 40, 0)
    assert found.size_bytes == sum(make("bert").train.lengths) * 16 * 4


def test_a_change_of_the_plan_that_keeps_the_cut_prepares_nothing_again():
    made = make("bert")
    list(prepared(made))
    adjust(made, Change({"learning_rate": 1e-5}))
    assert list(prepared(made)) == []


def test_the_default_plan_caches():
    assert (Plan().transfer.prefix_cache, Plan().transfer.cache_memory_mb, Data().max_length) == ("auto", None, 128)
