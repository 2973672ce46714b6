import math

import datasets
import pytest
import tiny
import torch
from evaluate import Metric, MetricInfo
from rounding import same_loss
from sklearn.metrics import matthews_corrcoef

from workbench.errors import RunError
from workbench.plan.choices import Data
from workbench.plan.plan import Plan
from workbench.runs import build
from workbench.tasks import TABLE
from workbench.tasks.user_metrics import resolve
from workbench.training import engine, evaluate, learner

PLAN = Plan().change(trainable="all", batch_size=4, precision="fp32", max_steps=2)


class Agreement(Metric):
    """Matthews correlation."""

    def _info(self):
        ids = datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")})
        return MetricInfo(description="", citation="", features=ids)

    def _compute(self, predictions, references):
        return {"agreement": matthews_corrcoef(references, predictions)}


def made(kind="bert", plan=PLAN, metrics=(), count=12, **options):
    backbone = tiny.backbone(kind)
    train, validation = (
        TABLE[backbone.task].encode(tiny.rows(kind, rows), backbone, Data(max_length=10, **options))
        for rows in (count, 9)
    )
    return build.make_learner(backbone, train, validation, plan, metrics=resolve(metrics))


def bits(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def spoil(made, *indices):
    """Let the model overflow on these examples, known by what they hold; return a list of the batch sizes it scores."""
    sizes = []
    names = {"pixel_values", "input_ids"}
    known = [next(v[0] for k, v in made.train.batch([i]).items() if k in names).flatten()[:6] for i in indices]
    genuine = made.task.score

    class Spoilt(type(made.task)):
        def score(self, model, batch):
            logits, targets = genuine(model, batch)
            sizes.append(len(targets))
            inputs = next(value for name, value in batch.items() if name in names).flatten(1)
            bad = [any(torch.equal(row[: len(k)], k) for k in known) for row in inputs]
            return logits.masked_fill(torch.tensor(bad).unsqueeze(1), math.inf), targets

    made.task = Spoilt()
    return sizes


def test_what_is_measured_keeps_to_the_budget_of_tokens_too():
    built = made("gpt2", PLAN.change(batch_tokens=12, batch_size=16))
    sizes, nats = [], built.task.nats

    class Seen(type(built.task)):
        def nats(self, model, batch):
            sizes.append(batch["input_ids"].shape)
            return nats(model, batch)

    built.task = Seen()
    *_, small = evaluate.evaluate(built)
    assert all(rows == 1 or rows * time <= 12 for rows, time in sizes)
    built.plan = built.plan.change(batch_tokens=None)
    *_, large = evaluate.evaluate(built)
    assert len(sizes) > 2
    assert small.metrics["loss"] == same_loss(large.metrics["loss"])


def test_culprits_are_the_examples_whose_own_loss_is_not_finite():
    built = made("vit")
    scored = spoil(built, 2, 7)
    built.enter_training()
    assert evaluate.nonfinite_examples(built, [[0, 1, 2, 3], [4, 5], [6, 7, 8]]) == (2, 7)
    assert scored == [4, 2, 3, *[2] * 7]  # a batch whose loss is finite holds none
    assert evaluate.nonfinite_examples(built, [[0, 1], [4, 5]]) == ()


def test_spoilt_weights_make_every_example_a_culprit():
    built = made("bert")
    with torch.no_grad():
        built.model.classifier.weight[0, 0] = math.nan
    assert evaluate.nonfinite_examples(built, [[0, 1], [4]]) == (0, 1, 4)


@pytest.mark.parametrize("kind", ["resnet", "bert"])
def test_looking_for_culprits_leaves_model_modes_and_random_state_alone(kind):
    built = made(kind, PLAN.change(dropout=0.3))
    spoil(built, 1)
    built.enter_training()
    before, modes = bits(built.model), [module.training for module in built.model.modules()]
    random = torch.random.get_rng_state()
    assert any(modes)
    assert evaluate.nonfinite_examples(built, [[0, 1, 2]]) == (1,)
    assert all(torch.equal(before[name], tensor) for name, tensor in bits(built.model).items())
    assert modes == [module.training for module in built.model.modules()]
    assert torch.equal(random, torch.random.get_rng_state())


@pytest.mark.parametrize("side", [16, 8])  # at 8 pixels a norm sees one value a channel
def test_one_image_that_poisons_a_batch_norm_is_found_alone(side):
    built = made("resnet", image_size=side)
    genuine = built.train.collate

    def collate(items):
        batch = genuine(items)
        batch["pixel_values"][[item[0] == 3 for item in items]] = math.nan
        return batch

    object.__setattr__(built.train, "collate", collate)
    built.enter_training()
    assert evaluate.nonfinite_examples(built, [[2, 3, 4], [5, 6]]) == (3,)


def test_the_step_that_fails_names_them():
    built = made("vit", PLAN.change(batch_size=12))
    spoil(built, 5)
    with pytest.raises(RunError) as failure:
        engine.take_step(built)
    assert failure.value.rows == (5,)


def test_metrics_of_ones_own_are_measured_beside_those_of_the_task():
    built = made("bert", metrics=[Agreement(), "accuracy"])
    *_, ended = evaluate.evaluate(built)
    built.model.eval()
    with torch.no_grad():
        batch = built.validation.batch(range(9))
        logits, targets = learner.score(built, batch)
    expected = matthews_corrcoef(targets.tolist(), logits.argmax(-1).tolist())
    assert list(ended.metrics) == ["loss", "accuracy", "macro_f1", "weighted_f1", "agreement"]
    assert ended.metrics["agreement"] == pytest.approx(expected)


def test_a_language_model_has_no_classes_to_compare_and_says_so_before_training():
    built = made("gpt2", metrics=[Agreement()])
    with pytest.raises(RunError, match="the metrics agreement compare class ids, but language-modeling predicts none"):
        list(engine.train(built))
    assert built.step == 0
