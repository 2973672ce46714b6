"""The table of backbones: names are unique, figures are those that the architectures really have."""

import sys

import pytest
import torch
import transformers as tf

from workbench import packs
from workbench.models import catalog

BERT_LIKE = {"vocab_size": 50_265, "max_position_embeddings": 514, "type_vocab_size": 1}
QWEN3 = {
    "vocab_size": 151_936,
    "hidden_size": 1024,
    "intermediate_size": 3072,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": True,
}
VISION = {"num_labels": 1000}
BUILDS = {
    "gpt2": (tf.GPT2LMHeadModel, tf.GPT2Config()),
    "distilgpt2": (tf.GPT2LMHeadModel, tf.GPT2Config(n_layer=6)),
    "opt-125m": (tf.OPTForCausalLM, tf.OPTConfig()),
    "qwen3-0.6b": (tf.Qwen3ForCausalLM, tf.Qwen3Config(**QWEN3)),
    "bert-base": (tf.BertModel, tf.BertConfig()),
    "distilbert": (tf.DistilBertModel, tf.DistilBertConfig()),
    "roberta-base": (tf.RobertaModel, tf.RobertaConfig(**BERT_LIKE)),
    "modernbert-base": (tf.ModernBertModel, tf.ModernBertConfig()),
    "electra-small": (tf.ElectraModel, tf.ElectraConfig()),
    "resnet-50": (tf.ResNetForImageClassification, tf.ResNetConfig(**VISION)),
    "convnext-tiny": (tf.ConvNextForImageClassification, tf.ConvNextConfig(**VISION)),
    "vit-base": (tf.ViTForImageClassification, tf.ViTConfig(**VISION)),
    "swin-tiny": (tf.SwinForImageClassification, tf.SwinConfig(**VISION)),
}


def test_names_and_identifiers_are_unique():
    assert len({entry.name for entry in catalog.TABLE}) == len(catalog.TABLE)
    assert len({entry.identifier for entry in catalog.TABLE}) == len(catalog.TABLE)


def test_offline_packs_come_first_and_exist():
    offline = [entry.identifier for entry in catalog.TABLE if entry.origin == "pack"]
    assert [entry.identifier for entry in catalog.TABLE][: len(offline)] == offline
    assert {*offline} == {pack.name for pack in packs.TABLE if pack.kind == "backbone"}


def test_found_by_name_and_by_identifier():
    entry = catalog.find("bert-base")
    assert entry is not None
    assert catalog.find("google-bert/bert-base-uncased") is entry
    assert catalog.find("nobody") is None


@pytest.mark.parametrize("name", BUILDS)
def test_parameters_are_exact(name):
    kind, config = BUILDS[name]
    with torch.device("meta"):
        model = kind(config)
    assert catalog.find(name).parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("entry", catalog.TABLE, ids=lambda entry: entry.name)
def test_download_fits_the_parameters(entry):
    bytes_each = entry.size_mb * 1e6 / entry.parameters
    assert 0.5 < bytes_each < 5.5  # four bits (a quantized pack) to float32 with an extra head
    assert entry.kind in ("decoder", "encoder", "vision")


def test_the_table_needs_no_torch():
    import subprocess

    code = "import sys, workbench.models.catalog; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
