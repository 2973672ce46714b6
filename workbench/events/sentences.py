"""Each event as one short line, for whoever prints it: what has happened, and at which step."""

from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import counted


def sentence(event: Any) -> str:
    """Return an event as one line of text, for example "step 3 · loss 0.612"."""
    words = _WORDS.get(event.kind)
    return " ".join(words(event).split()) if words else event.kind


def in_words(metrics: Mapping[str, float]) -> str:
    """Return the most important metrics as text, for example "loss 0.612, accuracy 0.710"."""
    forms = {"loss": ".3f", "perplexity": ".1f", "accuracy": ".3f"}
    return ", ".join(f"{name} {metrics[name]:{form}}" for name, form in forms.items() if name in metrics)


def duration(seconds: float) -> str:
    """Return a duration in a readable unit: "41 s", "3 min", "2 h 05 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def started(event: Any) -> str:
    """Return the sizes of a run: its rows, parameters, steps and device."""
    trainable = f"{event.trainable_parameters:,} of {event.total_parameters:,} parameters trainable"
    rows, steps = counted(event.rows, "row"), counted(event.steps, "step")
    return f"{rows} · {trainable} · {steps} · {event.device}, {event.precision}"


def _caching(event: Any) -> str:
    left = f" · {duration(event.seconds_left)} left" if event.seconds_left is not None else ""
    return f"caching the frozen blocks: {event.rows_done:,} of {event.rows:,} {event.split} rows{left}"


def _cached(event: Any) -> str:
    return f"the frozen blocks below {event.boundary} are cached for {counted(event.rows, f'{event.split} row')}"


def _evaluating(event: Any) -> str:
    rows = f"{event.rows_done:,} of {event.rows:,} {event.split} rows"
    return f"step {event.step:,} · evaluating: {rows}, loss {event.loss:.3f}"


def _evaluated(event: Any) -> str:
    best = " · the best so far" if event.best else ""
    return f"step {event.step:,} · {event.split} {in_words(event.metrics)}{best}"


def _moved(event: Any) -> str:
    if not event.by_block:
        return f"step {event.step:,} · no block has moved"
    block = max(event.by_block, key=event.by_block.__getitem__)
    return f"step {event.step:,} · the weights of {block} have moved most: by {event.by_block[block]:.2%}"


def _changed(fields: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in fields.items()) or "no change"


def _saved(event: Any) -> str:
    best = " · the best so far" if event.best else ""
    return f"step {event.step:,} · checkpoint saved, {event.size_bytes / 1e6:.1f} MB{best}"


def _forked(event: Any) -> str:
    return f"forked from {event.parent} at step {event.step:,}: {_changed(event.changes)}"


def _ended(event: Any) -> str:
    best = ""
    if event.best_loss is not None:
        best = f" · lowest validation loss {event.best_loss:.3f} at step {event.best_step:,}"
    return f"{event.reason} after step {event.step:,}{best}"


def _prepared(event: Any) -> str:
    return f"loaded: {event.part}" if not event.what else f"not loaded: {event.part}: {event.what}"


def _at_step(text: str) -> Callable[[Any], str]:
    return lambda event: f"step {event.step:,} · " + text.format(event=event)


_WORDS: dict[str, Callable[[Any], str]] = {  # kind of event -> its words
    "StageStarted": lambda event: f"{event.stage} …",
    "RunStarted": started,
    "StepEnded": _at_step("loss {event.loss:.3f}"),
    "EvaluationProgressed": _evaluating,
    "EvaluationEnded": _evaluated,
    "WeightsMoved": _moved,
    "FrozenMoved": lambda event: f"step {event.step:,} · frozen weights have changed: {', '.join(event.blocks)}",
    "CacheProgressed": _caching,
    "CacheReady": _cached,
    "CacheRefused": lambda event: f"not cached, so the frozen blocks run at every step: {event.what}",
    "PlanAdjusted": lambda event: f"step {event.step:,} · the plan changes: {_changed(event.after)}",
    "ChangeRefused": _at_step("a change was refused: {event.what}"),
    "CheckpointSaved": _saved,
    "CheckpointFailed": _at_step("no checkpoint could be saved: {event.what}"),
    "CheckpointRefused": _at_step("a damaged checkpoint was skipped: {event.what}"),
    "ModelSaved": _at_step("{event.which} model saved in {event.folder}"),
    "RunForked": _forked,
    "ReplayDiverged": _at_step("repeating gave other numbers: {event.what}"),
    "RunPaused": _at_step("paused"),
    "RunResumed": _at_step("resumed"),
    "RunEnded": _ended,
    "RunFailed": lambda event: f"failed after step {event.step:,}: {event.what}",
    "PlanChanged": lambda event: f"the plan has changed: {', '.join(event.fields)}",
    "RunChosen": lambda event: f"shown now: {event.name}",
    "RunsOverlaid": lambda event: f"drawn beside it: {', '.join(event.names) or 'no run'}",
    "PreparationEnded": _prepared,
}
