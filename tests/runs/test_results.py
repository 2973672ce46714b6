import numpy as np
import pytest
import tiny
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support
from tiny_runs import PLAN, a_tiny_backbone_by_that_name, carried_out  # noqa: F401

from workbench.errors import DataError, RunError
from workbench.events import EvaluationEnded
from workbench.runs.disk import test_scores
from workbench.runs.moment import Moment
from workbench.runs.preparation import Preparation
from workbench.session.attach import attach
from workbench.session.session import Session

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def preparation():
    return Preparation(tiny.frame(200))


def carried(plan, root, **options):
    import tiny_runs

    frame = tiny.frame
    tiny_runs.tiny.frame = lambda: frame(200)
    try:
        return carried_out(plan, root, **options)
    finally:
        tiny_runs.tiny.frame = frame


@pytest.mark.parametrize("trainable", ["all", "head"])
def test_results_are_those_of_the_logged_evaluation(tmp_path, preparation, trainable):
    plan = PLAN.change(trainable=trainable, evaluation_rows=17, dropout=0.1)
    folder = carried(plan, tmp_path)
    logged = {event.step: event for event in folder.events() if isinstance(event, EvaluationEnded)}
    for step, event in logged.items():
        told = []
        found = Moment(folder, preparation, step).results(progress=lambda done, of, told=told: told.append((done, of)))
        assert {name: value for name, value in found.metrics.items() if name != "loss"} == {
            name: value for name, value in event.metrics.items() if name != "loss"
        }
        assert found.metrics["loss"] == pytest.approx(event.metrics["loss"], abs=1e-6)
        assert len(found.rows) == event.rows == 17
        assert found.drawn_from == len(preparation.examples(folder.plan())[1])
        assert (found.rows.label == found.rows.predicted).mean() == event.metrics["accuracy"]
        assert told[-1] == (17, 17)


def test_the_numbers_per_class_are_those_of_scikit_learn(tmp_path, preparation):
    folder = carried(PLAN.change(max_steps=3), tmp_path)
    found = Moment(folder, preparation, 3).results()
    names = ["negative", "positive"]
    truth, predicted = found.rows.label, found.rows.predicted
    assert found.confusion.to_numpy().tolist() == confusion_matrix(truth, predicted, labels=names).tolist()
    assert list(found.confusion.index) == list(found.confusion.columns) == names
    expected = precision_recall_fscore_support(truth, predicted, labels=names, zero_division=0)
    np.testing.assert_allclose(found.per_class.to_numpy().T, expected)
    assert np.trace(found.confusion) / found.confusion.to_numpy().sum() == found.metrics["accuracy"]
    assert found.per_class.f1.mean() == pytest.approx(found.metrics["macro_f1"])
    assert found.per_class.support.sum() == len(found.rows)


def test_mistakes_are_the_wrong_rows_and_the_worst_comes_first(tmp_path, preparation):
    folder = carried(PLAN.change(max_steps=2), tmp_path)
    moment = Moment(folder, preparation, 1)
    found = moment.results()
    wrong = found.mistakes
    assert len(wrong) == min(50, (found.rows.label != found.rows.predicted).sum())
    assert wrong.loss.is_monotonic_decreasing
    assert (wrong.label != wrong.predicted).all()
    table = preparation.table
    for line in wrong.itertuples():
        assert (table.text[line.row], table.label[line.row]) == (line.text, line.label)
    answers = moment.predict(found.rows.text).set_index(found.rows.index)
    np.testing.assert_allclose(answers.probability, found.rows.probability, atol=1e-5)
    truth = [answers.loc[line, f"P({label})"] for line, label in found.rows.label.items()]
    np.testing.assert_allclose(found.rows.loss, -np.log(truth), atol=1e-5)


def test_a_language_model_has_its_hardest_rows(tmp_path, preparation):
    folder = carried(PLAN.change(max_steps=3, max_length=8), tmp_path, task="language-modeling")
    (event,) = [e for e in folder.events() if isinstance(e, EvaluationEnded) and e.step == 3]
    found = Moment(folder, preparation, 3).results()
    assert found.metrics["loss"] == pytest.approx(event.metrics["loss"], abs=1e-6)
    assert found.rows.tokens.sum() == event.targets
    assert (found.rows.loss * found.rows.tokens).sum() / event.targets == pytest.approx(found.metrics["loss"])
    np.testing.assert_allclose(found.rows.perplexity, np.exp(found.rows.loss))
    assert found.mistakes.loss.is_monotonic_decreasing
    text = preparation.table.text[found.rows.row[0]]
    assert found.rows.text[0] in text
    with pytest.raises(RunError, match="a language model predicts no classes"):
        _ = found.per_class
    assert len(found.plot().axes) == 1


def test_results_can_be_drawn(tmp_path, preparation):
    found = Moment(carried(PLAN.change(max_steps=2), tmp_path), preparation, 2).results()
    matrix, bars = found.plot().axes
    assert [text.get_text() for text in matrix.texts] == [str(n) for n in found.confusion.to_numpy().ravel()]
    assert [label.get_text() for label in bars.get_yticklabels()] == ["negative", "positive"]
    assert "results at step 2 on" in repr(found)


def test_scores_on_test_rows_are_recorded_and_found_after_attaching(tmp_path):
    session = Session(PLAN.change(test_fraction=0.2), table=tiny.frame(200), runs=tmp_path)
    run = session.start().wait(60)
    assert run.test_scores == []
    before = (run.folder / "events.jsonl").read_bytes()
    scored = run.measure("test", which="last")
    found = run.results(split="test", which="last")
    run.measure("validation")
    again = attach(run.name, tmp_path, table=tiny.frame(200))
    assert [dict(score.metrics) for score in again.test_scores] == [pytest.approx(dict(scored), abs=1e-6)] * 2
    assert [(score.split, score.step, score.rows) for score in again.test_scores] == [("test", 6, len(found.rows))] * 2
    assert (run.folder / "events.jsonl").read_bytes() == before
    with pytest.raises(DataError):
        run.results(split="tset")


def test_a_score_is_not_written_through_a_link(tmp_path):
    (tmp_path / "elsewhere").write_text("")
    (tmp_path / test_scores.FILE).symlink_to(tmp_path / "elsewhere")
    score = EvaluationEnded(step=1, split="test", metrics={}, rows=1, targets=1, seconds=0.1)
    with pytest.raises(RunError, match="is a link"):
        test_scores.record(tmp_path, score)
    assert (tmp_path / "elsewhere").read_text() == ""
