"""Text of other people is text on the page: rows, names of classes, columns, groups and files, logs, errors, tables."""

import csv

import numpy as np
import pytest
from lab import Notebook, page_of
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

IMG = '<img src=x onerror="window.__pwned=1">'
SCRIPT = "<script>window.__pwned=1</script>"
LINK = "<a href='javascript:window.__pwned=1'>click</a>"
SVG = "<svg onload=window.__pwned=1>"
FILE = f"{IMG}.csv"

CELLS = (
    f"""from widgets import Workbench
from workbench import Plan
from workbench.events import *
from workbench.runs.disk.run_folder import RunFolder
EVIL = {IMG!r} + {SCRIPT!r} + {SVG!r}
old = RunFolder.create(Plan().change(backbone=EVIL, source=EVIL), "runs")
old.append(StageStarted(stage=EVIL))
old.append(RunForked(parent={IMG!r}, step=1, changes={{EVIL: EVIL}}))
old.append(RunFailed(step=0, what=EVIL, hint=EVIL, traceback=EVIL))
old.close()
plan = Plan().change(source={FILE!r}, label_column={"label " + IMG!r}, group_column={"group " + SCRIPT!r},
                     max_length=16, max_steps=3, evaluate_every=1, evaluation_rows=20)
panel = Workbench(plan=plan)
panel""",
    """import pandas as pd
from IPython.display import display
run = panel.session.start().wait()
display(run.history())
display(pd.DataFrame([{EVIL: EVIL}]))
display(run.at(step=1).samples() if hasattr(run, "at") else pd.DataFrame({"text": [EVIL]}))
print(run.state)""",
    """tell = panel.session.bus.publish
tell(StageStarted(stage=EVIL))
tell(RunForked(parent=EVIL, step=1, changes={"trainable": (EVIL,)}))
tell(RunStarted(task=EVIL, steps=4, trainable_parameters=1, total_parameters=2, rows=3, device=EVIL, precision=EVIL,
                baseline={"loss": 0.7, "accuracy": 0.5}, baseline_name=EVIL, notes=(EVIL,)))
metrics = {"loss": 0.5, "accuracy": 0.5, "macro_f1": 0.5, EVIL: 0.5}
tell(EvaluationEnded(step=1, split="validation", metrics=metrics, rows=1, targets=1, seconds=0.1, best=True))
tell(EvaluationEnded(step=1, split=EVIL, metrics=metrics, rows=1, targets=1, seconds=0.1))
tell(WeightsMoved(step=1, by_block={EVIL: 0.1, "block 1": 0.2}))
tell(FrozenMoved(step=1, tensors=(EVIL,), blocks=(EVIL, "block 1")))
tell(PlanAdjusted(step=1, before={"trainable": "head"}, after={"trainable": (EVIL,)}))
tell(ChangeRefused(step=1, what=EVIL, hint=EVIL))
tell(CheckpointSaved(step=1, folder=EVIL, size_bytes=1, best=True))
tell(CheckpointFailed(step=1, what=EVIL, hint=EVIL))
tell(CheckpointRefused(step=1, what=EVIL))
tell(ReplayDiverged(step=1, what=EVIL))
tell(ModelSaved(step=1, which=EVIL, folder=EVIL, size_bytes=1, load=EVIL))
tell(RunFailed(step=1, what=EVIL, hint=EVIL, traceback=EVIL, rows=(0,)))""",
    "panel.session.change(source='broken.jsonl', text_column='text', label_column=None, group_column=None)",
    """try:
    panel.session.start().wait()
except Exception as error:
    print(error)""",
    "panel.session.change(source='pets', text_column=None, task='image-classification')",
    "panel.session.change(source=EVIL, backbone=EVIL)",
)


@pytest.fixture(scope="module")
def notebook(lab, browser):
    """A notebook beside data of a stranger, in a page of its own."""
    with (lab.notebooks / FILE).open("w", newline="") as file:
        header = ["text", f"label {IMG}", f"group {SCRIPT}"]
        rows = [[f"{IMG}{SCRIPT}{LINK} row {i}", (IMG, SCRIPT)[i % 2], f"{SVG} {i // 4}"] for i in range(80)]
        csv.writer(file).writerows([header, *rows])
    lines = [f'{{"text": ["{SVG}"], "label": {number % 2}}}' for number in range(20)]
    (lab.notebooks / "broken.jsonl").write_text("\n".join(lines))
    for name in (IMG, SVG):
        (lab.notebooks / "pets" / name).mkdir(parents=True)
        for number in range(6):
            pixels = np.random.default_rng(number + len(name)).integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(lab.notebooks / "pets" / name / f"{number}{IMG}.png")
    lab.write("inert.ipynb", *CELLS)
    page = page_of(browser, width=1280, height=900)
    opened = Notebook(lab, page, "inert.ipynb")
    opened.run(0)
    page.wait_for_selector(".fw-freeze .fw-block", timeout=90_000)
    yield opened
    assert page.blocked == [], "the page asked other hosts for something"
    assert page.mistakes == []
    page.context.close()


@pytest.fixture(autouse=True)
def inert(notebook):
    """Whatever a test does: nothing was run, and no element was made of text."""
    yield
    page = notebook.page
    page.wait_for_timeout(600)  # two redraws
    made = "img[src='x'], svg[onload], a[href^='javascript:'], .jp-OutputArea script"
    assert page.locator(made).count() == 0, page.locator(made).first.evaluate("node => node.parentElement.outerHTML")
    assert page.evaluate("() => window.__pwned") is None


def shows(notebook, where, text, *, seconds=30):
    """Wait until a place of the panel shows this text as it is."""
    found = "([where, text]) => [...document.querySelectorAll(where)].some((node) => node.textContent.includes(text))"
    notebook.page.wait_for_function(found, arg=[where, text], timeout=1000 * seconds)


def test_rows_classes_columns_and_files(notebook):
    notebook.page.get_by_role("button", name="look at rows").click()
    shows(notebook, ".fw-cell-text", f"{IMG}{SCRIPT}{LINK} row")
    shows(notebook, ".fw-cell-label", SCRIPT)
    shows(notebook, ".fw-bar-name", IMG)
    shows(notebook, ".fw-data option", f"label {IMG}")
    shows(notebook, ".fw-data option", f"group {SCRIPT}")
    shows(notebook, ".fw-next-title", IMG)
    assert notebook.page.locator(".fw-data .fw-combo input").input_value() == FILE
    notebook.page.get_by_role("button", name="hide rows").click()


def test_tables_of_a_run(notebook):
    notebook.run(1)
    output = notebook.output(1)
    assert IMG in output
    assert "completed" in output


def test_everything_that_a_log_can_tell(notebook):
    notebook.run(2)
    shows(notebook, ".fw-run [role=alert] .fw-what", f"{IMG}{SCRIPT}{SVG}")
    shows(notebook, ".fw-run [role=alert] pre", IMG)
    shows(notebook, ".fw-curves .fw-legend", IMG)


def test_an_error_that_quotes_a_row(notebook):
    notebook.run(3)
    shows(notebook, ".fw-data [role=alert] .fw-what", SVG)
    notebook.run(4)
    shows(notebook, ".fw-run [role=alert] .fw-what", SVG)


def test_a_folder_of_images_with_names_of_that_kind(notebook):
    notebook.run(5)
    shows(notebook, ".fw-bar-name", SVG)
    notebook.page.get_by_role("button", name="look at rows").click()
    notebook.page.wait_for_selector(".fw-data td img[src^='data:image/png']")
    notebook.page.get_by_role("button", name="hide rows").click()


def test_a_source_and_a_backbone_of_that_name(notebook):
    notebook.run(6)
    shows(notebook, ".fw-data [role=alert] .fw-what", SCRIPT)
    assert IMG in notebook.page.locator(".fw-backbone .fw-combo input").input_value()
