"""Text generation: continues a prompt, so that a person can judge a language model."""

import torch

from workbench.errors import RunError, counted
from workbench.models import Backbone


def complete(backbone: Backbone, prompt: str, *, max_new_tokens: int = 40) -> str:
    """Return the greedy continuation of `prompt`, at most `max_new_tokens` tokens long.

    Raises:
        RunError: The model is not a language model, or the prompt is empty or leaves no room for the tokens.
    """
    if backbone.task != "language-modeling":
        what = f"only a language model can continue a text, and the task of this run is {backbone.task}"
        raise RunError(what, hint="use a run with task='language-modeling'")
    tokenizer = backbone.preprocessor
    inputs = tokenizer(prompt, return_tensors="pt").to(backbone.model.device)
    if not inputs["input_ids"].numel():
        raise RunError("the prompt is empty", hint="give a few words to continue")
    length = inputs["input_ids"].shape[1]
    if max_new_tokens < 1:
        raise RunError(f"max_new_tokens is {max_new_tokens}; expected 1 or more", hint="use max_new_tokens=40")
    if (positions := backbone.positions) is not None and max_new_tokens > positions - length:
        raise RunError(
            f"a prompt of {counted(length, 'token')} and {max_new_tokens} more are too long: "
            f"this model reads at most {positions}",
            hint="use a shorter prompt or fewer tokens",
        )
    with torch.inference_mode():
        ids = backbone.model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    text: str = tokenizer.decode(ids[0, length:], skip_special_tokens=True)
    return text
