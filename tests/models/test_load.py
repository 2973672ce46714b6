"""Backbones load by name, id or folder; what can't be loaded says why in a sentence and what to try."""

import json
import shutil
import threading
import time

import architectures
import pytest
import tiny
import torch
import transformers as tf

from workbench import models, packs
from workbench.errors import BackboneError
from workbench.models import catalog, from_object, locate

TWO = ("no", "yes")


def saved(folder, kind, *, task=None, labels=2, name=None):
    made = tiny.backbone(kind, task=task, labels=labels)
    made.model.save_pretrained(folder)
    if kind in ("vit", "resnet"):
        tf.models.vit.image_processing_pil_vit.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(
            folder
        )
    else:
        made.preprocessor.save_pretrained(folder)
    return made.model


@pytest.fixture
def bert(tmp_path):
    folder = tmp_path / "bert"
    config = tiny.config("bert", 0.0)
    torch.manual_seed(0)
    tf.BertModel(config).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return folder


def head_of(backbone):
    parameters = dict(backbone.model.named_parameters())
    return torch.cat([parameters[name].flatten() for name in backbone.blocks[-1].parameters])


class TestHead:
    def test_same_seed_same_bits_and_the_generator_stays(self, bert):
        state = torch.get_rng_state()
        first = models.load(str(bert), task="text-classification", labels=TWO, seed=5)
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(3)
        again = models.load(str(bert), task="text-classification", labels=TWO, seed=5)
        other = models.load(str(bert), task="text-classification", labels=TWO, seed=6)
        assert torch.equal(head_of(first), head_of(again))
        assert not torch.equal(head_of(first), head_of(other))

    def test_a_new_head_is_told(self, bert):
        backbone = models.load(str(bert), task="text-classification", labels=("a", "b", "c"))
        assert any("the classifier on top is new" in note and "classifier.weight" in note for note in backbone.notes)
        assert backbone.model.config.id2label == {0: "a", 1: "b", 2: "c"}
        assert backbone.model.config.label2id == {"a": 0, "b": 1, "c": 2}
        assert not backbone.model.training
        assert {p.dtype for p in backbone.model.parameters()} == {torch.float32}

    def test_a_trained_head_for_the_same_classes_is_kept(self, bert, tmp_path):
        first = models.load(str(bert), task="text-classification", labels=TWO, seed=1)
        first.model.save_pretrained(tmp_path / "trained")
        first.preprocessor.save_pretrained(tmp_path / "trained")
        again = models.load(str(tmp_path / "trained"), task="text-classification", labels=TWO, seed=2)
        assert torch.equal(head_of(first), head_of(again))
        assert any("comes with the model and is already trained" in note for note in again.notes)

    def test_a_trained_head_for_other_classes_is_made_anew(self, bert, tmp_path):
        first = models.load(str(bert), task="text-classification", labels=TWO, seed=1)
        first.model.save_pretrained(tmp_path / "trained")
        first.preprocessor.save_pretrained(tmp_path / "trained")
        others = [
            models.load(str(tmp_path / "trained"), task="text-classification", labels=("cat", "dog"), seed=2)
            for _ in range(2)
        ]
        assert not torch.equal(others[0].model.classifier.weight, first.model.classifier.weight)
        assert torch.equal(head_of(others[0]), head_of(others[1]))
        assert torch.equal(others[0].model.bert.pooler.dense.weight, first.model.bert.pooler.dense.weight)
        assert any("the classifier on top is new" in note for note in others[0].notes)

    def test_images_with_other_classes_get_a_new_head(self, tmp_path):
        saved(tmp_path, "vit", labels=4)
        backbone = models.load(str(tmp_path), task="image-classification", labels=("a", "b", "c"))
        assert backbone.model.classifier.weight.shape == (3, 16)
        assert any("the classifier on top is new" in note for note in backbone.notes)


class TestPadding:
    def test_a_decoder_that_classifies_knows_its_padding(self, tmp_path):
        torch.manual_seed(0)
        config = tiny.config("llama", 0.0)
        config.pad_token_id = None
        tf.LlamaForCausalLM(config).save_pretrained(tmp_path)
        tokenizer = tiny.tokenizer()
        tokenizer.pad_token = None
        tokenizer.save_pretrained(tmp_path)
        backbone = models.load(str(tmp_path), task="text-classification", labels=TWO)
        assert backbone.preprocessor.pad_token == "[EOS]"
        assert backbone.model.config.pad_token_id == backbone.preprocessor.pad_token_id
        assert any("no padding token" in note for note in backbone.notes)
        batch = backbone.preprocessor(["good film", "bad"], padding=True, return_tensors="pt")
        assert backbone.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.shape == (2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures.DECODERS)
def test_no_decoder_is_taken_for_one_that_reads_in_both_directions(name):
    from_object.adopt(architectures.make(f"{name} lm")[0], tiny.tokenizer(), task="language-modeling")


class TestRefusals:
    def test_an_encoder_has_no_perplexity(self, bert):
        with pytest.raises(BackboneError, match=r"\(bert\) is an encoder: (.|\n)*no perplexity(.|\n)*smollm2-135m"):
            models.load(str(bert), task="language-modeling")

    def test_a_model_that_sees_the_tokens_to_come_has_no_perplexity(self, tmp_path):
        """XLNet is among the causal models of transformers, and attends in both directions without a `perm_mask`."""
        config = tf.XLNetConfig(vocab_size=24, d_model=16, n_layer=2, n_head=2, d_inner=32, pad_token_id=0)
        tf.XLNetLMHeadModel(config).save_pretrained(tmp_path)
        tiny.tokenizer().save_pretrained(tmp_path)
        with pytest.raises(BackboneError, match=r"in both directions(.|\n)*no perplexity(.|\n)*smollm2-135m"):
            models.load(str(tmp_path), task="language-modeling")
        assert models.load(str(tmp_path), task="text-classification", labels=TWO).positions is None

    def test_a_given_encoder_has_no_perplexity_either(self):
        encoder = tf.BertLMHeadModel(tiny.config("bert", 0.0))
        with pytest.raises(BackboneError, match="in both directions"):
            from_object.adopt(encoder, tiny.tokenizer(), task="language-modeling")
        decoder = tf.BertConfig.from_dict({**encoder.config.to_dict(), "is_decoder": True})
        from_object.adopt(tf.BertLMHeadModel(decoder), tiny.tokenizer(), task="language-modeling")

    def test_a_vision_model_reads_no_text(self, tmp_path):
        saved(tmp_path, "vit")
        with pytest.raises(BackboneError, match=r"reads images, but this data is text(.|\n)*minilm-l6"):
            models.load(str(tmp_path), task="text-classification", labels=TWO)

    def test_a_text_model_sees_no_images(self, bert):
        with pytest.raises(BackboneError, match=r"reads text, but this data is images(.|\n)*use efficientnet-lite0"):
            models.load(str(bert), task="image-classification", labels=TWO)

    def test_unknown_task(self):
        with pytest.raises(BackboneError, match="Did you mean 'text-classification'"):
            models.load("minilm-l6", task="text-clasification")

    def test_one_class_is_none(self, bert):
        with pytest.raises(BackboneError, match="needs two classes or more"):
            models.load(str(bert), task="text-classification", labels=("only",))

    def test_code_in_a_checkpoint_is_never_run(self, bert):
        mark = bert.parent / "ran"
        (bert / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\n")
        config = json.loads((bert / "config.json").read_text())
        config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}}
        (bert / "config.json").write_text(json.dumps(config))
        with pytest.raises(BackboneError, match="never run here"):
            models.load(str(bert), task="text-classification", labels=TWO)
        assert not mark.exists()

    def test_quantized_weights_can_not_be_trained(self, bert):
        config = json.loads((bert / "config.json").read_text())
        (bert / "config.json").write_text(json.dumps({**config, "quantization_config": {"quant_method": "awq"}}))
        with pytest.raises(BackboneError, match="quantized"):
            models.load(str(bert), task="text-classification", labels=TWO)


class TestBroken:
    def test_no_configuration(self, tmp_path):
        with pytest.raises(BackboneError, match=r"has no config\.json"):
            models.load(str(tmp_path), task="text-classification", labels=TWO)

    def test_configuration_that_is_no_json(self, bert):
        (bert / "config.json").write_text("{")
        with pytest.raises(BackboneError, match=r"config\.json of .* can't be read"):
            models.load(str(bert), task="text-classification", labels=TWO)

    def test_no_weights(self, bert):
        (bert / "model.safetensors").unlink()
        with pytest.raises(BackboneError, match="has no weights"):
            models.load(str(bert), task="text-classification", labels=TWO)

    def test_weights_cut_short(self, bert):
        weights = bert / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:5000])
        with pytest.raises(BackboneError, match=r"weights of .* can't be read"):
            models.load(str(bert), task="text-classification", labels=TWO)

    def test_weights_of_another_shape(self, bert):
        config = json.loads((bert / "config.json").read_text())
        (bert / "config.json").write_text(json.dumps({**config, "hidden_size": 32}))
        with pytest.raises(BackboneError, match=r"do not fit its config\.json"):
            models.load(str(bert), task="text-classification", labels=TWO)

    def test_weights_of_another_model(self, bert):
        shutil.copy(saved_gpt2(bert.parent / "gpt2") / "model.safetensors", bert / "model.safetensors")
        with pytest.raises(BackboneError, match=r"do not fit its config\.json"):
            models.load(str(bert), task="text-classification", labels=TWO)

    def test_a_pickle_that_runs_code_is_refused(self, bert):
        class Evil:
            def __reduce__(self):
                return (open, (str(bert.parent / "ran"), "w"))

        (bert / "model.safetensors").unlink()
        torch.save({"weight": Evil()}, bert / "pytorch_model.bin")
        with pytest.raises(BackboneError, match="can't be read"):
            models.load(str(bert), task="text-classification", labels=TWO)
        assert not (bert.parent / "ran").exists()

    def test_no_tokenizer(self, bert):
        for file in ("tokenizer.json", "tokenizer_config.json"):
            (bert / file).unlink()
        with pytest.raises(BackboneError, match="has no tokenizer"):
            models.load(str(bert), task="text-classification", labels=TWO)


def saved_gpt2(folder):
    saved(folder, "gpt2")
    return folder


class TestOffline:
    @pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "distilbert-base-uncased", "gpt2", "some/thing"])
    def test_one_sentence_within_seconds(self, name, monkeypatch, tmp_path):
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        start = time.monotonic()
        with pytest.raises(BackboneError) as caught:
            models.load(name, task="text-classification", labels=TWO)
        assert time.monotonic() - start < 3
        assert caught.value.what == f"{name} is not on this machine, and the model hub can't be reached"
        packs = "minilm-l6, smollm2-135m, efficientnet-lite0"
        assert caught.value.hint == f"use {packs} or a local folder: they need no network"

    def test_a_slip_of_the_pen_gets_the_nearest_name(self):
        for name, meant in (
            ("minlm-l6", "'minilm-l6'"),
            ("smollm-135m", "'smollm2-135m'"),
            ("bert-base-uncase", "'bert-base'"),
            ("google-bert/bert-base-uncasd", "'bert-base'"),
        ):
            with pytest.raises(BackboneError, match=f"Did you mean {meant}") as caught:
                models.load(name, task="text-classification", labels=TWO)
            assert "Try" not in str(caught.value)

    @pytest.mark.parametrize("module", ["httpx", "httpx2", "requests.exceptions", "huggingface_hub.errors", "builtins"])
    def test_whatever_the_hubs_library_raises_without_a_network(self, module, monkeypatch, tmp_path):
        def fail(*_, **__):
            name = {"huggingface_hub.errors": "LocalEntryNotFoundError"}.get(module, "ConnectError")
            bases = (TimeoutError,) if module == "builtins" else (Exception,)
            raise type(name, bases, {"__module__": module})("[Errno -2] Name or service not known")

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
        with pytest.raises(BackboneError, match="the model hub can't be reached"):
            models.load("someone/something", task="text-classification", labels=TWO)

    def test_another_failure_of_a_download_is_one_sentence_too(self, monkeypatch, tmp_path):
        def fail(*_, **__):
            raise ValueError("no\nsuch thing")

        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
        with pytest.raises(BackboneError) as caught:
            models.load("someone/something", task="text-classification", labels=TWO)
        assert caught.value.what == "someone/something can't be downloaded: ValueError: no"

    def test_neither_folder_nor_id(self):
        with pytest.raises(BackboneError, match="neither a folder nor a hub id"):
            models.load("./nowhere/at/all", task="text-classification", labels=TWO)

    def test_what_the_cache_holds_is_used_without_asking(self, bert, monkeypatch, tmp_path):
        snapshot = tmp_path / "hub" / "models--someone--something" / "snapshots" / "abc"
        shutil.copytree(bert, snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("abc")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(locate, "_downloaded", None)
        backbone = models.load("someone/something", task="text-classification", labels=TWO)
        assert backbone.name == "someone/something"

    def test_half_a_download_does_not_count(self, bert):
        (bert / "model.safetensors").unlink()
        index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
        (bert / "model.safetensors.index.json").write_text(json.dumps(index))
        (bert / "model-1.safetensors").touch()
        assert not locate._has_weights(bert)
        (bert / "model-2.safetensors").touch()
        assert locate._has_weights(bert)


def test_two_threads_that_load_at_once_print_nothing_either(bert, capfd):
    """The first to end must not turn the messages of transformers on again while the other one still loads."""
    from transformers.utils import logging

    from workbench.models.quiet import quiet

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    is_open, may_end = threading.Event(), threading.Event()

    def first():
        with quiet():
            is_open.set()
            may_end.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    is_open.wait(10)
    with quiet():
        may_end.set()
        thread.join()
        models.load(str(bert), task="text-classification", labels=("a", "b", "c"))
        assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == (logging.ERROR, False)
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed_and_settings_come_back(bert, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    models.load(str(bert), task="text-classification", labels=("a", "b", "c"))
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "task", "labels", "number", "head", "total"),
    [
        ("minilm-l6", "text-classification", TWO, 6, 148_610, 22_713_216 + 770),
        ("smollm2-135m", "language-modeling", (), 30, 576 + 49_152 * 576, 134_515_008),
        (
            "efficientnet-lite0",
            "image-classification",
            TWO,
            16,
            320 * 1280 + 2 * 1280 + 2562,
            4_652_008 - 1_281_000 + 2562,
        ),
    ],
)
def test_packs(name, task, labels, number, head, total):
    packs.get(name)
    backbone = models.load(name, task=task, labels=labels)
    assert [block.kind for block in backbone.blocks] == ["embeddings", *["block"] * number, "head"]
    assert catalog.find(name).blocks == number
    assert backbone.blocks[-1].size == head
    assert sum(p.numel() for p in backbone.model.parameters()) == total
    seconds = []
    for _ in range(3):
        start = time.process_time()  # other work on the machine does not count
        models.load(name, task=task, labels=labels)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 3  # about 0.5


@pytest.mark.slow
def test_smollm2_is_what_its_conversion_promises():
    folder = packs.get("smollm2-135m")
    config = json.loads((folder / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["tie_word_embeddings"]
    backbone = models.load("smollm2-135m", task="language-modeling")
    tokenizer, model = backbone.preprocessor, backbone.model
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert (tokenizer.pad_token, tokenizer.model_max_length) == ("<|im_end|>", 8192)
    assert tokenizer.tokenize("in 1999") == ["in", "Ġ", "1", "9", "9", "9"]
    ids = tokenizer("The capital of France is", return_tensors="pt").input_ids
    with torch.no_grad():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Paris"
