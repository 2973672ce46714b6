"""Converts the SmolLM2 pack, one quantized GGUF file, to a standard folder that `from_pretrained` reads quickly.

The weights are dequantized to float32 once, so that the model can be trained and saved. transformers reads the GGUF
file, with the library `gguf`.

Left out: other GGUF models.
"""

from pathlib import Path
from typing import Any

from workbench.errors import PackError

NAME = "SmolLM2-135M-Instruct"


def convert(source: Path, target: Path) -> None:
    """Write config, float32 safetensors and tokenizer of SmolLM2 to `target`.

    Args:
        source: The GGUF file, or a folder that holds it at any depth.
        target: The folder to write; it is created if missing.

    Raises:
        PackError: `source` does not have exactly one GGUF file.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from workbench.models.quiet import quiet

    file = _gguf_file(source)
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent),
            gguf_file=file.name,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),  # quantized weights could not be saved
            local_files_only=True,
            trust_remote_code=False,
        )
        tokenizer = AutoTokenizer.from_pretrained(
            str(file.parent), gguf_file=file.name, local_files_only=True, trust_remote_code=False
        )
        model.config._model_name_or_path = NAME  # the file has the name of an internal training stage
        _split_digits(tokenizer)
        tokenizer.model_max_length = model.config.max_position_embeddings
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)


def _gguf_file(source: Path) -> Path:
    files = [source] if source.is_file() else sorted(source.rglob("*.gguf"))
    if len(files) != 1:
        raise PackError(f"{source} holds {len(files)} GGUF files; expected one", hint="fetch the pack again")
    return files[0]


def _split_digits(tokenizer: Any) -> None:
    """Split numbers into single digits before the merges, as in the training of SmolLM2 (`pre` is "smollm").

    The GGUF reader of transformers supports only the splitting of GPT-2, which treats spaces before a number
    differently.
    """
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    split = [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(split)
