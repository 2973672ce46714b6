"""The glossary: each word of fine-tuning that a panel, a page or a notebook uses, in a sentence or two.

It is the only place where a word is explained: the tooltips of the panels, docs/glossary.md and `wb.explain` read it.
"""

from collections.abc import Mapping

from workbench.errors import WorkbenchError, nearest

GLOSSARY: Mapping[str, str] = {
    "accuracy": "The share of rows for which the most probable class is the right one.",
    "adapter": "A few small matrices that are added to a frozen block. Only they are trained, so training needs less "
    "memory, and the block itself keeps its weights.",
    "backbone": "The pretrained model that fine-tuning starts from: it has already learnt from very many texts or "
    "images, and your rows teach it one more thing.",
    "baseline": "The score of a rule that learns nothing, such as always guessing the most common class. A model is "
    "only worth something if it beats that.",
    "batch": "The rows that the model reads at once. After each batch, or after a few, the weights change a little.",
    "block": "One of the similar parts that a network is stacked from, often called a layer. Blocks near the input "
    "know general things, blocks near the output know more about the task.",
    "checkpoint": "The state of a run after a step, saved on disk: weights, optimizer, position. From it, a run "
    "resumes after a break or a crash as if nothing had happened.",
    "dropout": "In training, a random share of the numbers inside the model is set to zero, so that it can't rely on "
    "any single one. It works against overfitting.",
    "early stopping": "The run ends by itself when the score on the validation rows has not improved for a while. It "
    "saves time and works against overfitting.",
    "encoder": "A model that reads a whole text at once and turns it into numbers, for example to put it into a class. "
    "It does not write.",
    "epoch": "One pass over all training rows.",
    "F1": "A score that is high only if few rows of a class are missed and few others are taken for it. The macro F1 "
    "counts each class equally, the weighted F1 by its number of rows.",
    "feature extraction": "Training only the head while every block of the backbone is frozen. It is the fastest way, "
    "and often enough.",
    "fine-tuning": "Training a pretrained model further on your own rows, so that it learns a task from few examples.",
    "fork": "A new run that begins where another one was after a step, with other choices from there on. The first "
    "run stays as it is.",
    "frozen": "Training does not change a frozen block: its weights stay as they are, bit for bit.",
    "gradient": "The direction in which each weight has to move so that the loss falls, computed from a batch.",
    "head": "The small last part of a model, which turns what the blocks have computed into an answer, for example a "
    "score for each class. For a new task it is new and untrained.",
    "hyperparameter": "A number that you choose before training, such as the learning rate; a parameter, or weight, "
    "is a number that training finds.",
    "label": "The class of a row, which the model learns to predict.",
    "language model": "A model that predicts the next token of a text. Token by token, it can write.",
    "learning rate": "How far each step moves the weights. Too high: training becomes unstable and the model forgets; "
    "too low: it learns too slowly.",
    "LoRA": "Low-rank adaptation: small adapters beside the frozen weights are trained in place of the weights. It "
    "needs less memory, and the adapters can be merged into the weights afterwards.",
    "loss": "How wrong the model is on average, in nats. Training makes it smaller: lower is better.",
    "nat": "The unit of the loss: minus the natural logarithm of the probability that the model gave to the right "
    "answer. 0 nats: certain and right; 0.69 nats: undecided between two.",
    "overfitting": "The model learns its training rows by heart: the training loss still falls, but the loss on the "
    "validation rows rises.",
    "perplexity": "The number of tokens that a language model hesitates between, on average: e to the power of its "
    "loss. Lower is better.",
    "plan": "All choices for a run: backbone, rows, layers, settings. Changing it affects the next run.",
    "retention": "How much the model still knows, after training, of what its backbone knew. Unfreezing its blocks one "
    "after another is a way to keep more of it.",
    "run": "One training from beginning to end. It is kept in a folder of its own, with its plan, its log, its "
    "checkpoints and its model.",
    "seed": "The number that all random choices follow from. The same seed gives the same run.",
    "step": "One change of the weights, after one batch or after a few.",
    "test rows": "Rows that are set aside for one last score. Nothing was chosen by looking at them, so that score is "
    "honest.",
    "token": "A piece of a word, which is what a language model reads and writes. An English word has about 1.3.",
    "trainable": "Training changes the weights of a trainable block; the others are frozen.",
    "training rows": "The rows that the model learns from.",
    "unfreezing": "Frozen blocks become trainable one after another, from the top, while a run goes on. It works "
    "against forgetting what the backbone knows.",
    "validation rows": "Rows that the model does not learn from. Its score on them, measured during the run, tells how "
    "well it does on rows that it has never seen.",
    "warm-up": "The first steps, in which the learning rate rises from zero, so that a new head does not spoil the "
    "pretrained blocks.",
    "weight decay": "Each step also pulls the weights a little towards zero. It works against overfitting.",
    "weights": "The numbers inside a model that training changes, also called parameters.",
}


def explain(word: str = "") -> str:
    """Return what a word of fine-tuning means, in a sentence or two; without an argument, the list of all words.

    Raises:
        WorkbenchError: The glossary has no such word; the message gives the nearest one.

    Examples:
        >>> explain("epoch")
        'One pass over all training rows.'
    """
    if not word:
        return f"explain(word) knows: {', '.join(GLOSSARY)}"
    known = {_key(name): name for name in GLOSSARY}
    key = _key(str(word))
    found = known.get(key) or known.get(key.removesuffix("s"))
    if found is None:
        raise WorkbenchError(f"the glossary has no word {word!r}", hint=nearest(str(word), GLOSSARY))
    return GLOSSARY[found]


def _key(word: str) -> str:
    """Return a word without what people write differently: "Warm up" and "warm-up" are the same."""
    return "".join(letter for letter in word.lower() if letter.isalnum())


def page() -> str:
    """Return the glossary as a page in Markdown."""
    lines = (f"**{word}**: {meaning}" for word, meaning in GLOSSARY.items())
    return "\n\n".join(["# Glossary", *lines]) + "\n"
