"""The terminal shows where a run is: over itself where somebody watches, in lines where nobody does."""

import dataclasses
import io
import sys

import pytest

from workbench.events import EvaluationEnded, RunEnded, RunStarted, StageStarted, StepEnded, terminal
from workbench.events.sentences import duration
from workbench.events.terminal import Line, RunLine


class Terminal(io.StringIO):
    def isatty(self):
        return True


STEP = {"targets": 8, "rows": 8, "learning_rate": 1e-3, "gradient_norm": 1.0, "seconds": 2.0}
EVENTS = [
    StageStarted(stage="reading the data"),
    RunStarted(
        task="text-classification", steps=2, trainable_parameters=770, total_parameters=22_713_986, rows=1234,
        device="cpu", precision="fp32", baseline={"loss": 0.69, "accuracy": 0.51}, baseline_name="always the same",
        notes=("3 rows without text were left out",),
    ),
    StepEnded(step=1, epoch=0.5, loss=0.75, **STEP),
    EvaluationEnded(step=1, split="validation", metrics={"loss": 0.5, "accuracy": 0.75}, rows=8, targets=8, seconds=0),
    StepEnded(step=2, epoch=1.0, loss=0.25, **STEP),
    RunEnded(step=2, reason="completed", best_step=1, best_loss=0.5),
]  # fmt: skip
FACTS = [
    "1,234 rows · 770 of 22,713,986 parameters trainable · 2 steps · cpu, fp32",
    "note: 3 rows without text were left out",
    "baseline to beat, always the same: loss 0.690, accuracy 0.510",
]
MEASURED = "step 1/2 · validation loss 0.500, accuracy 0.750"
ENDED = "completed after step 2/2 · validation loss 0.500, accuracy 0.750 · lowest validation loss 0.500 at step 1"


def shown(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    line = RunLine(Line())
    for event in EVENTS:
        line.show(event)
    return stream.getvalue()


def test_where_nobody_watches_there_are_plain_lines(monkeypatch):
    text = shown(io.StringIO(), monkeypatch)
    assert text.splitlines() == [*FACTS, MEASURED, ENDED]
    assert "\r" not in text
    assert "\x1b" not in text


def test_where_nobody_watches_a_passing_line_comes_now_and_then(monkeypatch):
    monkeypatch.setattr(terminal, "_PROGRESS_SECONDS", 0)
    lines = shown(io.StringIO(), monkeypatch).splitlines()
    assert lines[0] == "reading the data …"
    assert "step 1/2 · loss 0.750 · 2 s left" in lines


def test_a_terminal_shows_one_line_over_itself(monkeypatch):
    text = shown(Terminal(), monkeypatch)
    assert text.count("\n") == len([*FACTS, ENDED])
    shown_at_last = [line.rsplit("\r\x1b[2K", 1)[-1] for line in text.split("\n")]
    assert shown_at_last == [*FACTS, ENDED, ""]
    assert "\r\x1b[2Kstep 2/2 · loss 0.250 · validation loss 0.500, accuracy 0.750 · 0 s left" in text


def test_a_passing_line_never_wraps(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    Line()("x" * 100, end="\r")
    assert stream.getvalue() == "\r\x1b[2K" + "x" * 19


@pytest.mark.parametrize(("seconds", "words"), [(0.4, "0 s"), (89.4, "89 s"), (95, "2 min"), (7500, "2 h 05 min")])
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_how_a_run_computes_is_told_in_one_line(capsys):
    started = dataclasses.replace(EVENTS[1], settings=("bf16 2 × as fast as fp32: taken", "2 threads"))
    RunLine(Line()).show(started)
    assert "settings for this machine: bf16 2 × as fast as fp32: taken · 2 threads\n" in capsys.readouterr().out
