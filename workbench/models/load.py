"""Loads a backbone by catalog name, hub id or local folder, with the head for its task, in float32, ready to train.

A head that the checkpoint lacks is initialised from a seed, so that the same seed gives the same bits. Notes tell the
user about a new head or a substitute for the padding token. Left out: code that comes with a checkpoint, which is never
run, and quantized weights, which can't be trained.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workbench.errors import BackboneError, nearest
from workbench.models import catalog, heads
from workbench.models.blocks import Block, find
from workbench.models.heads import first_line
from workbench.models.locate import locate
from workbench.models.quiet import quiet
from workbench.plan.choices import TASKS, TaskName

READS: Mapping[bool, str] = {True: "images", False: "text"}  # whether a model is a vision model -> what it reads
ROUNDING = 1e-4  # of the largest logit: far above what rounding changes, and below what a later token does


@dataclass
class Backbone:
    """A pretrained model, ready to train, and what goes with it.

    Attributes:
        name: The name it was loaded by.
        model: The transformers model, in float32 and eval mode.
        preprocessor: Its tokenizer, or its image processor.
        task: The task of its head.
        blocks: Its parts, embeddings or stem first and head last.
        notes: What the user should know, in sentences.
    """

    name: str
    model: Any
    preprocessor: Any
    task: TaskName
    blocks: tuple[Block, ...]
    notes: tuple[str, ...] = field(default=())

    @property
    def positions(self) -> int | None:
        """How many tokens the model can read at once; None if nothing limits it, as for XLNet, whose config says -1."""
        found = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return found if found and found > 0 else None


def load(name: str, *, task: TaskName, labels: Sequence[str] = (), seed: int = 0) -> Backbone:
    """Return the backbone `name` with a head for `task`.

    Args:
        name: A name in the catalog, a hub id such as "google-bert/bert-base-uncased", or a local folder.
        task: The task of the head.
        labels: Names of the classes in id order; empty for language modeling.
        seed: Seed of a new head; the global generator is not changed.

    Raises:
        BackboneError: There is no such backbone, it needs a network, its files are broken, or it can't do the task.
        PackError: The offline pack of that name can't be downloaded.
    """
    if task not in TASKS:
        raise BackboneError(f"unknown task {task!r}", hint=nearest(task, TASKS))
    if task != "language-modeling" and len(labels) < 2:
        raise BackboneError(
            f"{task} needs two classes or more; got {list(labels)}",
            hint="give the names of the classes, as in labels=('no', 'yes')",
        )
    folder = locate(name)
    with quiet():
        config = _config(name, folder)
        _check_task(name, config, task)
        model, notes = heads.load(name, folder, config, task=task, labels=labels, seed=seed)
        preprocessor = _preprocessor(name, folder, task)
    if task != "image-classification":
        _check_vocabulary(name, preprocessor, model)
        notes += _ensure_padding(preprocessor, model)
    if task == "language-modeling":
        _check_causal(name, model)
    return Backbone(name, model, preprocessor, task, find(model), tuple(notes))


def load_saved(folder: Path, *, task: str) -> Backbone:
    """Return a model that a run has saved, with the head and the classes that it has.

    Raises:
        BackboneError: The folder has no such model, or it can't be loaded.
    """
    name = str(folder.resolve())
    if task not in TASKS:
        raise BackboneError(f"unknown task {task!r}", hint=nearest(task, TASKS))
    names = {} if task == "language-modeling" else dict(_config(name, locate(name)).id2label or {})
    return load(name, task=task, labels=[str(names[number]) for number in sorted(names)])


def _config(name: str, folder: Path) -> Any:
    from transformers import AutoConfig

    import workbench.models.efficientnet_lite  # registers its model with the Auto classes # noqa: F401

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        if "trust_remote_code" in str(error):
            raise BackboneError(
                f"{name} needs code of its own to run, and code from a checkpoint is never run here", hint=_others("")
            ) from error
        raise BackboneError(
            f"the config.json of {name} can't be read: {first_line(error)}",
            hint="use a folder that save_pretrained of a transformers model has written",
        ) from error
    if getattr(config, "quantization_config", None):
        raise BackboneError(
            f"the weights of {name} are quantized and can't be trained", hint="use the model before quantization"
        )
    return config


def _check_task(name: str, config: Any, task: TaskName) -> None:
    import transformers

    fits = type(config) in getattr(transformers, heads.MAPPINGS[task])
    is_encoder = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if task == "language-modeling" and is_encoder:
        entry = catalog.find(name)
        title = f"{entry.title} ({entry.family})" if entry else f"{name} ({config.model_type})"
        raise BackboneError(
            f"{title} is an encoder: it reads a text in both directions, so it can't predict the "
            "next token and has no perplexity",
            hint=_others(task),
        )
    if fits:
        return
    is_vision = type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    wants_images = task == "image-classification"
    if is_vision != wants_images:
        entry = catalog.find(name)
        title = entry.title.partition(" ")[0] if entry else name
        what = f"{title} reads {READS[is_vision]}, but this data is {READS[wants_images]}"
    else:
        what = f"{name} is a {config.model_type} model, which transformers has no head for {task} for"
    raise BackboneError(what, hint=_others(task))


def _others(task: str) -> str:
    kinds = catalog.SUITS.get(task, ("encoder", "decoder", "vision"))  # type: ignore[call-overload]
    fitting = [entry for kind in kinds for entry in catalog.TABLE if entry.kind == kind]
    offline = [entry.name for entry in fitting if entry.origin == "pack"]
    online = [entry.name for entry in fitting if entry.origin == "hub"]
    return f"use {' or '.join(offline)} (needs no network), or {', '.join(online[:3])} from the hub"


def _preprocessor(name: str, folder: Path, task: TaskName) -> Any:
    from transformers import AutoImageProcessor, AutoTokenizer

    is_image = task == "image-classification"
    try:
        if is_image:  # PIL gives the same pixels on every machine, with or without torchvision
            return AutoImageProcessor.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, backend="pil"
            )
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        what = "image processor (preprocessor_config.json)" if is_image else "tokenizer (tokenizer.json)"
        hint = f"save it into the folder too: {'processor' if is_image else 'tokenizer'}.save_pretrained(folder)"
        if "sentencepiece" in str(error):  # some repositories have no other form of their tokenizer
            hint = "pip install sentencepiece protobuf"
        raise BackboneError(f"{name} has no {what} that can be read: {first_line(error)}", hint=hint) from error


def _check_vocabulary(name: str, tokenizer: Any, model: Any) -> None:
    """Refuse the empty tokenizer that transformers creates if files are missing, and a tokenizer of another model."""
    tokens, rows = len(tokenizer), model.get_input_embeddings().weight.shape[0]
    if tokens <= len(tokenizer.all_special_ids):
        raise BackboneError(f"{name} has no tokenizer (tokenizer.json)", hint="tokenizer.save_pretrained(folder)")
    if tokens > rows:
        raise BackboneError(
            f"the tokenizer of {name} has {tokens:,} tokens and its model knows {rows:,}",
            hint="use the tokenizer that was saved with the model",
        )


def _check_causal(name: str, model: Any) -> None:
    """Refuse a model whose logits for a token depend on later tokens (XLNet): it sees what it should predict."""
    import torch

    ids = torch.tensor([[0, 1, 0], [0, 1, 1]])  # (batch, time): two texts that differ in the last token
    try:
        with torch.no_grad(), quiet():
            logits, others = model(input_ids=ids).logits[:, :-1]  # (time, vocabulary) each
    except Exception:  # a model that needs other inputs; the run will say what is missing
        return
    if (logits - others).abs().max() > ROUNDING * logits.abs().max():
        raise BackboneError(
            f"{name} reads a text in both directions, so it can't predict the next token and has no perplexity",
            hint=_others("language-modeling"),
        )


def _ensure_padding(tokenizer: Any, model: Any) -> list[str]:
    notes = []
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
        notes.append(
            f"the tokenizer has no padding token, so {tokenizer.pad_token} is used; padding does not count in the loss"
        )
    # classifiers on decoders find the last token of a text by this id, so it must be the one in padded batches
    model.config.get_text_config().pad_token_id = model.config.pad_token_id = tokenizer.pad_token_id
    return notes
