import pytest

from workbench.errors import PlanError
from workbench.plan import files
from workbench.plan.plan import SECTION_OF, Plan

PLAN = Plan().change(learning_rate=1e-4, trainable=("block 1", "head"), text_column=["title", "body"])


def test_a_saved_plan_is_opened_again(tmp_path):
    path = PLAN.save(tmp_path / "my plan.json")
    assert Plan.open(path) == PLAN
    assert [file.name for file in tmp_path.iterdir()] == ["my plan.json"]


def test_a_file_is_overwritten_only_if_asked(tmp_path):
    path = Plan().save(tmp_path / "plan.json")
    with pytest.raises(PlanError, match=r"plan\.json exists already") as caught:
        PLAN.save(path)
    assert isinstance(caught.value.__cause__, FileExistsError)
    assert Plan.open(path) == Plan()
    PLAN.save(path, replace=True)
    assert Plan.open(path) == PLAN
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("there/is/none.json", "can't be written: No such file or directory"),
        ("folder", "exists already"),
        ("", "is no name of a file"),
        ("..", "exists already"),
        ("a\0b.json", "contains a zero byte"),
        ("a\ud800.json", "half a character"),
    ],
)
def test_a_name_that_can_not_be_saved_to_is_refused(tmp_path, monkeypatch, name, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    with pytest.raises(PlanError, match=words):
        PLAN.save(name)


def test_a_failed_replacement_leaves_the_earlier_plan(tmp_path, monkeypatch):
    path = Plan().save(tmp_path / "plan.json")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(PlanError, match="can't be written: No space left"):
        PLAN.save(path, replace=True)
    assert Plan.open(path) == Plan()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("plan2.json", None, "there is no file 'plan2.json'\nDid you mean 'plan.json'?"),
        ("other", None, r"Try: save one with plan\.save\(path\)"),
        ("..", None, "it is not an ordinary file"),
        ("a.json", b"\xff\xfe", "it is not UTF-8 text"),
        ("a.json", b"[1]", "a plan is"),
        ("a.json", b'{"tuning": {"learning_rate": 20}}', "must be between 1e-8 and 10"),
    ],
)
def test_a_file_that_is_no_plan_is_refused_in_words(tmp_path, monkeypatch, name, content, words):
    monkeypatch.chdir(tmp_path)
    Plan().save("plan.json")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PlanError, match=words):
        Plan.open(name)


def test_only_plans_are_listed(tmp_path):
    PLAN.save(tmp_path / "b.json")
    (tmp_path / "a.json").write_text('{"tuning": {"batch_size": 8}}')
    others = {"c.json": '{"tuning": {}, "x": 1}', "d.json": "[]", "e.json": "{", "f.json": "{}", "g.txt": "{}"}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "h.json").mkdir()
    assert files.listed(tmp_path, set(SECTION_OF.values())) == ("a.json", "b.json")
    assert files.listed(tmp_path / "none", set(SECTION_OF.values())) == ()
