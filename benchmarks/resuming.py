"""The two sides that `checkpoints.py` compares: our run, and that of the stock Hugging Face Trainer.

Both have the same tiny BERT with dropout, the same rows, and a checkpoint at every step, of which three are kept. Each
runs in its own process and resumes from the checkpoints that it finds.
"""

import copy
import functools
import hashlib
import os
import re
import tempfile
from pathlib import Path
from typing import Protocol

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # forked processes can hang if the tokenizer has used threads

import pandas as pd
import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.trainer_utils import get_last_checkpoint

from workbench import run
from workbench.events import CheckpointSaved, RunEnded, RunResumed
from workbench.models import Backbone, blocks
from workbench.plan.plan import Plan
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
    """Prepares random rows and a random model instead of downloaded ones."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        picked = torch.randint(len(WORDS), (80, 12), generator=generator).tolist()
        texts = [" ".join(WORDS[index] for index in row) for row in picked]
        super().__init__(pd.DataFrame({"text": texts, "label": ["even" if row[0] % 2 else "odd" for row in picked]}))
        vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
        core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
        core.pre_tokenizer = pre_tokenizers.Whitespace()
        tokenizer = tf.PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")
        torch.manual_seed(0)
        config = tf.BertConfig(**SHAPE, vocab_size=len(vocabulary), max_position_embeddings=16, num_labels=2)
        model = tf.BertForSequenceClassification(config).eval()
        self._backbone = Backbone("tiny", model, tokenizer, "text-classification", blocks.find(model))
        self.examples(self.label_objects(PLAN))  # encoded before any fork

    def backbone(self, plan: Plan) -> Backbone:
        """Return the random model."""
        return self._backbone


class Runner(Protocol):
    """A way to train that can resume an interrupted run.

    A run writes to the folder `place`. Notes about the run are kept in the folder `notes`, which is never damaged.
    """

    name: str
    by_hand: bool  # whether the user can choose the checkpoint to resume from

    def begin(self, place: Path) -> None:
        """Create a run without starting it."""

    def train(self, place: Path, notes: Path, *, stop_at: int | None, by_hand: int | None) -> None:
        """Train to the end, from the newest checkpoint or from that of the step `by_hand`.

        With `stop_at`, the process ends as soon as the checkpoint of this step has been reported.
        """

    def checkpoint_folder(self, place: Path) -> Path:
        """Return the folder of the checkpoints."""

    def reported(self, place: Path, notes: Path) -> int:
        """Return the newest step that was reported as saved; 0 for none."""

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""


def newest_begun(runner: Runner, place: Path) -> int:
    """Return the newest step whose checkpoint was begun, complete or not; 0 for none."""
    try:
        names = os.listdir(runner.checkpoint_folder(place))
    except FileNotFoundError:
        return 0
    found = [re.search(r"(?:step|checkpoint)-(\d+)", name) for name in names]
    return max((int(match[1]) for match in found if match), default=0)


def final_weights(runner: Runner, place: Path) -> str | None:
    """Return the sha256 of the saved weights of the last step, or None if there are none."""
    files = list(runner.checkpoint(place, STEPS).glob("*.safetensors"))
    weights = [file for file in files if file.stem in ("weights", "model")]
    return hashlib.sha256(weights[0].read_bytes()).hexdigest() if weights else None


def resumed_from(notes: Path) -> int:
    """Return the step from which the last process resumed; 0 for none."""
    try:
        return int((notes / "resumed").read_text())
    except FileNotFoundError:
        return 0


class Ours:
    """`workbench.run` on a run folder."""

    name, by_hand = "ours", False

    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared

    def begin(self, place: Path) -> None:
        """Create a run folder with the plan."""
        RunFolder.create(self._prepared.label_objects(PLAN), place)

    def train(self, place: Path, notes: Path, *, stop_at: int | None = None, by_hand: int | None = None) -> None:
        """Run or resume, if the run has not ended."""
        if ended := [event for event in self._run(place).events() if isinstance(event, RunEnded)]:
            (notes / "resumed").write_text(str(ended[-1].step))
            return
        for event in run(folder=self._run(place), preparation=self._prepared):
            if isinstance(event, RunResumed):
                (notes / "resumed").write_text(str(event.step))
            if isinstance(event, CheckpointSaved) and event.step == stop_at:
                os._exit(0)

    def checkpoint_folder(self, place: Path) -> Path:
        """Return the folder of checkpoints in the run folder."""
        return _only_run(place) / "checkpoints"

    def reported(self, place: Path, notes: Path) -> int:
        """Return the newest step of which the log says that it was saved."""
        return max((event.step for event in self._run(place).events() if isinstance(event, CheckpointSaved)), default=0)

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return self.checkpoint_folder(place) / f"step-{step:06d}"

    def _run(self, place: Path) -> RunFolder:
        return RunFolder(_only_run(place))


@functools.cache
def _only_run(place: Path) -> Path:
    (plan,) = place.glob("*/plan.json")
    return plan.parent


class Trainer:
    """`transformers.Trainer` with its defaults, set to save at every step and to resume."""

    name, by_hand = "trainer", True

    def __init__(self, prepared: Prepared) -> None:
        self._model = prepared.backbone(PLAN).model
        self._examples, _ = prepared.examples(prepared.label_objects(PLAN))
        tf.utils.logging.disable_progress_bar()
        with tempfile.TemporaryDirectory() as folder:  # the first save of a process is slow; later ones are forked
            self._model.save_pretrained(folder)

    def begin(self, place: Path) -> None:
        """Do nothing: the Trainer needs no preparation."""

    def train(self, place: Path, notes: Path, *, stop_at: int | None = None, by_hand: int | None = None) -> None:
        """Train from the newest checkpoint, if there is one, as the example scripts of Hugging Face do."""
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

    def checkpoint_folder(self, place: Path) -> Path:
        """Return the output folder."""
        return place

    def reported(self, place: Path, notes: Path) -> int:
        """Return the newest step that the callback has noted as saved."""
        path = notes / "saved"
        return max(map(int, path.read_text().split()), default=0) if path.exists() else 0

    def checkpoint(self, place: Path, step: int) -> Path:
        """Return the folder of the checkpoint of a step."""
        return place / f"checkpoint-{step}"


class _Notes(tf.TrainerCallback):
    """Notes from which step the Trainer resumes and which steps it reports as saved."""

    def __init__(self, notes: Path, stop_at: int | None) -> None:
        self._notes, self._stop_at = notes, stop_at

    def on_train_begin(self, args: object, state: tf.TrainerState, control: object, **_: object) -> None:
        (self._notes / "resumed").write_text(str(state.global_step))

    def on_save(self, args: object, state: tf.TrainerState, control: object, **_: object) -> None:
        with (self._notes / "saved").open("a") as file:
            file.write(f"{state.global_step}\n")
        if state.global_step == self._stop_at:
            os._exit(0)
