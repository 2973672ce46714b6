"""ResultsPanel: what the run gets right and wrong on held-out rows, per class and row by row, and the test score."""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from widgets import cells, wording
from widgets.panel import Panel, page, style
from workbench.errors import WorkbenchError
from workbench.events import EvaluationEnded, Event, RunChosen, RunEnded, RunFailed, RunForked, RunResumed, RunStarted
from workbench.events.run_state import RunState

if TYPE_CHECKING:
    from workbench.runs.results import Results

SHOWN_MISTAKES = 20
SHOWN_CLASSES = 100  # in the matrix; a larger one is too much for a page
EMPTY = "Start a run. After its first evaluation, see here which rows it gets right and wrong."
HARDEST = "Hardest windows of text (a row may have several)"
METRICS = ("accuracy", "macro_f1", "perplexity", "loss")  # in the line above the tables
COLUMNS = {"row": "row", "text": "text", "image": "image", "label": "true class", "predicted": "predicted"}
COLUMNS |= {"probability": "probability", "loss": "loss", "tokens": "tokens", "perplexity": "perplexity"}


class ResultsPanel(Panel):
    """The results of the session's run on validation rows, and its score on the test rows."""

    _esm = page("fields.js", "results.js")
    _css = style("results.css")
    kinds = frozenset({RunChosen, RunForked, RunStarted, RunResumed, EvaluationEnded, RunEnded, RunFailed})

    def __init__(self, session: Any = None, **objects: Any) -> None:
        self._reset()
        super().__init__(session, **objects)

    def _reset(self) -> None:
        """Forget the run that was shown."""
        self._state = RunState()
        self._steps: list[int] = []  # evaluated steps
        self._step: int | None = None  # the chosen one; None for the best
        self._found: dict[int, dict[str, Any]] = {}  # step -> its results for the page
        self._was_shown = False  # whether results were requested, or shown by themselves
        self._scores: list[EvaluationEnded] = []  # on the test rows
        self._doing, self._since, self._task = "", 0.0, ""  # work in the background: in words, its start, what it is

    def actions(self) -> Mapping[str, Callable[..., None]]:
        """Return the actions of the fields and buttons."""
        return {"show": self._show, "score": self._score}

    def note(self, event: Event) -> None:
        """Follow the run: which steps were evaluated, and which was the best."""
        if isinstance(event, RunChosen):
            self._reset()
            return
        self._state.note(event)
        if isinstance(event, EvaluationEnded) and event.split == "validation" and event.step not in self._steps:
            self._steps = sorted([*self._steps, event.step])
        if isinstance(event, RunStarted | RunEnded) and self.session.run is not None:
            try:
                self._scores = list(self.session.run.test_scores)
            except WorkbenchError as error:  # the file may be a stranger's
                self.alarm(error)
        if isinstance(event, RunEnded):
            self.attention = "results of the ended run"

    def refresh(self) -> None:
        """Redraw; if a page displays the panel and the run has ended, show the results of the best step."""
        is_watched = bool(self._viewers) and not self.is_hidden
        if is_watched and isinstance(self._state.ending, RunEnded) and not self._was_shown:
            self._show(str(self._chosen))
        super().refresh()

    @property
    def is_ticking(self) -> bool:
        """Whether a running time is shown."""
        return self._doing != ""

    @property
    def _chosen(self) -> int:
        return self._state.best_step or 0 if self._step is None else self._step

    def picture(self) -> dict[str, Any]:
        """Return the steps, the results of the chosen one, and the test score."""
        return {
            "empty": "" if self._steps else EMPTY,
            "steps": [{"value": str(step), "title": self._title(step)} for step in self._steps],
            "step": str(self._chosen),
            "doing": self._words() if self._task == "results" else "",
            "is_busy": self._doing != "",
            "results": self._found.get(self._chosen),
            "test": self._test(),
        }

    def _title(self, step: int) -> str:
        notes = ["before training"] if step == 0 else []
        return f"step {step:,}" + "".join(f" · {note}" for note in [*notes, *["best"][: step == self._state.best_step]])

    def _words(self) -> str:
        seconds = time.monotonic() - self._since
        return f"{self._doing} · {wording.duration(seconds)}" if self._doing and seconds >= 1 else self._doing

    def _test(self) -> dict[str, Any]:
        best = self._state.best_step or 0
        said = "For one honest score at the end: use the test rows once, when no choice is left to make. "
        said += "Whoever looks twice and picks the better run has tuned on them."
        if not self._state.is_over:
            said = "The test rows can be scored when the run has ended."
        return {
            "words": said,
            "button": f"Score on the test rows (best model, step {best:,})",
            "can_score": self._state.is_over and bool(self._steps) and not self._doing,
            "doing": self._words() if self._task == "score" else "",
            "score": _score_words(self._scores[-1]) if self._scores else "",
            "times": len(self._scores),
        }

    def _show(self, step: str) -> None:
        """Show the results of an evaluated step; they are computed in the background, once."""
        run = self.session.run
        if run is None or self._doing or (number := int(step)) not in self._steps:
            return
        self.calm()
        self._was_shown = True
        self._step = number
        if number in self._found:
            return
        self._begin("results", "loading the model …")

        def repeated(done: int, steps: int) -> None:
            self._doing = f"repeating step {done:,} of {steps:,} …"

        def evaluated(done: int, rows: int) -> None:
            self._doing = f"evaluating row {done:,} of {rows:,} …"

        def finish(found: dict[str, Any]) -> None:
            if self.session.run is run:
                self._found[number], self._doing = found, ""

        def compute() -> dict[str, Any]:
            return _for_page(run.at(number, progress=repeated).results(progress=evaluated))

        self.background(compute, then=finish, failed=self._give_up)

    def _score(self) -> None:
        """Score the best model on the test rows, in the background."""
        run = self.session.run
        if run is None or self._doing:
            return
        self.calm()
        self._begin("score", "scoring the test rows …")

        def score() -> list[EvaluationEnded]:
            run.measure("test")
            return list(run.test_scores)

        def finish(scores: list[EvaluationEnded]) -> None:
            if self.session.run is run:
                self._scores, self._doing = scores, ""

        self.background(score, then=finish, failed=self._give_up)

    def _begin(self, task: str, doing: str) -> None:
        self._task, self._doing, self._since = task, doing, time.monotonic()

    def _give_up(self, error: Exception) -> None:
        self.alarm(error)
        self._doing = ""


def _score_words(score: EvaluationEnded) -> str:
    facts = (_metrics(score.metrics), f"{score.rows:,} test rows", f"model of step {score.step:,}", _when(score.time))
    return wording.joined(*facts)


def _when(seconds: float) -> str:
    try:
        return time.strftime("%d %b %Y, %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):  # a stranger may have written any number
        return ""


def _metrics(values: Mapping[str, float]) -> str:
    return wording.joined(*(f"{wording.metric(name)} {values[name]:.3g}" for name in METRICS if name in values))


def _for_page(results: "Results") -> dict[str, Any]:
    """Return results as JSON-ready data: everything from rows as text or small images."""
    what = "rows" if results.labels else "windows of text"
    facts = wording.joined(_metrics(results.metrics), results.rows_in_words(what))
    worst = results.mistakes.head(SHOWN_MISTAKES)
    mistakes = {
        "title": f"Worst mistakes ({len(worst)} of {_wrong(results):,})" if results.labels else HARDEST,
        "columns": [COLUMNS[str(name)] for name in worst.columns],
        "rows": [[cells.cell(_shown(value)) for value in line] for line in worst.itertuples(index=False)],
    }
    page: dict[str, Any] = {"facts": facts, "mistakes": mistakes, "classes": None, "matrix": None}
    if results.labels:
        page["classes"] = [
            {"name": name, "numbers": [f"{value:.2f}" for value in line[:3]] + [f"{int(line[3]):,}"]}
            for name, line in zip(results.labels, results.per_class.itertuples(index=False), strict=True)
        ]
        page["matrix"] = _matrix(results)
    return page


def _matrix(results: "Results") -> dict[str, Any]:
    """Return the counts, and each as a share of the rows of its true class, which is its shade."""
    if len(results.labels) > SHOWN_CLASSES:
        return {
            "labels": [],
            "note": f"{len(results.labels)} classes are too many to draw; use run.results().confusion",
        }
    counts = results.confusion.to_numpy().tolist()
    shares = [[round(count / max(1, sum(line)), 3) for count in line] for line in counts]
    return {"labels": list(results.labels), "counts": counts, "shares": shares, "note": ""}


def _wrong(results: "Results") -> int:
    return int((results.rows["label"] != results.rows["predicted"]).sum())


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip()  # a window may begin with an empty line
    if not isinstance(value, float):
        return value
    return f"{value:.2f}" if value < 1000 else f"{value:,.0f}"
