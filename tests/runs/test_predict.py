import random

import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from tiny_runs import PLAN, a_tiny_backbone_by_that_name, carried_out  # noqa: F401

from workbench.errors import DataError, RunError
from workbench.plan.choices import Data
from workbench.runs.moment import Moment
from workbench.runs.predict import is_untrained, predict
from workbench.runs.preparation import Preparation
from workbench.session.attach import attach
from workbench.session.session import Session

CHOICE = Data(max_length=8)
TEXTS = tiny.texts(13, longest=14)  # some are longer than 8 tokens


def asked(backbone, inputs, labels=("no", "yes"), **options):
    return predict(backbone, inputs, CHOICE, labels, **options)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_the_probabilities_of_texts_are_those_of_plain_transformers(kind):
    backbone = tiny.backbone(kind, task="text-classification", labels=3)
    frame = asked(backbone, TEXTS, "abc")
    for text, line in zip(TEXTS, frame.itertuples(), strict=True):
        encoded = backbone.preprocessor(text, truncation=True, max_length=8, return_tensors="pt")
        inputs = {name: encoded[name] for name in ("input_ids", "attention_mask")}
        with torch.no_grad():
            expected = backbone.model(**inputs).logits.softmax(-1)[0].numpy()
        np.testing.assert_allclose(line[4:], expected, atol=1e-5)
        assert (line.label, line.probability) == ("abc"[expected.argmax()], max(line[4:]))


def test_the_probabilities_of_images_are_those_of_plain_transformers():
    backbone = tiny.backbone("vit")
    images = tiny.rows("vit", 5)["image"][:]
    frame = asked(backbone, images)
    pixels = backbone.preprocessor([image.convert("RGB") for image in images], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = backbone.model(pixel_values=pixels).logits.softmax(-1)
    np.testing.assert_allclose(frame[["P(no)", "P(yes)"]], expected, atol=1e-5)
    assert list(frame.input) == images
    arrays = asked(backbone, np.stack([np.array(image.convert("RGB")) for image in images]))
    assert arrays["P(yes)"].tolist() == frame["P(yes)"].tolist()


@pytest.mark.parametrize("kind", ["bert", "vit"])
def test_answers_do_not_depend_on_the_batch_size(kind):
    backbone = tiny.backbone(kind)
    inputs = TEXTS if kind == "bert" else tiny.rows(kind, 13)["image"][:]
    whole = asked(backbone, inputs, batch_size=64).iloc[:, 2:].to_numpy(float)
    for size in (1, 4):
        np.testing.assert_allclose(
            asked(backbone, inputs, batch_size=size).iloc[:, 2:].to_numpy(float), whole, atol=1e-6
        )
    with pytest.raises(RunError, match="batch_size is 0; expected a whole number from 1"):
        asked(backbone, inputs, batch_size=0)


def test_classes_of_any_name_have_a_column_of_their_own():
    backbone = tiny.backbone("bert", labels=3)
    frame = asked(backbone, pd.Series(TEXTS[:2], index=["x", "y"]), ("label", "input", "probability"))
    assert list(frame.columns) == ["input", "label", "probability", "P(label)", "P(input)", "P(probability)"]
    assert list(frame.index) == ["x", "y"]
    np.testing.assert_allclose(frame.iloc[:, 3:].sum(axis=1), 1)


def test_a_language_model_completes_prompts_in_the_same_way_each_time():
    backbone = tiny.backbone("gpt2")
    frame = asked(backbone, ["we saw it", "the film"], max_new_tokens=5)
    assert list(frame.columns) == ["prompt", "completion"]
    ids = backbone.preprocessor("the film", return_tensors="pt")["input_ids"]
    for _ in range(5):
        with torch.no_grad():
            ids = torch.cat([ids, backbone.model(ids).logits[:, -1:].argmax(-1)], dim=1)
    assert frame.completion[1] == backbone.preprocessor.decode(ids[0, 2:], skip_special_tokens=True)
    assert asked(backbone, ["the film"], max_new_tokens=5).completion[0] == frame.completion[1]
    with pytest.raises(RunError, match=r"row 1: a prompt of 2 tokens and 63 more are too long: .* at most 64"):
        asked(backbone, ["film", "the film"], max_new_tokens=63)


def test_no_random_generator_and_no_weight_changes():
    backbone = tiny.backbone("bert", dropout=0.5)
    backbone.model.eval()
    weights = {name: tensor.clone() for name, tensor in backbone.model.state_dict().items()}
    before = (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
    asked(backbone, TEXTS)
    assert before == (torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in backbone.model.state_dict().items())
    assert all(parameter.grad is None for parameter in backbone.model.parameters())


def test_a_text_without_a_token_is_named():
    backbone = tiny.backbone("bert")
    with pytest.raises(DataError, match="row 2 is an empty text"):
        asked(backbone, ["good", "bad", "\n"])


@pytest.mark.slow
def test_a_moment_predicts_what_its_evaluation_counts(tmp_path):
    preparation = Preparation(tiny.frame())
    folder = carried_out(PLAN.change(dropout=0.3), tmp_path)
    for step in (0, 3, 6):
        moment = Moment(folder, preparation, step)
        rows = preparation.split(folder.plan()).validation
        frame = moment.predict(rows)
        truth = [("negative", "positive")[label] for label in rows["label"]]
        assert (frame.label == truth).mean() == moment.metrics["accuracy"]


@pytest.mark.slow
def test_a_run_answers_while_it_trains_and_trains_on_as_if_nobody_had_asked(tmp_path):
    plan = PLAN.change(max_steps=60, epochs=100, evaluate_every=20, dropout=0.2)
    quiet = Session(plan, table=tiny.frame(), runs=tmp_path / "quiet").start().wait(60)
    run = Session(plan, table=tiny.frame(), runs=tmp_path / "asked").start()
    answers = []
    while not run.is_over:
        answers += [run.predict(TEXTS, which=which) for which in ("best", "last", "backbone")]
    run.wait(60)
    assert len(answers) > 3
    assert run.history().drop(columns="seconds", errors="ignore").equals(quiet.history())
    for which, step in (("best", None), ("last", 60), ("backbone", 0)):
        frame, same = run.predict(TEXTS, which=which), quiet.predict(TEXTS, which=which)
        assert frame.equals(same)
        if step is not None:
            np.testing.assert_allclose(frame.iloc[:, 2:], run.predict(TEXTS, step=step).iloc[:, 2:], atol=1e-6)
            np.testing.assert_allclose(frame.iloc[:, 2:], run.at(step).predict(TEXTS).iloc[:, 2:], atol=1e-6)
    for wrong in ({"which": "worst"}, {"step": 61}, {"step": 1.5}, {"step": 2, "which": "best"}):
        with pytest.raises(RunError):
            run.predict("good film", **wrong)


@pytest.mark.slow
def test_a_model_that_was_asked_before_is_not_loaded_again(tmp_path, monkeypatch):
    run = Session(PLAN, table=tiny.frame(), runs=tmp_path).start().wait(60)
    loaded = []
    original = type(run)._backbone_at
    monkeypatch.setattr(type(run), "_backbone_at", lambda self, step: loaded.append(step) or original(self, step))
    for _ in range(2):
        for which in ("backbone", "best", "last"):
            run.predict("a good film", which=which)
        run.predict("a good film", step=6)
    assert sorted(loaded) == sorted({0, run._step_of("best"), 6})
    assert not run.is_untrained()  # a head of tests/tiny.py says nothing about itself


@pytest.mark.slow
def test_a_saved_model_answers_without_its_rows(tmp_path):
    run = Session(PLAN.change(save_model="best"), table=tiny.frame(), runs=tmp_path).start().wait(60)
    expected = run.predict(TEXTS)
    again = attach(run.name, tmp_path)
    found = again.predict(TEXTS)
    np.testing.assert_allclose(found.iloc[:, 2:].to_numpy(float), expected.iloc[:, 2:].to_numpy(float), atol=1e-6)
    with pytest.raises(RunError, match="a run folder does not store"):
        again.predict(TEXTS, which="backbone")


def test_a_new_head_is_known_as_untrained():
    backbone = tiny.backbone("bert")
    assert not is_untrained(backbone)
    backbone.notes = ("the classifier on top is new and untrained (classifier.weight)",)
    assert is_untrained(backbone)
