"""Tiny random backbones and rows for tests: real architectures, made in milliseconds."""

import numpy as np
import pandas as pd
import transformers as tf
from datasets import Dataset
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers

from workbench.models import Backbone, blocks
from workbench.seeding import seeded

WORDS = [
    "good",
    "bad",
    "fine",
    "poor",
    "great",
    "awful",
    "film",
    "play",
    "plot",
    "scene",
    "we",
    "saw",
    "it",
    "was",
    "a",
    "the",
    "very",
    "not",
    "so",
    "dull",
    "bright",
]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
POSITIONS = {"max_position_embeddings": 64, "vocab_size": len(WORDS) + 3}


def tokenizer(side: str = "right"):
    vocabulary = {word: index for index, word in enumerate(["[PAD]", "[UNK]", "[EOS]", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="[PAD]",
        unk_token="[UNK]",
        eos_token="[EOS]",
        model_max_length=64,
        padding_side=side,
    )


def config(kind: str, dropout: float):
    pad = {"pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 2}
    if kind == "bert":
        drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return tf.BertConfig(**SIZES, **POSITIONS, **drops, pad_token_id=0)
    if kind == "gpt2":
        drops = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
        return tf.GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, vocab_size=len(WORDS) + 3, **drops, **pad)
    if kind == "llama":
        return tf.LlamaConfig(
            **SIZES, **POSITIONS, num_key_value_heads=2, attention_dropout=dropout, tie_word_embeddings=True, **pad
        )
    if kind == "vit":
        drops = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        return tf.ViTConfig(**SIZES, **drops, image_size=16, patch_size=8, num_channels=3)
    # Not fewer than 16 channels: see STAGED in architectures.py.
    return tf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic")


AUTO = {
    "text-classification": tf.AutoModelForSequenceClassification,
    "language-modeling": tf.AutoModelForCausalLM,
    "image-classification": tf.AutoModelForImageClassification,
}


def backbone(kind: str, *, task: str | None = None, dropout: float = 0.0, labels: int = 2, side: str = "right"):
    default = {"bert": "text-classification", "vit": "image-classification", "resnet": "image-classification"}
    task = task or default.get(kind, "language-modeling")
    settings = config(kind, dropout)
    if task != "language-modeling":
        settings.num_labels = labels
    with seeded(0):
        model = AUTO[task].from_config(settings)
    is_text = task != "image-classification"
    preprocessor = tokenizer(side) if is_text else tf.ViTImageProcessor(size={"height": 16, "width": 16})
    return Backbone(name=kind, model=model, preprocessor=preprocessor, task=task, blocks=blocks.find(model), notes=())


def texts(count: int = 40, *, longest: int = 12, seed: int = 0) -> list[str]:
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(WORDS, size=draw.integers(2, longest))) for _ in range(count)]


def frame(count: int = 40) -> pd.DataFrame:
    """Texts whose label can be learnt: whether a kind word stands in front."""
    rows = texts(count)
    return pd.DataFrame(
        {
            "text": [("good " if i % 2 else "bad ") + text for i, text in enumerate(rows)],
            "label": ["positive" if i % 2 else "negative" for i in range(count)],
        }
    )


def rows(kind: str, count: int = 40) -> Dataset:
    """Canonical rows, as `workbench.data` hands them on."""
    if kind in ("vit", "resnet"):
        draw = np.random.default_rng(0)
        images = [Image.fromarray(draw.integers(0, 255, (16, 16), dtype=np.uint8)) for _ in range(count)]
        return Dataset.from_dict({"image": images, "label": [i % 2 for i in range(count)]})
    return Dataset.from_dict({"text": texts(count), "label": [i % 2 for i in range(count)]})
