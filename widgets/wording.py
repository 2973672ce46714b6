"""Formats numbers and choices as panels show them. This module does not depend on widgets."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.events import RunEnded
from workbench.events.run_state import STOPPED_BY_USER
from workbench.plan import words
from workbench.plan.choices import Transfer
from workbench.plan.plan import FIELDS, Plan

THOUSAND, MILLION, BILLION = 10**3, 10**6, 10**9
LABELS = {  # field -> its name in the panels, if that is not the field's name without underscores
    "trainable": "layers",
    "accumulation_steps": "gradient accumulation",
    "warmup_fraction": "warm-up",
    "clip_norm": "gradient clipping",
    "batch_tokens": "token budget",
    "prefix_cache": "cache frozen blocks",
    "cache_memory_mb": "cache in memory",
    "checkpoint_every": "checkpoint every",
    "unfreeze_to": "unfreeze",
    "stop_patience": "patience",
    "stop_metric": "metric",
    "stop_min_delta": "min delta",
}
_FIELD = re.compile(rf"\b({'|'.join(name for name in FIELDS if '_' in name)})\b")  # a word alone may be a word
METRICS = {"macro_f1": "F1 (macro)", "weighted_f1": "F1 (weighted)"}  # else as in the log, without underscores


def count(number: int) -> str:
    """Return a count with three significant digits.

    Examples:
        >>> count(770), count(148_320), count(22_713_216), count(1_235_814_400)
        ('770', '148 k', '22.7 M', '1.24 B')
    """
    for size, suffix in ((BILLION, "B"), (MILLION, "M"), (THOUSAND, "k")):
        if number >= size:
            digits = 0 if number >= 100 * size else 1 if number >= 10 * size else 2
            return f"{number / size:.{digits}f} {suffix}"
    return f"{number}"


def plural(number: int, noun: str) -> str:
    """Return a count with its noun, in the plural if needed.

    Examples:
        >>> plural(1, "row"), plural(7_412, "row"), plural(2, "class")
        ('1 row', '7,412 rows', '2 classes')
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def size(number: int) -> str:
    """Return a number of bytes with its unit.

    Examples:
        >>> size(512), size(48_200), size(1_840_000), size(2_500_000_000)
        ('512 bytes', '48 kB', '1.8 MB', '2.5 GB')
    """
    for unit, letters in ((BILLION, "GB"), (MILLION, "MB"), (THOUSAND, "kB")):
        if number >= unit:
            return f"{number / unit:.{0 if number >= 10 * unit else 1}f} {letters}"
    return f"{number} bytes"


def percent(share: float) -> str:
    """Return a share in per cent with two significant digits.

    Examples:
        >>> percent(0), percent(0.00004), percent(0.0132), percent(0.125), percent(1.5)
        ('0 %', '<0.01 %', '1.3 %', '12 %', '150 %')
    """
    number = 100 * share
    if 0 < number < 0.01:
        return "<0.01 %"
    return f"{number:.0f} %" if number >= 10 else f"{number:.2g} %"


def change(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return the changes of a plan, field by field.

    Examples:
        >>> change({"learning_rate": 1e-3, "trainable": "head"}, {"learning_rate": 1e-4, "trainable": "all"})
        'learning rate 0.001 → 0.0001, layers head only → all layers'
    """
    return ", ".join(
        f"{field(name)} {value_of(name, before[name])} → {value_of(name, value)}"
        if name in before
        else f"{field(name)} {value_of(name, value)}"
        for name, value in after.items()
    )


def field(name: str) -> str:
    """Return the name of a field of the plan as panels show it.

    Examples:
        >>> field("learning_rate"), field("trainable"), field("accumulation_steps")
        ('learning rate', 'layers', 'gradient accumulation')
    """
    return LABELS.get(name, name.replace("_", " "))


def value_of(name: str, value: Any) -> str:
    """Return a value of a field of the plan as panels show it.

    Examples:
        >>> value_of("learning_rate", 3e-5), value_of("trainable", ["block 1"]), value_of("evaluate_every", None)
        ('3e-5', '1 chosen block', '10 × a run')
        >>> value_of("trainable", ["block 1", "block 3", "head"])  # "last 2 blocks" does not count the head either
        '2 chosen blocks and head'
        >>> value_of("unfreeze_to", "all"), value_of("unfreeze_to", None)
        ('all layers', 'off')
    """
    if value is None:
        return str(FIELDS[name].metadata["none"]) if name in FIELDS else "none"
    if name in ("trainable", "unfreeze_to"):
        return mode(Transfer(trainable=value if isinstance(value, str) else tuple(value)))
    return words.number(value) if isinstance(value, float) else f"{value}"


def in_labels(text: str) -> str:
    """Return an error or a note with the words of the panels in place of fields of the plan and their values.

    Examples:
        >>> in_labels("choose trainable='last 2', or 'all' with method='lora'")
        'choose last 2 blocks, or all layers with LoRA'
        >>> in_labels("stop_patience can't change in this run")
        "patience can't change in this run"
    """
    text = re.sub(r"(?:trainable=)?'(head|all|last [1-9]\d*)'", lambda found: mode(Transfer(trainable=found[1])), text)
    text = text.replace("method='lora'", "LoRA")
    return _FIELD.sub(lambda found: field(found[0]), text)


def metric(name: str) -> str:
    """Return the name of a metric as panels show it.

    Examples:
        >>> metric("loss"), metric("macro_f1"), metric("my_score")
        ('loss', 'F1 (macro)', 'my score')
    """
    return METRICS.get(name, name.replace("_", " "))


def task(name: str) -> str:
    """Return the name of a task as panels show it.

    Examples:
        >>> task("text-classification"), task("language-modeling")
        ('text classification', 'language modelling')
    """
    return name.replace("-", " ").replace("modeling", "modelling")


def ordinal(number: int) -> str:
    """Return the place in an order.

    Examples:
        >>> ordinal(1), ordinal(2), ordinal(3), ordinal(4), ordinal(12), ordinal(23)
        ('1st', '2nd', '3rd', '4th', '12th', '23rd')
    """
    is_teen = number // 10 % 10 == 1
    ending = "th" if is_teen else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def duration(seconds: float) -> str:
    """Return a time span in seconds, minutes or hours.

    Examples:
        >>> duration(0.4), duration(41), duration(200), duration(3_900)
        ('1 s', '41 s', '3 min 20 s', '1 h 5 min')
    """
    whole = max(1, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def mode(choice: Transfer) -> str:
    """Return which blocks are trainable, and whether with LoRA.

    Examples:
        >>> mode(Transfer()), mode(Transfer(trainable="last 2")), mode(Transfer(trainable="all", method="lora"))
        ('head only', 'last 2 blocks', 'all layers, LoRA rank 8')
    """
    words = {"head": "head only", "all": "all layers", "last 1": "last block"}
    if not isinstance(choice.trainable, str):
        where = chosen_blocks(choice.trainable)
    else:
        where = words.get(choice.trainable, f"{choice.trainable} blocks")
    return where if choice.method == "weights" else f"{where}, LoRA rank {choice.lora_rank}"


def chosen_blocks(names: Sequence[str]) -> str:
    """Return how many blocks were chosen one by one; the head does not count as one, as in "last 2 blocks"."""
    others = [name for name in names if name != "head"]
    blocks = plural(len(others), "chosen block") if others else ""
    return " and ".join(filter(None, (blocks, "head" if len(others) < len(names) else "")))


def ending(event: RunEnded) -> str:
    """Return how a run ended.

    Examples:
        >>> ending(RunEnded(step=60, reason="completed", best_step=50))
        'completed at step 60 · best model at step 50'
        >>> ending(RunEnded(step=10, reason="stopped early: the loss has not improved, since step 0", best_step=0))
        'stopped early at step 10: the loss has not improved · best model at step 0'
    """
    reason, _, why = ("stopped by you" if event.reason == STOPPED_BY_USER else event.reason).partition(": ")
    why = why.removesuffix(f", since step {event.best_step}")  # said as that of the best model
    best = f"best model at step {event.best_step:,}" if event.best_step is not None else ""
    return joined(f"{reason} at step {event.step:,}{f': {why}' if why else ''}", best)


def joined(*parts: str) -> str:
    """Return the parts that are not empty with a dot between them.

    Examples:
        >>> joined("training", "", "step 3")
        'training · step 3'
    """
    return " · ".join(part for part in parts if part)


def base_name(path: str) -> str:
    """Return the last part of a path.

    Examples:
        >>> base_name("/rows/of/film.csv"), base_name("images/")
        ('film.csv', 'images')
    """
    return path.rstrip("/").rsplit("/", 1)[-1]


def title(plan: Plan) -> str:
    """Return the title of a run with this plan: data, backbone and mode."""
    from workbench.models import catalog

    rows = base_name(plan.data.source).replace(":", ": ")
    backbone = catalog.find(plan.baseline.backbone)
    return " · ".join((rows, backbone.title if backbone else plan.baseline.backbone, mode(plan.transfer)))
