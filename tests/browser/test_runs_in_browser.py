"""Runs that outlive things, in a real JupyterLab: killed, resumed, reloaded, changed under way, looked back at, forked.

The rows hold markup, so that every table and curve here is drawn from what somebody might have planted.
"""

import csv
import os
import signal

import pytest
from lab import Notebook, page_of
from looking import STICKING_OUT, TOO_FAINT
from playwright.sync_api import TimeoutError as TooLate

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(400)]

EVIL = "<img src=x onerror=window.hacked=1>"
STEPS = 200
CELLS = (
    f"""from widgets import Workbench
from workbench import Plan
plan = Plan().change(source="evil.csv", max_length=32, batch_size=8, max_steps={STEPS}, epochs=100, evaluate_every=20)
plan = plan.change(trainable="last 2")  # slow enough to be killed on the way
panel = Workbench(plan=plan)
panel""",
    """import json
run = panel.session.run
print(json.loads((run.folder / "worker.json").read_text())["pid"])""",
    "print(panel.session.run.plan.tuning.learning_rate, panel.session.plan.tuning.learning_rate)",
    """for run in panel.session.runs: run.stop().wait(60)
panel.session.change(max_steps=20_000, epochs=1000)""",
    """model = panel.session.run.saved_model
print((panel.session.run.folder / model.folder / "config.json").exists())""",
    """import ipywidgets as ipw
from widgets import ResultsPanel, TryPanel
box = ipw.Box([TryPanel(panel.session), ResultsPanel(panel.session)])
box.add_class("fw-workbench")
box""",
    "print(len(panel.session.run.test_scores))",
)
STEP = "Number((document.querySelector('.fw-run-words').textContent.match(/step ([\\d,]+)/) ?? [0, '0'])[1])"
PLACE = """() => {
  const box = (name) => document.querySelector(name).getBoundingClientRect();
  const [whole, plan] = [box(".fw-workbench"), box(".fw-choices")];
  return [plan.left - whole.left, plan.top - whole.top, plan.width];
}"""
ENDED = ".fw-row:not([data-tone=live]):not(.fw-row-shown):has(.fw-row-score:not(:empty))"  # a run with a score
WORDS = ".fw-run-words:has-text('{}')"


@pytest.fixture(scope="module")
def panel(lab, browser):
    """The panel with its backbone and data loaded, runs in processes of their own."""
    with (lab.notebooks / "evil.csv").open("w", newline="") as file:
        rows = ([f"{'good' if i % 2 else 'bad'} film {EVIL} {i}", "ab"[i % 2]] for i in range(400))
        csv.writer(file).writerows([["text", "label"], *rows])
    lab.write("runs.ipynb", *CELLS)
    page = page_of(browser, width=1280, height=800)
    opened = Notebook(lab, page, "runs.ipynb")
    opened.run(0)
    try:
        page.wait_for_selector(".fw-freeze .fw-block", timeout=60_000)
        page.wait_for_selector(".fw-data .fw-bar", timeout=60_000)
    except TooLate:
        pytest.fail(f"the panel was not loaded; the cell shows:\n{opened.output(0)}")
    page.get_by_label("runs in").select_option("process")
    yield opened
    assert page.evaluate("() => window.hacked") is None
    assert page.locator(".fw-workbench img").count() == 0
    assert page.blocked == [], "the page asked other hosts for something"
    assert page.mistakes == []
    page.context.close()


def press(notebook, words):
    button = notebook.page.locator(".fw-workbench").get_by_role("button", name=words, exact=True)
    button.and_(notebook.page.locator(":not(.fw-term)")).click()  # a term of the glossary may be the same word


def says(notebook, words, *, seconds=60):
    try:
        notebook.page.wait_for_selector(WORDS.format(words), timeout=1000 * seconds)
    except TooLate:
        pytest.fail(f"the panel never said {words!r} but:\n{notebook.page.locator('.fw-run').inner_text()}")


def passes(notebook, step, *, seconds=60):
    notebook.page.wait_for_function(f"step => {STEP} > step", arg=step, timeout=1000 * seconds)


def step(notebook):
    return notebook.page.evaluate(f"() => {STEP}")


def height(notebook):
    return notebook.page.evaluate("() => document.querySelector('.fw-workbench').getBoundingClientRect().height")


POINTS = "(document.querySelector('path.fw-training')?.getAttribute('d').split('L').length ?? 0)"


def points(notebook):
    """How many points the curve of the training loss has."""
    return notebook.page.evaluate(f"() => {POINTS}")


def test_a_killed_run_says_so_and_goes_on_where_it_was(panel):
    page, before = panel.page, height(panel)
    press(panel, "Start")
    says(panel, "training · step")
    page.wait_for_selector(".fw-kept:has-text('checkpoints ·')", timeout=60_000)
    assert height(panel) == before
    panel.run(1)
    os.kill(int(panel.output(1)), signal.SIGKILL)
    alert = page.locator(".fw-run [role=alert] .fw-what")
    alert.wait_for(timeout=20_000)
    assert "SIGKILL" in alert.inner_text()
    says(panel, "failed at step")
    broken, drawn = step(panel), points(panel)
    assert drawn == broken  # each step is a point
    press(panel, "Resume")
    passes(panel, broken)
    assert alert.count() == 0
    page.wait_for_function(f"() => {POINTS} > {drawn}", timeout=5_000)  # the curve was kept


def test_it_is_live_again_after_a_reload_and_finishes(panel):
    page = panel.page
    panel.save()
    before = step(panel)
    page.reload()
    panel.ready()
    page.wait_for_selector(".fw-workbench .fw-run", timeout=20_000)
    passes(panel, before)
    assert points(panel) > 0
    says(panel, f"completed at step {STEPS}", seconds=300)
    press(panel, "▸ Use this model")
    assert [words in page.locator(".fw-uses").inner_text() for words in ("model", "from_pretrained", ".predict(")]
    assert "frozen parts verified at step" in page.locator(".fw-run .fw-verified").inner_text()
    press(panel, "▾ Use this model")


def test_a_point_is_reached_by_keys_and_shows_samples_as_text(panel):
    page = panel.page
    page.locator(".fw-charts").focus()
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    page.wait_for_selector(".fw-point:has-text('step 3')")
    assert "learning rate" in page.locator(".fw-point-facts").inner_text()
    press(panel, "Samples")
    page.wait_for_selector(".fw-point td:has-text('onerror')", timeout=60_000)
    assert page.locator(".fw-point img").count() == 0
    assert page.evaluate(STICKING_OUT) == []
    page.locator(".fw-point button").first.focus()
    page.keyboard.press("Escape")
    page.wait_for_selector(".fw-point", state="hidden")


def test_a_fork_from_a_clicked_point_lies_over_its_parent(panel):
    page = panel.page
    box = page.locator(".fw-charts").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 3, box["y"] + 100)
    page.wait_for_selector(".fw-point b:has-text('step')")
    at = page.locator(".fw-point b").first.inner_text()
    press(panel, "Fork from here")
    page.locator(".fw-fork-form .fw-number").fill("0.0001")
    press(panel, "Start fork")
    said = page.locator(".fw-fork").first
    page.wait_for_selector(".fw-fork:has-text('learning rate 0.001 → 0.0001')", timeout=60_000)
    assert f"from {at}" in said.inner_text()
    page.wait_for_selector("path.fw-parent-held", state="attached")
    page.wait_for_selector("path.fw-training", state="attached", timeout=60_000)
    assert page.locator(".fw-point").is_hidden()


def test_a_change_under_way_says_since_when_it_holds(panel):
    page = panel.page
    panel.run(3)
    press(panel, "Start")
    says(panel, "training · step")
    page.locator(".fw-hyperparameter").get_by_label("learning rate", exact=True).fill("0.0005")
    page.keyboard.press("Enter")
    page.wait_for_selector(".fw-setting .fw-effect:has-text('since step')", timeout=20_000)
    panel.run(2)
    assert panel.output(2).split() == ["0.0005", "0.0005"]
    assert "also changes the live run" in page.locator(".fw-next-live").inner_text()
    assert page.locator(".fw-freeze .fw-choice .fw-live:visible").count() == 3
    page.get_by_role("switch", name="block 4").click()
    page.wait_for_selector(".fw-freeze .fw-effect:has-text('since step')", timeout=20_000)
    assert page.locator("path.fw-mark").count() >= 2


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_all_of_it_can_be_read_in_both_themes_and_in_600_pixels(panel, theme):
    panel.theme(theme)
    panel.page.locator(".fw-charts").click(position={"x": 70, "y": 90})
    panel.page.wait_for_selector(".fw-point b:has-text('step')")
    for width in (600, 1280):
        panel.page.set_viewport_size({"width": width, "height": 800})
        panel.page.wait_for_timeout(400)
        assert panel.page.evaluate(STICKING_OUT) == []
        assert panel.page.evaluate(TOO_FAINT) == []


def test_stop_leaves_a_model_and_says_where(panel):
    press(panel, "Stop")
    says(panel, "stopped by you", seconds=30)
    panel.page.get_by_role("button", name="▸ Use this model").wait_for()
    assert panel.page.get_by_role("button", name="Resume").is_enabled()
    panel.run(4)
    assert panel.output(4).strip() == "True"


def test_a_text_is_tried_on_both_models(panel):
    panel.run(5)
    box, cells = panel.page.locator(".jp-Cell").nth(5), panel.page.locator(".jp-Notebook .jp-Cell").count()
    field = box.locator(".fw-try-text")
    assert not box.get_by_role("button", name="Classify").is_enabled()  # there is no text yet
    field.fill(f"a good film {EVIL}")
    field.press("Control+Enter")  # JupyterLab's own key for running a cell
    box.locator(".fw-try-entry").wait_for(timeout=60_000)
    box.locator(".fw-try-bar").nth(3).wait_for(timeout=60_000)  # two classes of two models
    assert EVIL in box.locator(".fw-try-input").inner_text()
    assert "backbone, before training" in box.locator(".fw-try-who").first.inner_text()
    box.locator(".fw-chip").first.click()
    panel.page.wait_for_function("() => document.querySelectorAll('.fw-try-entry').length === 2", timeout=60_000)
    assert panel.page.locator(".jp-Notebook .jp-Cell").count() == cells


def test_results_are_shown_and_the_test_score_is_spent(panel):
    box = panel.page.locator(".jp-Cell").nth(5)
    box.locator(".fw-matrix").wait_for(timeout=60_000)  # the run has ended, so its results show by themselves
    assert "accuracy" in box.locator(".fw-results .fw-facts").first.inner_text()
    assert box.locator(".fw-results-classes tbody tr").count() == 2
    box.get_by_role("button", name="Score on the test rows").click()
    box.locator(".fw-results-score:has-text('test rows')").wait_for(timeout=60_000)
    assert "The test rows are spent" in box.locator(".fw-results-test").inner_text()
    assert box.get_by_role("button", name="Score on the test rows").is_hidden()
    panel.run(6)
    assert panel.output(6).strip() == "1"
    panel.page.set_viewport_size({"width": 600, "height": 800})
    panel.page.wait_for_timeout(400)
    assert panel.page.evaluate(TOO_FAINT) == []
    assert panel.page.evaluate(STICKING_OUT) == []


def test_a_restart_of_the_kernel_is_told_and_the_run_that_goes_on_is_in_the_list(panel):
    page = panel.page
    page.set_viewport_size({"width": 1280, "height": 800})
    panel.run(3)  # stops what runs
    press(panel, "Start")
    says(panel, "training · step")
    before = page.evaluate(PLACE)
    page.evaluate("() => { jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart(); }")
    page.wait_for_selector(".fw-run .fw-lost:has-text('The kernel was restarted')", timeout=30_000)
    says(panel, "when the kernel was restarted: training")
    assert page.locator(".fw-workbench .fw-panel .fw-body:not([inert])").count() == 0
    assert page.locator(".fw-run button:enabled").count() == 0
    assert page.evaluate(PLACE) == before  # no icon moves the grid
    panel.ready()
    panel.run(0)
    page.wait_for_selector(".fw-tab.fw-has-dot:has-text('a run goes on elsewhere')", timeout=60_000)
    page.locator(".fw-tab:has-text('Runs')").click()
    page.locator(".fw-row[data-tone=live] .fw-row-head").click(timeout=20_000)
    press(panel, "Open")
    says(panel, "training · step")
    press(panel, "Stop")
    says(panel, "stopped by you")


def test_a_run_is_compared_deleted_and_brought_back_in_the_list(panel):
    page = panel.page
    rows = page.locator(".fw-row")
    page.locator(f"{ENDED} .fw-row-head").first.click()
    count = rows.count()
    press(panel, "Compare curves")
    page.wait_for_selector(".fw-row-badge:has-text('compared')")
    page.locator(".fw-tab:has-text('Curves')").click()
    page.wait_for_selector("path.fw-over-0", state="attached")
    legends = page.locator(".fw-chart-box:visible .fw-legend").all_inner_texts()
    assert all("evil.csv · MiniLM-L6 · " in words for words in legends[:2])
    page.locator(".fw-tab:has-text('Runs')").click()
    press(panel, "Delete")
    page.wait_for_function(f"() => document.querySelectorAll('.fw-row').length === {count - 1}", timeout=20_000)
    press(panel, "Undo")
    page.wait_for_function(f"() => document.querySelectorAll('.fw-row').length === {count}", timeout=20_000)
    assert page.evaluate(STICKING_OUT) == []
    assert page.evaluate(TOO_FAINT) == []
