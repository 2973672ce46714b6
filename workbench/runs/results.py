"""Results: what a model got right and wrong on held-out rows, row by row and class by class.

The rows are evaluated as the run evaluates them: the same rows, batches, precision and shortcuts. So the accuracy of
these results is the one that the run logged at that step.
"""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from torch.nn import functional as F

from workbench.data.pictures import PictureFrame
from workbench.errors import RunError
from workbench.events import EvaluationEnded
from workbench.runs.plot_results import plot_classes, plot_losses
from workbench.tasks.examples import Examples
from workbench.tasks.metrics import perplexity
from workbench.training.learner import Learner, counted_nats, score
from workbench.training.step import prepare

WORST = 50  # how many mistakes are listed
OnRows = Callable[[int, int], None]  # is called with the number of rows evaluated, and of rows to evaluate


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a model on the rows of one split.

    Attributes:
        step: The step of the run.
        split: validation | test | train
        labels: Names of the classes in id order; () for a language model.
        metrics: The metrics of the task, as an evaluation logs them: loss (nats per target), accuracy, F1 …
        rows: One line per row. For a classifier: "row" (0-based number in the source), "text", "label", "predicted",
            its "probability", and "loss" in nats. For a language model, one line per window of at most `max_length`
            tokens: "row", "text", "tokens" that are scored, "loss" in nats per token, and "perplexity".
        seconds: How long the evaluation took.
        drawn_from: Number of rows (or windows) that these are a sample of, as `evaluation_rows` says; None if they are
            all.
    """

    step: int
    split: str
    labels: tuple[str, ...]
    metrics: Mapping[str, float]
    rows: pd.DataFrame
    seconds: float
    _source: Dataset  # the rows of the split; pictures are read from it when they are needed
    _numbers: tuple[int, ...]  # the row of the split of each line
    drawn_from: int | None = None

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.metrics.items())
        return f"<results at step {self.step} on {self.rows_in_words('rows')}: {values}>"

    def rows_in_words(self, noun: str) -> str:
        """Return how many rows these are, and of how many: "400 of 1,511 validation rows (a sample: …)"."""
        if self.drawn_from is None:
            return f"{len(self.rows):,} {self.split} {noun}"
        sample = "a sample: evaluation_rows"
        return f"{len(self.rows):,} of {self.drawn_from:,} {self.split} {noun} ({sample})"

    @functools.cached_property
    def confusion(self) -> pd.DataFrame:
        """The number of rows of each true class (line) that were predicted as each class (column).

        Raises:
            RunError: The run trains a language model.
        """
        from sklearn.metrics import confusion_matrix

        self._check_classes()
        counts = confusion_matrix(self.rows["label"], self.rows["predicted"], labels=list(self.labels))
        frame = pd.DataFrame(counts, index=[*self.labels], columns=[*self.labels])
        return frame.rename_axis(index="true", columns="predicted")

    @functools.cached_property
    def per_class(self) -> pd.DataFrame:
        """The precision, recall, F1 and support (number of rows) of each class; 0 where they are not defined.

        Raises:
            RunError: The run trains a language model.
        """
        from sklearn.metrics import precision_recall_fscore_support

        self._check_classes()
        found = precision_recall_fscore_support(
            self.rows["label"], self.rows["predicted"], labels=list(self.labels), zero_division=0
        )
        return pd.DataFrame(dict(zip(("precision", "recall", "f1", "support"), found, strict=True)), index=self.labels)

    @functools.cached_property
    def mistakes(self) -> pd.DataFrame:
        """The rows with the highest loss, the worst first, at most 50: of a classifier only those that are wrong.

        For an image model, they have a column "image", which a notebook shows as pictures.
        """
        wrong = self.rows if not self.labels else self.rows[self.rows["label"] != self.rows["predicted"]]
        worst = wrong.sort_values("loss", ascending=False, kind="stable").head(WORST)
        if "image" not in self._source.column_names:
            return worst
        frame = PictureFrame(worst)
        frame.insert(1, "image", [self._source[self._numbers[line]]["image"] for line in worst.index])
        return frame

    def as_evaluation(self) -> EvaluationEnded:
        """Return the metrics as an event."""
        targets = len(self.rows) if self.labels else int(self.rows["tokens"].sum())
        return EvaluationEnded(
            step=self.step,
            split=self.split,
            metrics=self.metrics,
            rows=len(self.rows),
            targets=targets,
            seconds=self.seconds,
        )

    def plot(self) -> Any:
        """Return a matplotlib Figure: the confusion matrix and the scores per class, or the loss of each row."""
        return plot_classes(self) if self.labels else plot_losses(self)

    def _check_classes(self) -> None:
        if not self.labels:
            raise RunError("a language model predicts no classes", hint="use .mistakes or .rows")


def results_of(
    learner: Learner,
    examples: Examples,
    source: Dataset,
    labels: tuple[str, ...],
    *,
    split: str = "validation",
    progress: OnRows = lambda done, of: None,
) -> Results:
    """Evaluate the learner row by row.

    Args:
        learner: The learner; its state is not changed.
        examples: The examples to evaluate on.
        source: The rows of the split that the examples were made from.
        labels: Names of the classes in id order; () for a language model.
        split: Name of the split.
        progress: Is called after each batch.
    """
    if examples is learner.validation:
        for _ in prepare(learner, ("validation",)):  # with the shortcuts of the run, each digit is the same
            pass
    start = time.perf_counter()
    learner.model.eval()
    with torch.no_grad():
        measure = _classified if labels else _predicted_tokens
        lines, loss = measure(learner, examples, progress)
    numbers = tuple(examples.row(index) for index in range(len(examples)))
    content: dict[str, Any] = {"row": np.array(source["row"])[list(numbers)]}
    if labels:
        truth, found = lines.pop("label"), lines.pop("predicted")
        metrics = learner.task.metrics(loss, found.tolist(), truth.tolist())
        if "text" in source.column_names:
            content["text"] = source.select(numbers)["text"][:]
        lines = {"label": [labels[i] for i in truth], "predicted": [labels[i] for i in found], **lines}
    else:
        metrics = learner.task.metrics(loss, (), ())
        content["text"] = [learner.backbone.preprocessor.decode(ids.tolist()) for ids, _ in examples.items]
    rows, seconds = pd.DataFrame({**content, **lines}), time.perf_counter() - start
    return Results(learner.step, split, labels, metrics, rows, seconds, source, numbers, examples.drawn_from)


def _classified(learner: Learner, examples: Examples, progress: OnRows) -> tuple[dict[str, Any], float]:
    """Return the true class, the predicted one, its probability and the loss of each example, and the mean loss."""
    choice, done = learner.plan.tuning, 0
    found: dict[str, Any] = {name: np.zeros(len(examples), dtype=int) for name in ("label", "predicted")}
    found |= {name: np.zeros(len(examples)) for name in ("probability", "loss")}
    for indices in examples.sorted_batches(min(64, choice.batch_size), tokens=choice.batch_tokens):
        logits, truth = score(learner, learner.batch(examples, indices))
        log_probabilities = F.log_softmax(logits.float().cpu().double(), dim=-1)  # (rows, classes)
        found["label"][indices] = truth.tolist()
        found["predicted"][indices] = logits.argmax(-1).tolist()
        found["probability"][indices] = log_probabilities.max(-1).values.exp()
        found["loss"][indices] = F.nll_loss(log_probabilities, truth.cpu(), reduction="none")
        progress(done := done + len(indices), len(examples))
    return found, float(found["loss"].mean())


def _predicted_tokens(learner: Learner, examples: Examples, progress: OnRows) -> tuple[dict[str, Any], float]:
    """Return the scored tokens, the loss per token and the perplexity of each window, and the loss of all tokens."""
    nats, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=int)
    for done, (index,) in enumerate(examples.sorted_batches(1), start=1):
        summed, tokens[index] = counted_nats(learner, learner.batch(examples, [index]))
        nats[index] = summed.item()
        progress(done, len(examples))
    losses = nats / tokens
    lines = {"tokens": tokens, "loss": losses, "perplexity": [perplexity(loss) for loss in losses]}
    return lines, float(nats.sum() / tokens.sum())
