"""Cached: whether a run caches the activations of its frozen blocks, where they are stored, or why it does not."""

from collections import Counter

from widgets import wording
from workbench.events import CacheReady, CacheRefused, Event, PlanAdjusted, RunChosen, RunStarted

KINDS: frozenset[type[Event]] = frozenset({RunChosen, RunStarted, PlanAdjusted, CacheReady, CacheRefused})


class Cached:
    """What the session's run has reported about its prefix cache."""

    def __init__(self) -> None:
        self._ready: dict[str, CacheReady] = {}  # split -> its cached activations
        self._why_not = ""

    def note(self, event: Event) -> None:
        """Remember what the run reports."""
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
        """Return the state of the cache in one sentence, and details for the tooltip."""
        if self._why_not:
            said = f"frozen blocks not cached: {self._why_not}"
            return {
                "cached": said,
                "cached_tip": f"{said}. They are computed at each step, which takes longer; the numbers stay the same.",
            }
        if not self._ready:
            return {"cached": "", "cached_tip": ""}
        facts = list(self._ready.values())
        budget = wording.size(max(fact.budget_bytes for fact in facts))
        whose = "" if "train" in self._ready else " for validation rows"  # in one epoch, no training row is used twice
        return {
            "cached": f"frozen blocks cached{whose} ({_size(facts)})",
            "cached_tip": f"{_origin(facts)} Up to {budget} are kept in memory (Settings, more), the rest on disk.",
        }


def _size(facts: list[CacheReady]) -> str:
    """Return the size of the cache in memory and of what exceeds the memory budget, on disk."""
    sizes: Counter[str] = Counter()
    for fact in facts:
        sizes[fact.place] += fact.size_bytes
    if not sizes["disk"]:
        return wording.size(sizes["memory"])
    in_memory = f"{wording.size(sizes['memory'])} in memory, " if sizes["memory"] else ""
    return f"{in_memory}{wording.size(sizes['disk'])} on disk"


def _origin(facts: list[CacheReady]) -> str:
    if all(fact.reused for fact in facts):
        return "An earlier run with the same data and frozen blocks had computed their outputs."
    seconds = wording.duration(sum(fact.seconds for fact in facts))
    below = next((fact.advanced_from for fact in facts if fact.advanced_from), "")
    if below:
        return f"Their outputs were computed in {seconds} from those that an earlier run had cached at {below}."
    return f"Their outputs were computed for every row in {seconds}, and are not computed again."
