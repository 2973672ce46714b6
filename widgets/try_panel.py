"""TryPanel: type a text or drop an image, and see the answers of the backbone and of the tuned model side by side."""

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from widgets import cells, wording
from widgets.panel import Panel, page, style
from workbench.errors import DataError
from workbench.events import (
    CheckpointSaved,
    EvaluationEnded,
    Event,
    RunChosen,
    RunEnded,
    RunFailed,
    RunForked,
    RunStarted,
    StageStarted,
)
from workbench.events.run_state import RunState

if TYPE_CHECKING:
    from workbench.session.handle import Run

TOP = 5  # classes whose probability is shown
KEPT = 6  # entries of the history
EXAMPLES = 3  # held-out rows that are offered
LARGEST = 8_000_000  # bytes of an image file; a message of 10 MB would not reach the kernel
KINDS = {"text-classification": "text", "language-modeling": "prompt", "image-classification": "image"}
EMPTY = "Start a run, then try it here."
UNTRAINED = "its classifier is new and untrained, so this is a guess"


@dataclass
class Entry:
    """One input that was tried.

    Attributes:
        number: Counts the entries.
        shown: The input for the page.
        model: Description of the tuned model.
        run: Name of the run.
        tuned: The answer of the tuned model; None until it is there.
        base: The answer of the model before training.
        note: What the user should know about that answer.
    """

    number: int
    shown: dict[str, str]
    model: str
    run: str
    tuned: dict[str, Any] | None = None
    base: dict[str, Any] | None = None
    note: str = ""


class TryPanel(Panel):
    """Asks the models of the session's run."""

    _esm = page("fields.js", "try.js")
    _css = style("try.css")
    kinds = frozenset(
        {RunChosen, StageStarted, RunStarted, EvaluationEnded, CheckpointSaved, RunForked, RunEnded, RunFailed}
    )

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._entries: list[Entry] = []
        self._numbers = itertools.count(1)
        self._doing, self._since = "", 0.0
        self._files: list[Any] = []  # what came with the last message
        self._reset()
        super().__init__(session, **objects)

    def _reset(self) -> None:
        """Forget the run that was shown, and the model of it that was chosen; what was tried stays."""
        self._run_state = RunState()
        self._which = "best"
        self._own_step: int | None = None  # that the user has chosen
        self._kind = ""  # text | prompt | image, once the task of the run is known
        self._saved = 0  # step of the newest checkpoint
        self._examples: list[Any] = []

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the fields and buttons."""
        return {
            "ask": self._ask_text,
            "picture": self._ask_picture,
            "example": self._ask_example,
            "choose": self._choose,
        }

    def note(self, event: Event) -> None:
        """Follow the run: its task, its best and its last model."""
        if isinstance(event, RunChosen):
            self._reset()
            return
        self._run_state.note(event)
        match event:
            case CheckpointSaved(step=step) | RunForked(step=step):
                self._saved = max(self._saved, step)
            case RunStarted(task=task):
                self._kind = KINDS.get(task, "")
                self._find_examples()

    def _find_examples(self) -> None:
        """Read some held-out rows in the background."""
        run = self.session.run

        def found(rows: list[Any]) -> None:
            if self.session.run is run:
                self._examples = rows

        if run is not None:
            self.background(lambda: run.held_out(EXAMPLES), then=found, failed=lambda error: found([]))

    @property
    def is_ticking(self) -> bool:
        """Whether a running time is shown."""
        return self._doing != ""

    def picture(self) -> dict[str, Any]:
        """Return the fields, the examples and what was tried."""
        seconds = time.monotonic() - self._since
        return {
            "kind": self._kind,
            "empty": self._empty_words(),
            "models": [{"value": value, "title": self._title(value)} for value in ("best", "last", "step")],
            "which": self._which,
            "step": self._step,
            "doing": f"{self._doing} {wording.duration(seconds)}" if self._doing and seconds >= 1 else self._doing,
            "examples": [cells.cell(value) for value in self._examples],
            "entries": [self._entry(entry) for entry in self._entries],
            "largest": LARGEST,
        }

    @property
    def _step(self) -> int:
        """The step of "another step"; until one is chosen, that of the newest checkpoint."""
        return self._saved if self._own_step is None else self._own_step

    def _empty_words(self) -> str:
        if self._kind:
            return ""
        if self._run_state.failure is not None:
            return "This run failed before it had a model. Start another one, then try it here."
        return EMPTY if self.session.run is None else "The run is being prepared; try it here in a moment."

    def _title(self, which: str) -> str:
        if which == "step":
            return "another step"
        step = self._saved if which == "last" else self._run_state.best_step or 0
        return f"{which} (step {step:,})"

    def _entry(self, entry: Entry) -> dict[str, Any]:
        run = self.session.run
        is_old = run is not None and run.name != entry.run
        base = entry.base or (None if self._doing else {"text": "no answer"})
        facts = {"number": entry.number, "input": entry.shown, "base": base, "tuned": entry.tuned}
        origin = f"asked of another run: {entry.run}" if is_old else ""
        return {**facts, "model": entry.model, "origin": origin, "note": entry.note}

    def _choose(self, which: str, step: Any = None) -> None:
        self._which = which
        if step is not None:
            self._own_step = step

    def _ask_text(self, text: str) -> None:
        if not text.strip():
            raise DataError("there is no text to ask about", hint="type a sentence, or choose an example")
        self._ask(text)

    def _ask_picture(self, name: str, size: int) -> None:
        if size > LARGEST or not self._files:
            what = f"{name} has {wording.size(size)}; expected at most {wording.size(LARGEST)}"
            raise DataError(what, hint="a smaller picture, or run.predict(path) in a cell")
        self._ask(bytes(self._files[0]))

    def _ask_example(self, index: int) -> None:
        self._ask(self._examples[index])

    def _ask(self, value: Any) -> None:
        """Ask the tuned model and then the backbone, in the background."""
        run = self.session.run
        if run is None or self._doing:
            return
        self.calm()
        options: dict[str, Any] = {"step": self._step} if self._which == "step" else {"which": self._which}
        model = f"step {self._step:,}" if self._which == "step" else self._title(self._which)
        self._doing, self._since = "asking the tuned model …", time.monotonic()

        def ask_base(entry: Entry) -> None:
            self._entries = [entry, *self._entries][:KEPT]
            self._doing = "asking the backbone …"
            self.background(lambda: _complete(entry, run, value), then=self._finish, failed=self._give_up)

        def ask() -> Entry:
            frame = run.predict(value, **options)
            shown = cells.cell(frame.iloc[0, 0])
            return Entry(next(self._numbers), shown, model, run.name, tuned=_answer(frame))

        self.background(ask, then=ask_base, failed=self._give_up)

    def _finish(self, _nothing: Any) -> None:
        self._doing = ""

    def _give_up(self, error: Exception) -> None:
        self.alarm(error)
        self._doing = ""

    def _receive(self, widget: Any, message: Mapping[str, Any], buffers: Any) -> None:
        self._files = list(buffers or ())
        super()._receive(widget, message, buffers)


def _complete(entry: Entry, run: "Run", value: Any) -> None:
    """Add the answer of the model before training."""
    entry.base = _answer(run.predict(value, which="backbone"))
    if "bars" in entry.base and run.is_untrained():
        entry.note = UNTRAINED


def _answer(frame: Any) -> dict[str, Any]:
    """Return the answer in a frame of one line: the completion, or the most probable classes."""
    if "completion" in frame.columns:
        return {"text": cells.text(frame["completion"].iloc[0])}
    shares = frame.iloc[0, 3:].astype(float).sort_values(ascending=False, kind="stable")
    names = {column: str(column).removeprefix("P(").removesuffix(")") for column in shares.index}
    bars = [
        {"name": names[column], "share": share, "words": wording.percent(share)} for column, share in shares.items()
    ]
    return {"bars": bars[:TOP], "others": len(bars[TOP:])}
