"""Cached: whether a run computes its frozen blocks once or at each step, where what they gave is, and why."""

from collections import Counter

from widgets import wording
from workbench.events import CacheReady, CacheRefused, Event, PlanAdjusted, RunChosen, RunStarted

KINDS: frozenset[type[Event]] = frozenset({RunChosen, RunStarted, PlanAdjusted, CacheReady, CacheRefused})


class Cached:
    """What is known of the frozen blocks of the session's run."""

    def __init__(self) -> None:
        self._ready: dict[str, CacheReady] = {}  # split -> what is at hand of it
        self._why_not = ""

    def note(self, event: Event) -> None:
        """Take in what the run says."""
        match event:
            case RunChosen() | RunStarted():
                self._ready, self._why_not = {}, ""
            case PlanAdjusted(after=after) if "trainable" in after:
                self._ready, self._why_not = {}, ""
            case CacheReady(split=split):
                self._ready[split], self._why_not = event, ""
            case CacheRefused(what=what):
                self._ready, self._why_not = {}, what

    def picture(self) -> dict[str, str]:
        """Return it in a sentence, and in a few more for who wants to know."""
        if self._why_not:
            said = f"frozen blocks are computed at each step: {self._why_not}"
            return {
                "cached": said,
                "cached_tip": f"{said}. The numbers are the same but for their last digits; it takes longer.",
            }
        if not self._ready:
            return {"cached": "", "cached_tip": ""}
        facts = list(self._ready.values())
        budget = wording.size(max(fact.budget_bytes for fact in facts))
        whose = "" if "train" in self._ready else " for held-out rows"  # less than an epoch uses no row twice
        return {
            "cached": f"frozen blocks computed once{whose} · {_where(facts, budget)}",
            "cached_tip": f"{_origin(facts)} The budget of memory is {budget} (more settings).",
        }


def _where(facts: list[CacheReady], budget: str) -> str:
    """Return how much lies where: what exceeds the budget of memory is mapped from disk."""
    taken: Counter[str] = Counter()
    for fact in facts:
        taken[fact.place] += fact.size_bytes
    inside = [f"{wording.size(taken['memory'])} of {budget} in memory"] if "memory" in taken else []
    beyond = [f"{wording.size(taken['disk'])} mapped from disk"] if "disk" in taken else []
    return ", ".join((*inside, *beyond))


def _origin(facts: list[CacheReady]) -> str:
    if all(fact.reused for fact in facts):
        return "They were at hand: a run with the same data and frozen blocks had computed them before."
    seconds = wording.duration(sum(fact.seconds for fact in facts))
    below = next((fact.advanced_from for fact in facts if fact.advanced_from), "")
    if below:
        return f"They were run on from {below}, where an earlier run had left off, in {seconds}."
    return f"They were run on every row in {seconds}, and need not be run again."
