"""The table of recommended backbones: offline packs first, then models of the hub by family.

Left out: all other models of the hub; they load by their id.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from workbench.plan.choices import TaskName

Kind = Literal["decoder", "encoder", "vision"]
APACHE = "Apache-2.0"
SUITS: Mapping[TaskName, tuple[Kind, ...]] = {  # task -> kinds that suit it, the best first
    "text-classification": ("encoder", "decoder"),
    "language-modeling": ("decoder",),
    "image-classification": ("vision",),
}


@dataclass(frozen=True)
class Entry:
    """A backbone, and the facts needed to choose it.

    Attributes:
        name: Short name, as in a plan.
        title: Name that is shown.
        family: Name of the architecture.
        kind: "decoder" (predicts the next token), "encoder" (reads both directions) or "vision".
        parameters: Number of parameters of the published network: without a head for language models, with the
            classifier for vision models.
        size_mb: Size of the download, in 10^6 bytes.
        licence: SPDX identifier, or the name of the licence if it has none.
        origin: "pack" (works offline after the download) or "hub".
        identifier: Name of the pack, or id on the hub.
        blocks: Number of repeated blocks, if known: how many places the panel keeps free while it loads the backbone.
    """

    name: str
    title: str
    family: str
    kind: Kind
    parameters: int
    size_mb: int
    licence: str
    origin: Literal["pack", "hub"]
    identifier: str
    blocks: int | None = None


def _pack(name: str, title: str, family: str, kind: Kind, parameters: int, size_mb: int, blocks: int) -> Entry:
    return Entry(name, title, family, kind, parameters, size_mb, APACHE, "pack", name, blocks)


def _hub(
    name: str, title: str, family: str, kind: Kind, parameters: int, size_mb: int, licence: str, identifier: str
) -> Entry:
    return Entry(name, title, family, kind, parameters, size_mb, licence, "hub", identifier)


TABLE: tuple[Entry, ...] = (
    _pack("minilm-l6", "MiniLM-L6", "BERT", "encoder", 22_713_216, 84, 6),
    _pack("smollm2-135m", "SmolLM2-135M instruct", "Llama", "decoder", 134_515_008, 93, 30),
    _pack("efficientnet-lite0", "EfficientNet-Lite0", "EfficientNet", "vision", 4_652_008, 17, 16),
    _hub("gpt2", "GPT-2", "GPT-2", "decoder", 124_439_808, 548, "MIT", "openai-community/gpt2"),
    _hub("distilgpt2", "DistilGPT-2", "GPT-2", "decoder", 81_912_576, 353, APACHE, "distilbert/distilgpt2"),
    _hub("smollm2-360m", "SmolLM2-360M", "Llama", "decoder", 361_821_120, 724, APACHE, "HuggingFaceTB/SmolLM2-360M"),
    _hub("qwen2.5-0.5b", "Qwen2.5-0.5B", "Qwen2", "decoder", 494_032_768, 988, APACHE, "Qwen/Qwen2.5-0.5B"),
    _hub("qwen3-0.6b", "Qwen3-0.6B base", "Qwen3", "decoder", 596_049_920, 1192, APACHE, "Qwen/Qwen3-0.6B-Base"),
    _hub(
        "llama-3.2-1b",
        "Llama 3.2 1B",
        "Llama",
        "decoder",
        1_235_814_400,
        2472,
        "Llama 3.2 Community",
        "meta-llama/Llama-3.2-1B",
    ),
    _hub("opt-125m", "OPT-125M", "OPT", "decoder", 125_239_296, 251, "OPT, no commercial use", "facebook/opt-125m"),
    _hub("pythia-70m", "Pythia-70M", "GPT-NeoX", "decoder", 70_426_624, 166, APACHE, "EleutherAI/pythia-70m"),
    _hub("pythia-160m", "Pythia-160M", "GPT-NeoX", "decoder", 162_322_944, 375, APACHE, "EleutherAI/pythia-160m"),
    _hub(
        "distilbert",
        "DistilBERT base",
        "DistilBERT",
        "encoder",
        66_362_880,
        268,
        APACHE,
        "distilbert/distilbert-base-uncased",
    ),
    _hub("bert-base", "BERT base", "BERT", "encoder", 109_482_240, 440, APACHE, "google-bert/bert-base-uncased"),
    _hub("roberta-base", "RoBERTa base", "RoBERTa", "encoder", 124_645_632, 499, "MIT", "FacebookAI/roberta-base"),
    _hub(
        "modernbert-base",
        "ModernBERT base",
        "ModernBERT",
        "encoder",
        149_014_272,
        599,
        APACHE,
        "answerdotai/ModernBERT-base",
    ),
    _hub(
        "electra-small",
        "ELECTRA small",
        "ELECTRA",
        "encoder",
        13_483_008,
        54,
        APACHE,
        "google/electra-small-discriminator",
    ),
    _hub("resnet-18", "ResNet-18", "ResNet", "vision", 11_689_512, 47, APACHE, "microsoft/resnet-18"),
    _hub("resnet-50", "ResNet-50", "ResNet", "vision", 25_557_032, 103, APACHE, "microsoft/resnet-50"),
    _hub("convnext-tiny", "ConvNeXt tiny", "ConvNeXt", "vision", 28_589_128, 114, APACHE, "facebook/convnext-tiny-224"),
    _hub("deit-tiny", "DeiT tiny", "ViT", "vision", 5_717_416, 23, APACHE, "facebook/deit-tiny-patch16-224"),
    _hub("vit-base", "ViT base", "ViT", "vision", 86_567_656, 346, APACHE, "google/vit-base-patch16-224"),
    _hub("swin-tiny", "Swin tiny", "Swin", "vision", 28_288_354, 113, APACHE, "microsoft/swin-tiny-patch4-window7-224"),
    _hub("dinov2-small", "DINOv2 small", "DINOv2", "vision", 22_056_576, 88, APACHE, "facebook/dinov2-small"),
)


def find(name: str) -> Entry | None:
    """Return the entry with that name or hub id, or None."""
    return next((entry for entry in TABLE if name in (entry.name, entry.identifier)), None)
