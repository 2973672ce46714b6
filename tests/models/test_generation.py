import pytest
import tiny

from workbench.errors import RunError
from workbench.models.generation import complete


def test_a_continuation_ends_at_the_last_position_of_the_model():
    backbone = tiny.backbone("llama")
    assert len(complete(backbone, "good film", max_new_tokens=5).split()) <= 5
    with pytest.raises(RunError, match="a prompt of 2 tokens and 63 more are too long: this model reads at most 64"):
        complete(backbone, "good film", max_new_tokens=63)
    with pytest.raises(RunError, match="tokens is 0"):
        complete(backbone, "good film", max_new_tokens=0)


def test_a_model_without_a_longest_input_takes_any():
    backbone = tiny.backbone("llama")
    backbone.model.config.max_position_embeddings = -1
    assert complete(backbone, "good film", max_new_tokens=5)
