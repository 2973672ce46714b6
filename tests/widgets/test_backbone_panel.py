from fakes import FakeSession

from widgets import BackbonePanel, FreezePanel
from workbench.events import PlanChanged, PreparationEnded
from workbench.models import catalog


def test_packs_come_first_and_every_entry_says_what_it_is(opened):
    options = opened(BackbonePanel).state["options"]
    assert len(options) == len(catalog.TABLE)
    origins = [option["facts"].rsplit(" · ", 1)[1] for option in options]
    assert origins == sorted(origins, key=lambda origin: origin != "offline pack")
    assert origins[0] == "offline pack"
    assert "Apache-2.0" in options[0]["facts"]


def test_what_needs_a_network_or_does_not_suit_the_rows_says_so(opened, split):
    facts = {row["value"]: row["facts"] for row in opened(BackbonePanel, split=split).state["options"]}
    assert facts["gpt2"].endswith("needs a network once")
    assert facts["resnet-18"].endswith("needs a network once · not for text classification")
    assert facts["minilm-l6"].endswith("offline pack")


def test_any_id_or_folder_can_be_typed(opened, press):
    session = FakeSession()
    state = press(opened(BackbonePanel, session), "choose", value="someone/some-model")
    assert session.plan.baseline.backbone == "someone/some-model"
    assert state["value"] == "someone/some-model"
    assert state["doing"] == "loading …"


def test_a_loaded_backbone_of_ones_own_tells_its_size(opened, backbone):
    session = FakeSession(backbone=backbone)
    session.change(backbone="/models/mine")
    state = opened(BackbonePanel, session).state
    assert "parameters" in state["facts"]
    assert "4 blocks" in state["facts"]
    assert state["doing"] == ""


def test_a_loaded_backbone_of_the_catalog_tells_the_size_that_the_layers_tell(opened, backbone):
    session = FakeSession(backbone=backbone)
    layers = opened(FreezePanel, session).state["counts"]
    assert f"of {opened(BackbonePanel, session).state['facts'].split(' · ')[1].removesuffix(' parameters')} (" in layers


def test_why_loading_failed_is_told_here_until_another_is_chosen(opened, press):
    panel = opened(BackbonePanel)
    panel.show(PreparationEnded(part="backbone", what="'gpt2' is on a hub that can't be reached", hint="choose a pack"))
    panel.refresh()
    assert panel.state["problem"]["what"] == "'gpt2' is on a hub that can't be reached"
    assert panel.state["problem"]["hint"] == "choose a pack"
    assert panel.state["doing"] == ""
    panel.show(PlanChanged(fields=("backbone",)))
    panel.refresh()
    assert panel.state["problem"] is None


def test_a_failure_of_the_data_is_told_elsewhere(opened):
    panel = opened(BackbonePanel)
    panel.show(PreparationEnded(part="data", what="no such file"))
    panel.refresh()
    assert panel.state["problem"] is None
    assert panel.state["doing"] == "waits for the data"


def test_panels_have_the_session_load_once(opened):
    session = FakeSession()
    opened(BackbonePanel, session)
    opened(BackbonePanel, session)
    assert session.calls.count(("prepare", {})) == 1
