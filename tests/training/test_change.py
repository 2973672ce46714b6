import pytest

from workbench.errors import PlanError
from workbench.plan.plan import FIELDS, FORK_FIELDS, LIVE_FIELDS, Plan
from workbench.training.change import Change, check, ending_unfreezing

PLAN = Plan().change(unfreeze_to="all")


def test_when_a_field_can_change_stands_in_its_metadata_alone():
    assert set(LIVE_FIELDS) == {"learning_rate", "trainable", "evaluate_every"}
    assert {"epochs", "stop_patience", "unfreeze_to", "batch_size"} < set(FORK_FIELDS)
    assert not {"source", "backbone", "seed", "lora_rank", "precision"} & set(FORK_FIELDS)
    assert all(entry.metadata.get("takes_effect", "at the next run") for entry in FIELDS.values())


def test_a_person_can_change_less_than_a_fork():
    assert Change({"learning_rate": 0.5}).applied_to(PLAN).tuning.learning_rate == 0.5
    with pytest.raises(PlanError, match="epochs can't change in a run that has started"):
        Change({"epochs": 9.0}).applied_to(PLAN)
    assert Change({"epochs": 9.0}, scheduled=True).applied_to(PLAN).tuning.epochs == 9.0
    with pytest.raises(PlanError, match="backbone can't change"):
        Change({"backbone": "smollm2-135m"}, scheduled=True).applied_to(PLAN)


def test_a_person_who_changes_what_is_trainable_ends_the_schedule_and_a_tactic_does_not():
    fields = {"trainable": "last 1"}
    assert Change(fields).applied_to(PLAN).retention.unfreeze_to is None
    assert Change(fields, scheduled=True).applied_to(PLAN).retention.unfreeze_to is None
    assert Change(fields, by="unfreezing").applied_to(PLAN).retention.unfreeze_to == "all"
    assert Change(fields, logged=True).applied_to(PLAN).retention.unfreeze_to == "all"
    assert ending_unfreezing(Plan(), fields) == fields
    assert ending_unfreezing(PLAN, {**fields, "unfreeze_to": "all"}) == {**fields, "unfreeze_to": "all"}


def test_dropout_can_not_go_back_to_the_backbones_own():
    with pytest.raises(PlanError, match="which can't be restored after the first step"):
        check(Plan().change(dropout=0.1), {"dropout": None}, allowed=FORK_FIELDS)
