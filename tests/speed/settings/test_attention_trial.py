import dataclasses

import pytest
import tiny
import torch
from rounding import BOUND

from workbench.plan.plan import Plan
from workbench.runs.build import make_learner, trial_of
from workbench.speed.settings import attention_trial, trials
from workbench.speed.settings.trial_notes import TrialNotes
from workbench.speed.settings.trials import measured
from workbench.tasks import TABLE
from workbench.training.learner import counted_nats
from workbench.training.settings import Settings, attention_of, set_attention

NOTES = TrialNotes("")
PLAN = Plan().change(trainable="all", batch_size=8, precision="bf16")


@pytest.fixture(autouse=True)
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_WORKBENCH_MEMORY", str(tmp_path / "memory"))


def learner(kind, plan=PLAN, **options):
    backbone = tiny.backbone(kind)
    examples = TABLE[backbone.task].encode(tiny.rows(kind), backbone, plan.data)
    return make_learner(backbone, examples, examples, plan, **options)


def paced(monkeypatch, *, own, eager):
    monkeypatch.setattr(attention_trial, "alternated", lambda ways, seconds: {"own": own, "eager": eager})


@pytest.mark.parametrize(("eager", "taken"), [(0.5, "eager"), (0.95, "own"), (2.0, "own")])
def test_attention_is_written_out_where_it_is_a_tenth_faster(monkeypatch, eager, taken):
    paced(monkeypatch, own=1.0, eager=eager)
    made = learner("bert")
    assert made.settings.attention == taken
    assert made.model.config._attn_implementation == ("eager" if taken == "eager" else "sdpa")
    said = "taken" if taken == "eager" else "not taken"
    assert f"eager attention {1 / eager:.2g} × as fast as torch's own: {said}" in made.settings.measured


def test_in_fp32_attention_stays_as_it_is(monkeypatch):
    paced(monkeypatch, own=1.0, eager=0.1)
    settings = learner("bert", PLAN.change(precision="fp32")).settings
    assert settings.attention == "own"
    assert not any("attention" in text for text in settings.measured)
    monkeypatch.setattr(trials, "has_bf16", lambda device: True)
    monkeypatch.setattr(trials._Step, "seconds", lambda step, sized: 1.0 if sized[0][0] == "fp32" else 2.0)
    settings = learner("bert", PLAN.change(precision="auto", batch_size=7)).settings
    assert (settings.precision, settings.attention) == ("fp32", "own")


def test_it_is_tried_in_the_shape_that_the_model_asks_for():
    made = learner("bert", settings=Settings())
    trial = trial_of(made)
    rows = trial.middling(trial.rows)
    shape = attention_trial._asked_for(trial, rows)
    heads = made.model.config.num_attention_heads
    longest = trial.lengths[rows[-1]]
    assert shape == (len(rows), heads, longest, made.model.config.hidden_size // heads)
    assert attention_trial.times_of_attention(trial, NOTES).keys() == {"own", "eager"}


def test_nothing_is_tried_where_there_is_no_choice_or_too_little_memory(monkeypatch):
    assert attention_trial.times_of_attention(trial_of(learner("resnet", settings=Settings())), NOTES) == {}
    made = learner("bert", settings=Settings())
    _, heads, _, _ = attention_trial._asked_for(trial_of(made), [0])
    scores = PLAN.tuning.batch_size * heads * trial_of(made).longest ** 2
    monkeypatch.setattr(attention_trial, "LARGEST", scores)
    assert attention_trial.times_of_attention(trial_of(made), NOTES)
    monkeypatch.setattr(attention_trial, "LARGEST", scores - 1)
    assert attention_trial.times_of_attention(trial_of(made), NOTES) == {}


def test_a_longer_longest_row_is_looked_at_again_though_rows_of_middling_length_are_the_same(monkeypatch):
    paced(monkeypatch, own=1.0, eager=0.1)
    made = learner("bert", settings=Settings())
    longer = dataclasses.replace(trial_of(made), lengths=[*made.train.lengths, 1_000_000])
    few = [0, 1, 2, 3, 4, 5, 6, 7]
    monkeypatch.setattr(trials.Trial, "middling", lambda trial, rows: few[:rows])
    assert trials.choose_settings(trial_of(made), PLAN.tuning).attention == "eager"
    assert trials.choose_settings(longer, PLAN.tuning).attention == "own"


def test_a_budget_of_tokens_says_how_many_of_the_longest_rows_a_batch_has():
    trial = dataclasses.replace(trial_of(learner("bert", settings=Settings())), lengths=[3, 40])
    assert (trial.longest, trial.rows_of_longest) == (64, PLAN.tuning.batch_size)
    assert dataclasses.replace(trial, batch_tokens=200).rows_of_longest == 3
    assert dataclasses.replace(trial, batch_tokens=10).rows_of_longest == 1


def test_measuring_leaves_attention_as_it_was():
    made = learner("gpt2", settings=Settings())
    for before in ("sdpa", "eager"):
        set_attention(made.model, before)
        measured(trial_of(made), PLAN.tuning.__class__(precision="auto"))
        assert attention_of(made.model) == before


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_attention_written_out_says_the_same_of_packed_windows_too(kind):
    nats = []
    for attention in ("own", "eager"):
        made = learner(kind, PLAN.change(dropout=0.0), settings=Settings(attention=attention))
        assert made.model.config._attn_implementation == ("eager" if attention == "eager" else "sdpa")
        made.settings = Settings()  # in fp32 all digits can be compared
        assert kind != "gpt2" or made.train.layout is not None, "it should pack"
        total, targets = counted_nats(made, made.train.batch(range(len(made.train))))
        nats.append(total / targets)
    torch.testing.assert_close(*nats, rtol=BOUND, atol=0)
