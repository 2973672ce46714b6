"""What a language model says, read by a person: how it goes on from a prompt."""

import torch

from workbench.errors import RunError
from workbench.models import Backbone


def complete(backbone: Backbone, prompt: str, *, tokens: int = 40) -> str:
    """Return how the model goes on from `prompt` by at most `tokens` tokens, the likeliest one each time.

    Raises:
        RunError: The model is no language model, or the prompt is empty.
    """
    if backbone.task != "language-modeling":
        raise RunError(f"this run's task is {backbone.task}, which completes no text", hint="a language-modeling run")
    tokenizer = backbone.preprocessor
    inputs = tokenizer(prompt, return_tensors="pt").to(backbone.model.device)
    if not inputs["input_ids"].numel():
        raise RunError("the prompt is empty", hint="a few words to go on from")
    length = inputs["input_ids"].shape[1]
    room = getattr(backbone.model.config.get_text_config(), "max_position_embeddings", None) or length + tokens
    if not 1 <= tokens <= room - length:
        raise RunError(
            f"{tokens} tokens after a prompt of {length}; this model has room for {room}", hint="a shorter prompt"
        )
    with torch.inference_mode():
        ids = backbone.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    text: str = tokenizer.decode(ids[0, length:], skip_special_tokens=True)
    return text
