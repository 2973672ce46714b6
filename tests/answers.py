"""What a model of tests/architectures.py answers to a small batch, and whether two answers are alike."""

import architectures
import torch
from rounding import differ

PAD, END = 0, 2  # ids of tokens


def inputs(model, rows, time, seed=0):
    """Rows of a batch; of texts, the first has two places of padding."""
    draw = torch.Generator().manual_seed(seed)
    if isinstance(model, architectures.Mixture):
        return {"ids": torch.randint(3, 60, (rows, time), generator=draw)}, time
    if getattr(model, "main_input_name", "") == "input_ids":
        ids = torch.randint(3, 60, (rows, time), generator=draw)
        ids[:, -1], ids[0, -3] = END, END
        ids[0, -2:] = PAD
        return {"input_ids": ids, "attention_mask": (ids != PAD).long()}, time
    side = getattr(getattr(model, "config", None), "image_size", 32)
    name = "pixel_values" if hasattr(model, "config") else "x"
    return {name: torch.randn(rows, 3, side, side, generator=draw)}, 0


def answer(model, batch):
    extra = {"use_cache": False} if getattr(getattr(model, "config", None), "is_encoder_decoder", False) else {}
    out = model(**batch, **extra)
    return getattr(out, "logits", out)


def answered(model, batch):
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logits = answer(model, batch)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    return logits, torch.autograd.grad((logits * weights).sum(), learning, allow_unused=True)


def assert_alike(whole, above):
    assert differ(above[0], whole[0]) < 1e-5
    for one, other in zip(whole[1], above[1], strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-3, atol=1e-5 * max(1.0, one.abs().max().item()))
