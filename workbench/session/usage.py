"""Python code that uses a saved model with plain transformers and without the workbench, for users to copy."""

import re

_LOAD = re.compile(r"from ([\w.]+) import (\w+)\nmodel = \2\.from_pretrained\(folder\)")
_READERS = {  # task -> (name of the tokenizer or image processor, its class)
    "text-classification": ("tokenizer", "AutoTokenizer"),
    "language-modeling": ("tokenizer", "AutoTokenizer"),
    "image-classification": ("processor", "AutoImageProcessor"),
}
_CLASS = "print(model.config.id2label[model(**inputs).logits.argmax().item()])"
_ASK = {
    "text-classification": (
        'inputs = tokenizer("a text", truncation=True, max_length=MAX_LENGTH, return_tensors="pt")',
        _CLASS,
    ),
    "language-modeling": (
        'inputs = tokenizer("a text", return_tensors="pt")',
        "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=40, do_sample=False)[0]))",
    ),
    "image-classification": (
        "from PIL import Image",
        'inputs = processor(Image.open("picture.png").convert("RGB"), return_tensors="pt")',
        _CLASS,
    ),
}


def loading(logged: str, task: str, path: str) -> str | None:
    """Return code that loads a saved model, and its tokenizer or image processor if the task is known.

    Args:
        logged: The code in the log, which may be a stranger's: anything but one import and one call gives None, because
            users copy and run this code.
        task: The task of the run.
        path: The folder of the model.
    """
    if (ours := _LOAD.fullmatch(logged)) is None:
        return None
    module, kind = ours.groups()
    lines = [f"from {module} import {kind}", f"folder = {path!r}", f"model = {kind}.from_pretrained(folder)"]
    if task in _READERS:
        name, reader = _READERS[task]
        lines[0] += f", {reader}" if module == "transformers" else f"\nfrom transformers import {reader}"
        lines.append(f"{name} = {reader}.from_pretrained(folder)")
    return "\n".join(lines)


def asking(task: str, max_length: int) -> str:
    """Return code that asks the loaded model for an answer; "" if the task is unknown.

    Args:
        task: The task of the run.
        max_length: The longest text, in tokens.
    """
    return "\n".join(_ASK.get(task, ())).replace("MAX_LENGTH", str(max_length))
