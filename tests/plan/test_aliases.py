import re

import pytest

from workbench.errors import PlanError
from workbench.plan import aliases
from workbench.plan.plan import FIELDS, Plan

TRAINER = {
    "lr": "learning_rate",
    "per_device_train_batch_size": "batch_size",
    "num_train_epochs": "epochs",
    "n_epochs": "epochs",
    "bs": "batch_size",
    "gradient_accumulation_steps": "accumulation_steps",
    "max_seq_length": "max_length",
    "lora_r": "lora_rank",
    "r": "lora_rank",
    "warmup_ratio": "warmup_fraction",
    "lr_scheduler_type": "schedule",
    "weight-decay": "weight_decay",
    "early_stopping_patience": "stop_patience",
    "metric_for_best_model": "stop_metric",
    "load_best_model_at_end": "save_model",
    "model_name_or_path": "backbone",
    "dataset_name": "source",
    "fp16": "precision",
    "freeze": "trainable",
    "Epochs": "epochs",
    "lerning_rate": "learning_rate",
}


@pytest.mark.parametrize("name", TRAINER)
def test_a_field_is_found_by_the_name_that_others_give_it(name):
    with pytest.raises(PlanError, match=f"a plan has no field '{name}'\nDid you mean '{TRAINER[name]}'"):
        Plan().change(**{name: 1})


def test_a_name_that_is_close_to_several_fields_gets_the_nearest():
    with pytest.raises(PlanError, match="Did you mean 'stop_min_delta'"):
        Plan().change(stop_min_delt=1)
    with pytest.raises(PlanError, match=r"'lora_dropout' or 'dropout'|'dropout' or 'lora_dropout'"):
        Plan().change(lora_dropot=1)


def test_what_a_plan_does_not_have_is_said_with_what_to_do():
    with pytest.raises(PlanError, match=r"there are no class weights: .*macro_f1"):
        Plan().change(class_weight="balanced")
    with pytest.raises(PlanError, match="always AdamW"):
        Plan.from_json('{"tuning": {"optim": "sgd"}}')


def test_the_table_names_fields_only_and_no_field_is_an_alias():
    assert {*aliases._FIELD.values()} <= {*FIELDS}
    assert not {*aliases._FIELD} & {*FIELDS}
    assert not {*aliases._MISSING} & {*FIELDS, *aliases._FIELD}


@pytest.mark.parametrize(
    ("words", "spelling"),
    [
        ("last two", "last 2"),
        ("the last three blocks", "last 3"),
        ("top 2", "last 2"),
        ("last layer", "last 1"),
        ("last-4", "last 4"),
        ("2", "last 2"),
        (2, "last 2"),
        ("full", "all"),
        ("full fine-tuning", "all"),
        ("everything", "all"),
        ("classifier", "head"),
        ("head only", "head"),
    ],
)
def test_blocks_in_other_words(words, spelling):
    for field in ("trainable", "unfreeze_to"):
        with pytest.raises(PlanError, match=re.escape(f"Did you mean '{spelling}'?")):
            Plan().change(**{field: words})


def test_lora_is_a_method_and_not_a_choice_of_blocks():
    with pytest.raises(PlanError, match="use method='lora'"):
        Plan().change(trainable="LoRA")
