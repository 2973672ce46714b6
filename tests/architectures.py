"""Tiny random models of many architectures: made from configurations, in milliseconds, with dropout on."""

from collections.abc import Callable

import pytest
import torch
import transformers as tf
from torch import nn

from workbench.models.efficientnet_lite import EfficientNetLiteConfig

LAYERS, STAGES = 3, 2
TEXT = {"vocab_size": 60, "num_labels": 3, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"hidden_size": 16, "num_hidden_layers": LAYERS, "num_attention_heads": 2, "intermediate_size": 24}
BERT = {**TEXT, **SIZES, "max_position_embeddings": 40}
LLAMA = {**BERT, "num_key_value_heads": 1, "head_dim": 8, "attention_dropout": 0.1}
GPT2 = {**TEXT, "n_embd": 16, "n_layer": LAYERS, "n_head": 2, "n_positions": 40}
VIT = {**SIZES, "image_size": 32, "patch_size": 8, "num_labels": 3}
# Not fewer than 16 channels: with 8, channels last, 1 × 1 convolutions of stride 2 write out of bounds in torch 2.13.
STAGED = {"hidden_sizes": [16, 32], "depths": [2, 1], "num_labels": 3}
DROPS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}

CLASSIFIERS: dict[str, tuple[tf.PreTrainedConfig, int]] = {  # name -> configuration, number of blocks
    "albert": (tf.AlbertConfig(**BERT, **DROPS, embedding_size=8), 1),
    "bart": (
        tf.BartConfig(
            **TEXT,
            d_model=16,
            encoder_layers=2,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=24,
            decoder_ffn_dim=24,
            max_position_embeddings=40,
            decoder_start_token_id=2,
            forced_eos_token_id=None,
        ),
        3,
    ),
    "bert": (tf.BertConfig(**BERT, **DROPS), LAYERS),
    "bloom": (tf.BloomConfig(**TEXT, hidden_size=16, n_layer=LAYERS, n_head=2, hidden_dropout=0.1), LAYERS),
    "deberta-v2": (
        tf.DebertaV2Config(
            **BERT,
            **DROPS,
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_buckets=8,
            norm_rel_ebd="layer_norm",
            share_att_key=True,
        ),
        LAYERS,
    ),
    "distilbert": (
        tf.DistilBertConfig(**TEXT, dim=16, n_layers=LAYERS, n_heads=2, hidden_dim=24, max_position_embeddings=40),
        LAYERS,
    ),
    "electra": (tf.ElectraConfig(**BERT, **DROPS, embedding_size=8), LAYERS),
    "falcon": (tf.FalconConfig(**TEXT, **{**SIZES, "ffn_hidden_size": 24}, hidden_dropout=0.1), LAYERS),
    "gemma2": (tf.Gemma2Config(**LLAMA), LAYERS),
    "gpt2": (tf.GPT2Config(**GPT2), LAYERS),
    "gpt-neo": (
        tf.GPTNeoConfig(
            **TEXT,
            hidden_size=16,
            num_layers=2,
            num_heads=2,
            max_position_embeddings=40,
            attention_types=[[["global", "local"], 1]],
            resid_dropout=0.1,
        ),
        2,
    ),
    "gpt-neox": (tf.GPTNeoXConfig(**BERT, hidden_dropout=0.1), LAYERS),
    "llama": (tf.LlamaConfig(**LLAMA), LAYERS),
    "mistral": (tf.MistralConfig(**LLAMA), LAYERS),
    "mixtral": (tf.MixtralConfig(**LLAMA, num_local_experts=3), LAYERS),
    "mobilebert": (
        tf.MobileBertConfig(**BERT, embedding_size=16, intra_bottleneck_size=16, true_hidden_size=16),
        LAYERS,
    ),
    "modernbert": (tf.ModernBertConfig(**BERT, cls_token_id=1, sep_token_id=2, mlp_dropout=0.1), LAYERS),
    "mpnet": (tf.MPNetConfig(**BERT, **DROPS), LAYERS),
    "opt": (
        tf.OPTConfig(
            **TEXT,
            hidden_size=16,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            ffn_dim=24,
            max_position_embeddings=40,
            word_embed_proj_dim=8,
        ),
        LAYERS,
    ),
    "phi": (tf.PhiConfig(**BERT, resid_pdrop=0.1), LAYERS),
    "qwen2": (tf.Qwen2Config(**LLAMA), LAYERS),
    "qwen3-moe": (tf.Qwen3MoeConfig(**LLAMA, num_experts=3, num_experts_per_tok=2, moe_intermediate_size=8), LAYERS),
    "qwen3": (tf.Qwen3Config(**LLAMA), LAYERS),
    "roberta": (tf.RobertaConfig(**{**BERT, "pad_token_id": 1}, **DROPS), LAYERS),
    "t5": (
        tf.T5Config(
            **TEXT,
            d_model=16,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            decoder_start_token_id=0,
        ),
        4,
    ),
    "beit": (tf.BeitConfig(**VIT, **DROPS, use_relative_position_bias=True), LAYERS),
    "convnext": (tf.ConvNextConfig(**STAGED, num_stages=STAGES, image_size=32, drop_path_rate=0.1), 3),
    "convnextv2": (tf.ConvNextV2Config(**STAGED, num_stages=STAGES, image_size=32), 3),
    "deit": (tf.DeiTConfig(**VIT, **DROPS, architectures=["DeiTForImageClassification"]), LAYERS),
    "dinov2": (tf.Dinov2Config(**{k: v for k, v in VIT.items() if k != "intermediate_size"}, **DROPS), LAYERS),
    "efficientnet": (
        tf.EfficientNetConfig(
            image_size=32,
            width_coefficient=0.25,
            depth_coefficient=0.5,
            hidden_dim=320,
            num_labels=3,
            kernel_sizes=[3, 3, 5],
            in_channels=[32, 16, 24],
            out_channels=[16, 24, 40],
            strides=[1, 2, 2],
            num_block_repeats=[1, 2, 4],
            expand_ratios=[1, 6, 6],
        ),
        4,
    ),
    "efficientnet-lite": (
        EfficientNetLiteConfig(
            image_size=32, stem_channels=8, head_channels=16, num_labels=3, stages=[[1, 3, 1, 1, 8], [2, 5, 2, 6, 16]]
        ),
        3,
    ),
    "mobilenet-v2": (tf.MobileNetV2Config(image_size=32, depth_multiplier=0.1, min_depth=8, num_labels=3), 16),
    "mobilevit": (
        tf.MobileViTConfig(
            image_size=64,
            hidden_sizes=[8, 12, 16],
            neck_hidden_sizes=[8, 8, 8, 8, 8, 8, 16],
            patch_size=2,
            num_attention_heads=2,
            num_labels=3,
        ),
        4 + 2 + 4 + 3,
    ),
    "pvt": (
        tf.PvtConfig(
            image_size=32,
            num_encoder_blocks=2,
            depths=[1, 2],
            sequence_reduction_ratios=[2, 1],
            hidden_sizes=[8, 16],
            patch_sizes=[4, 2],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            num_labels=3,
        ),
        3,
    ),
    "regnet": (tf.RegNetConfig(**STAGED, embedding_size=16, groups_width=4), 3),
    "resnet-basic": (tf.ResNetConfig(**STAGED, embedding_size=16, layer_type="basic"), 3),
    "resnet-bottleneck": (tf.ResNetConfig(**STAGED, embedding_size=16, layer_type="bottleneck"), 3),
    "segformer": (
        tf.SegformerConfig(
            image_size=32,
            num_encoder_blocks=2,
            depths=[1, 2],
            sr_ratios=[2, 1],
            hidden_sizes=[8, 16],
            patch_sizes=[7, 3],
            strides=[4, 2],
            num_attention_heads=[1, 2],
            mlp_ratios=[2, 2],
            num_labels=3,
        ),
        3,
    ),
    "siglip": (
        tf.SiglipConfig(
            vision_config={**SIZES, "image_size": 32, "patch_size": 8, "num_channels": 3},
            text_config={**SIZES, "vocab_size": 60},
            num_labels=3,
        ),
        LAYERS,
    ),
    "squeezebert": (
        tf.SqueezeBertConfig(
            **BERT,
            embedding_size=16,
            **{f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")},
        ),
        LAYERS,
    ),
    "swin": (
        tf.SwinConfig(
            image_size=32, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[2, 2], window_size=4, num_labels=3
        ),
        3,
    ),
    "vit": (tf.ViTConfig(**VIT, **DROPS), LAYERS),
}
DECODERS: dict[str, tuple[tf.PreTrainedConfig, int]] = {
    "bloom": CLASSIFIERS["bloom"],
    "gpt2": CLASSIFIERS["gpt2"],
    "gpt-neox": CLASSIFIERS["gpt-neox"],  # its output layer is its own
    "llama-tied": (tf.LlamaConfig(**LLAMA, tie_word_embeddings=True), LAYERS),
    "mixtral": CLASSIFIERS["mixtral"],
    "opt": CLASSIFIERS["opt"],
    "qwen2": CLASSIFIERS["qwen2"],
}


class PlainResNet(nn.Module):
    """Residual blocks in four `layerN` lists, as is usual outside transformers."""

    class Block(nn.Module):
        def __init__(self, channels: int, out: int) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(channels, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
            self.conv2, self.bn2 = nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = nn.Sequential(nn.Conv2d(channels, out, 1), nn.BatchNorm2d(out))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            out += self.downsample(x)
            return self.relu(out)

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(self.Block(4, 4), self.Block(4, 4))
        self.layer2 = nn.Sequential(self.Block(4, 8), self.Block(8, 8))
        self.layer3 = nn.Sequential(self.Block(8, 16), self.Block(16, 16))
        self.layer4 = nn.Sequential(self.Block(16, 32), self.Block(32, 32))
        self.fc = nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return self.fc(x.mean((2, 3)))


class PlainResidual(nn.Module):
    """Residual blocks of growing width in one list, whose convolutions are a list that a sum in place follows."""

    class ConvNorm(nn.Module):
        def __init__(self, channels: int, out: int) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.conv(x))

    class Block(nn.Module):
        def __init__(self, channels: int) -> None:
            super().__init__()
            convolution = PlainResidual.ConvNorm
            self.path = nn.Sequential(convolution(channels, 2 * channels), convolution(2 * channels, 2 * channels))
            self.shortcut = nn.Conv2d(channels, 2 * channels, 1)
            self.relu = nn.ReLU()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = self.path(x)
            out += self.shortcut(x)
            return self.relu(out)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 2, 3)
        self.layers = nn.Sequential(*(self.Block(2**i) for i in (1, 2, 3)))
        self.fc = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layers(self.stem(x)).mean((2, 3)))


class PlainVgg(nn.Module):
    """Nothing repeated: plain layers in two Sequentials."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3), nn.ReLU()
        )
        self.classifier = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


class Mixture(nn.Module):
    """Blocks with experts in a list of their own, of which each runs on the same input."""

    class Block(nn.Module):
        def __init__(self, experts: int) -> None:
            super().__init__()
            self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(experts))
            self.gate = nn.Linear(8, experts)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights = self.gate(x).softmax(-1)  # (batch, time, experts)
            return x + sum(weights[..., i : i + 1] * expert(x) for i, expert in enumerate(self.experts))

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.zeros(1, 40, 8))
        self.embed = nn.Embedding(60, 8)
        self.layers = nn.ModuleList(self.Block(experts) for experts in (3, 4))
        self.drop = nn.Dropout(0.1)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embed(ids) + self.position[:, : ids.shape[1]]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.drop(x).mean(1))


PLAIN: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "resnet": (PlainResNet, 8),
    "residual": (PlainResidual, 3),
    "vgg": (PlainVgg, 3),
    "mixture": (Mixture, 2),
}
SLOW = {  # like others in the fast set, or long to run
    *("falcon", "gemma2", "gpt-neo", "mistral", "mobilebert", "mpnet", "phi", "qwen3", "qwen3-moe", "squeezebert"),
    *(
        "beit",
        "convnextv2",
        "deit",
        "dinov2",
        "efficientnet",
        "mobilenet-v2",
        "mobilevit",
        "pvt",
        "regnet",
        "segformer",
    ),
    *("siglip", "bloom lm", "mixtral lm", "qwen2 lm"),
}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
    for name in [*CLASSIFIERS, *(f"{name} lm" for name in DECODERS), *(f"plain {name}" for name in PLAIN)]
]


def make(name: str) -> tuple[nn.Module, int]:
    """Return the model of that name, seeded, and the number of blocks it has; no weight is zero, none is dead."""
    torch.manual_seed(0)
    model, blocks = _made(name)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval(), blocks


def _made(name: str) -> tuple[nn.Module, int]:
    if name.startswith("plain "):
        kind, blocks = PLAIN[name.removeprefix("plain ")]
        return kind(), blocks
    if name.endswith(" lm"):
        config, blocks = DECODERS[name.removesuffix(" lm")]
        return tf.AutoModelForCausalLM.from_config(config), blocks
    config, blocks = CLASSIFIERS[name]
    kind = tf.AutoModelForImageClassification if _is_vision(config) else tf.AutoModelForSequenceClassification
    return kind.from_config(config), blocks


def _is_vision(config: tf.PreTrainedConfig) -> bool:
    return type(config) in tf.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING


def forward(model: nn.Module, rows: int = 4) -> torch.Tensor:
    """Return the logits of a random batch from the current generator."""
    main_input = getattr(model, "main_input_name", "")
    if main_input == "pixel_values":
        side = getattr(model.config, "image_size", 32)
        return model(pixel_values=torch.randn(rows, 3, side, side)).logits
    if main_input == "input_ids":
        ids = torch.randint(3, 60, (rows, 8))
        ids[:, -1] = 2  # T5 and BART read the end-of-text position
        return model(input_ids=ids).logits
    return model(torch.randint(0, 60, (rows, 8)) if isinstance(model, Mixture) else torch.randn(rows, 3, 32, 32))
