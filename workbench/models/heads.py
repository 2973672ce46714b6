"""Loads the weights of a checkpoint into a model with the head that the task needs.

A head that is missing or was trained for other classes is initialised from a seed; the same seed gives the same bits.

Left out: checkpoints that lack more than a fifth of the base model. They raise an error.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.errors import BackboneError, counted
from workbench.plan.choices import TaskName

BUILDERS: Mapping[TaskName, str] = {  # task -> the class of transformers that loads its models
    "text-classification": "AutoModelForSequenceClassification",
    "language-modeling": "AutoModelForCausalLM",
    "image-classification": "AutoModelForImageClassification",
}
MAPPINGS: Mapping[TaskName, str] = {  # task -> table of transformers that lists the architectures with a head for it
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "language-modeling": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
}


def load(
    name: str, folder: Path, config: Any, *, task: TaskName, labels: Sequence[str], seed: int
) -> tuple[Any, list[str]]:
    """Return the model in float32 and eval mode, and notes about its head.

    The head is initialised from the seed if the checkpoint lacks it or it was trained for other classes.

    Args:
        name: Name that the user gave, for messages.
        folder: Folder of the model's files.
        config: Configuration of the model.
        task: Task of the head.
        labels: Names of the classes in id order; empty for language modeling.
        seed: Seed of a new head. The global generator is restored.

    Raises:
        BackboneError: The weights can't be read, or do not fit the configuration.
    """
    import torch
    import transformers

    from workbench.seeding import seeded

    options: dict[str, Any] = {}
    if task != "language-modeling":
        id2label = dict(enumerate(labels))
        options = {"id2label": id2label, "label2id": {label: i for i, label in id2label.items()}}
        options |= {"num_labels": len(labels), "ignore_mismatched_sizes": True}
    had = dict(config.id2label or {})
    builder = getattr(transformers, BUILDERS[task])
    with seeded(seed):
        try:
            model, info = builder.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                **options,
            )
        except Exception as error:
            raise BackboneError(
                f"the weights of {name} can't be read: {first_line(error)}", hint="download or save the model again"
            ) from error
        new = _new_names(name, model, info)
        if not new and options and _are_other_classes(had, labels):
            new = _renew_head(model)
    return model.eval(), _head_notes(new, task)


def _new_names(name: str, model: Any, info: Mapping[str, Any]) -> set[str]:
    """Return the names of the parameters that the checkpoint lacks.

    Raises:
        BackboneError: More than a fifth of the base model is missing, so the weights are those of another model.
    """
    mismatched = {key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]}
    new = {*info["missing_keys"], *mismatched}
    base = f"{model.base_model_prefix}."
    sizes = {key: tensor.numel() for key, tensor in model.state_dict().items()}
    missing = sum(sizes.get(key, 0) for key in new if key.startswith(base))
    if missing > 0.2 * math.fsum(size for key, size in sizes.items() if key.startswith(base)):
        raise BackboneError(
            f"the weights of {name} do not fit its config.json: "
            f"{counted(len(new), 'tensor is', 'tensors are')} missing or of another shape, such as {min(new)}",
            hint="download or save the model again",
        )
    return new


def _are_other_classes(had: Mapping[int, str], labels: Sequence[str]) -> bool:
    """Whether a head of the right size was trained for classes of other names; names like LABEL_0 don't count."""
    names = [had[key] for key in sorted(had)]
    return names != list(labels) and not all(str(name).startswith("LABEL_") for name in names)


def _renew_head(model: Any) -> set[str]:
    """Initialise all modules outside the base model again; return the names of their parameters."""
    head = [module for module in model.children() if module is not model.base_model]
    parameters = {id(parameter) for module in head for parameter in module.parameters()}
    for module in (inner for part in head for inner in part.modules()):
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            tensor._is_hf_initialized = False
        model._init_weights(module)
    return {name for name, parameter in model.named_parameters() if id(parameter) in parameters}


def _head_notes(new: Iterable[str], task: TaskName) -> list[str]:
    if not new:
        return (
            [] if task == "language-modeling" else ["the classifier on top comes with the model and is already trained"]
        )
    names = sorted(new)
    listed = f"{', '.join(names[:4])}{' …' if len(names) > 4 else ''}"
    return [f"the classifier on top is new and untrained ({listed})"]


def first_line(error: Exception) -> str:
    """Return the class of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
