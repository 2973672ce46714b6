"""The two that `checkpoints.py` compares: a run of ours, and one of the stock Hugging Face Trainer.

Same tiny BERT with its dropout, same rows, a checkpoint at every step of which three are kept. Each is carried out in a
process of its own and goes on from whatever it finds.
"""

import copy
import functools
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the threads of a tokenizer and a fork don't mix

import pandas as pd
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.trainer_utils import get_last_checkpoint

from workbench import run
from workbench.events import CheckpointSaved, RunEnded, RunResumed
from workbench.models import Backbone, blocks
from workbench.plan.choices import Plan
from workbench.runs.disk.run_folder import RunFolder
from workbench.runs.preparation import Preparation

STEPS, KEPT, BATCH = 6, 3, 8
WORDS = [f"w{number}" for number in range(2000)]
SHAPE = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
PLAN = Plan().change(
    backbone="tiny",
    trainable="all",
    batch_size=BATCH,
    max_steps=STEPS,
    epochs=100,
    evaluate_every=1000,
    checkpoint_every=1,
    keep_last=KEPT,
    save_model="none",
    precision="fp32",
    device="cpu",
    max_length=16,
)


class Prepared(Preparation):
    """Rows and a model made here, in place of downloaded ones."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        picked = torch.randint(len(WORDS), (80, 12), generator=draw).tolist()
        texts = [" ".join(WORDS[index] for index in row) for row in picked]
        super().__init__(pd.DataFrame({"text": texts, "label": ["even" if row[0] % 2 else "odd" for row in picked]}))
        vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
        torch.manual_seed(0)
        config = tf.BertConfig(**SHAPE, vocab_size=len(vocabulary), max_position_embeddings=16, num_labels=2)
        model = tf.BertForSequenceClassification(config).eval()
        self._made = Backbone("tiny", model, tokenizer, "text-classification", blocks.find(model))
        self.examples(self.label_objects(PLAN))  # encoded before any fork

    def backbone(self, plan: Plan) -> Backbone:
        """Return the one that was made."""
        return self._made


class Runner(Protocol):
    """A way to train in which a run can be taken up again.

    A run has a `place`, where it writes, and `notes`, where what is said of it is kept out of harm's way.
    """

    name: str
    by_hand: bool  # whether a checkpoint can be named

    def begin(self, place: Path) -> None:
        """Make a run that has not started yet."""

    def carry_out(self, place: Path, notes: Path, *, stop_at: int | None, by_hand: int | None) -> None:
        """Train from the newest checkpoint there is, or from the one named by hand, to the end.

        With `stop_at`, the process is gone as soon as this step's checkpoint was reported.
        """

    def folder(self, place: Path) -> Path:
        """Return where the checkpoints lie."""

    def reported(self, place: Path, notes: Path) -> int:
        """Return the newest step that was said to be saved; 0 for none."""

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return where the checkpoint of a step lies."""


def newest(runner: Runner, place: Path) -> int:
    """Return the newest step of which anything was begun to be saved; 0 for none."""
    try:
        names = os.listdir(runner.folder(place))
    except FileNotFoundError:
        return 0
    found = [re.search(r"(?:step|checkpoint)-(\d+)", name) for name in names]
    return max((int(match[1]) for match in found if match), default=0)


def final_weights(runner: Runner, place: Path) -> str | None:
    """Return the sha256 of the weights after the last step, as they lie on disk."""
    files = list(runner.checkpoint(place, STEPS).glob("*.safetensors"))
    weights = [file for file in files if file.stem in ("weights", "model")]
    return hashlib.sha256(weights[0].read_bytes()).hexdigest() if weights else None


def resumed_from(notes: Path) -> int:
    """Return the step that the last process went on from; 0 for none."""
    try:
        return int((notes / "resumed").read_text())
    except FileNotFoundError:
        return 0


class Ours:
    """`workbench.runs.run` on a run folder."""

    name, by_hand = "ours", False

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def begin(self, place: Path) -> None:
        """Write the plan and nothing else."""
        RunFolder.create(self._prepared.label_objects(PLAN), place)

    def carry_out(self, place: Path, notes: Path, *, stop_at: int | None = None, by_hand: int | None = None) -> None:
        """Go through all events, if the run is not over."""
        if ended := [event for event in self._run(place).events() if isinstance(event, RunEnded)]:
            (notes / "resumed").write_text(str(ended[-1].step))
            return
        for event in run(folder=self._run(place), preparation=self._prepared):
            if isinstance(event, RunResumed):
                (notes / "resumed").write_text(str(event.step))
            if isinstance(event, CheckpointSaved) and event.step == stop_at:
                os._exit(0)

    def folder(self, place: Path) -> Path:
        """Return the one inside the run folder."""
        return _only_run(place) / "checkpoints"

    def reported(self, place: Path, notes: Path) -> int:
        """Read the log."""
        return max((event.step for event in self._run(place).events() if isinstance(event, CheckpointSaved)), default=0)

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return its folder."""
        return self.folder(place) / f"step-{step:06d}"

    def _run(self, place: Path) -> RunFolder:
        return RunFolder(_only_run(place))


@functools.cache
def _only_run(place: Path) -> Path:
    (plan,) = place.glob("*/plan.json")
    return plan.parent


class Trainer:
    """`transformers.Trainer` with its defaults, told to save at every step and to resume."""

    name, by_hand = "trainer", True

    def __init__(self, prepared: Prepared) -> None:
        self._model = prepared.backbone(PLAN).model
        self._examples, _ = prepared.examples(prepared.label_objects(PLAN))
        tf.utils.logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:  # the first save of a process builds tables for all models
            self._model.save_pretrained(folder)

    def begin(self, place: Path) -> None:
        """It needs nothing."""

    def carry_out(self, place: Path, notes: Path, *, stop_at: int | None = None, by_hand: int | None = None) -> None:
        """Train, going on as Hugging Face's own example scripts do: from the newest checkpoint, if there is one."""
        settings = tf.TrainingArguments(
            output_dir=str(place),
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            save_strategy="steps",
            save_steps=1,
            save_total_limit=KEPT,
            seed=0,
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
        )
        trainer = tf.Trainer(
            copy.deepcopy(self._model),
            settings,
            train_dataset=self._examples.items,
            data_collator=self._examples.collate,
            callbacks=[_Notes(notes, stop_at)],
        )
        found = str(self.checkpoint(place, by_hand)) if by_hand else get_last_checkpoint(str(place)) is not None
        trainer.train(resume_from_checkpoint=found or None)

    def folder(self, place: Path) -> Path:
        """Return its output folder."""
        return place

    def reported(self, place: Path, notes: Path) -> int:
        """Read what the callback noted."""
        path = notes / "saved"
        return max(map(int, path.read_text().split()), default=0) if path.exists() else 0

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return its folder."""
        return place / f"checkpoint-{step}"


class _Notes(tf.TrainerCallback):
    """Notes what the Trainer says: which step it goes on from, and which steps are saved."""

    def __init__(self, notes: Path, stop_at: int | None) -> None:
        self._notes, self._stop_at = notes, stop_at

    def on_train_begin(self, args: object, state: tf.TrainerState, control: object, **_: object) -> None:
        (self._notes / "resumed").write_text(str(state.global_step))

    def on_save(self, args: object, state: tf.TrainerState, control: object, **_: object) -> None:
        with (self._notes / "saved").open("a") as file:
            file.write(f"{state.global_step}\n")
        if state.global_step == self._stop_at:
            os._exit(0)
