"""What a run is doing is shown with the seconds of that work alone."""

from widgets import doing
from widgets.doing import Doing


def test_the_seconds_of_earlier_work_of_the_same_name_do_not_count(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(doing.time, "monotonic", lambda: clock[0])
    said = Doing()
    assert said.words("starting") == "starting …"
    clock[0] += 1.5
    assert said.words("starting") == "starting … 2 s"
    clock[0] += 30  # nothing was being started meanwhile
    assert said.words("starting") == "starting …"
