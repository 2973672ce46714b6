"""Early stopping and progressive unfreezing, chosen and watched in the panel of a real JupyterLab."""

import pytest
from lab import Notebook, page_of
from looking import STICKING_OUT, TOO_FAINT
from playwright.sync_api import TimeoutError as TooLate

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(300)]

PATIENCE, EVERY, EVALUATE = 8, 3, 4
CELL = f"""from widgets import Workbench
from workbench import Plan
plan = Plan().change(max_rows=300, max_length=16, batch_size=8, epochs=100, max_steps=200, evaluation_rows=16)
panel = Workbench(plan=plan.change(evaluate_every={EVALUATE}, precision="fp32", save_model="none"))
panel"""
HEIGHT = "() => document.querySelector('.fw-workbench').getBoundingClientRect().height"


@pytest.fixture(scope="module")
def panel(lab, browser):
    """The panel with its backbone and data loaded."""
    lab.write("tactics.ipynb", CELL)
    page = page_of(browser, width=1280, height=900)
    opened = Notebook(lab, page, "tactics.ipynb")
    opened.run(0)
    try:
        page.wait_for_selector(".fw-freeze .fw-block", timeout=60_000)
        page.wait_for_selector(".fw-data .fw-bar", timeout=60_000)
    except TooLate:
        pytest.fail(f"the panel was not loaded; the cell shows:\n{opened.output(0)}")
    yield opened
    assert page.blocked == [], "the page asked other hosts for something"
    assert page.mistakes == []
    page.context.close()


def type_into(notebook, section, label, text):
    notebook.page.locator(f".fw-{section}").get_by_label(label, exact=True).fill(text)
    notebook.page.keyboard.press("Enter")


def press(notebook, words):
    notebook.page.locator(":is(.fw-next-run, .fw-run)").get_by_role("button", name=words, exact=True).click()


def test_what_is_chosen_says_at_once_what_it_means(panel):
    page = panel.page
    assert [page.locator(f".fw-{name} .fw-setting:visible").count() for name in ("keep", "stop")] == [1, 2]
    type_into(panel, "stop", "patience", "-3")
    page.wait_for_selector(".fw-stop .fw-field-error:has-text('must be between 0 and 1,000,000; kept off')")
    type_into(panel, "stop", "patience", str(PATIENCE))
    page.wait_for_selector(f".fw-stop:has-text('validation loss has not improved for {PATIENCE} evaluations')")
    type_into(panel, "stop", "min delta", "9")  # so that nothing but the first evaluation is an improvement
    metrics = page.locator(".fw-stop").get_by_label("metric", exact=True)
    assert metrics.locator("option").all_inner_texts() == ["loss", "accuracy", "F1 (macro)", "F1 (weighted)"]
    page.locator(".fw-keep").get_by_label("unfreeze", exact=True).select_option("all")
    page.wait_for_selector(".fw-schedule:has-text('7 blocks to be unfrozen · first block 6, after 10 % of the run')")
    type_into(panel, "keep", "every", str(EVERY))
    page.wait_for_selector("[role=switch][aria-label*='embeddings, frozen, 7th to be unfrozen, after step 21']")


def test_a_run_unfreezes_block_after_block_and_stops_early_in_words(panel):
    page, height = panel.page, panel.page.evaluate(HEIGHT)
    press(panel, "Start")
    page.wait_for_selector(
        "[role=switch][aria-label^='block 6, trainable, 1st, unfrozen since step 4']", timeout=60_000
    )
    page.wait_for_selector(".fw-schedule:has-text('unfrozen · next block')")
    page.wait_for_selector(f".fw-verdict:has-text('of {PATIENCE} evaluations · best validation loss')", timeout=60_000)
    end = PATIENCE * EVALUATE
    page.wait_for_selector(
        f".fw-run-words:has-text('stopped early at step {end}: the validation loss')", timeout=120_000
    )
    words = page.locator(".fw-run-words").inner_text()
    assert words.endswith(f"has not improved by more than 9 for {PATIENCE} evaluations · best model at step 0")
    assert page.evaluate(HEIGHT) == height
    page.wait_for_function("() => document.querySelectorAll('.fw-mark').length === 7")
    names = ["block 6", "block 5", "block 4", "block 3", "block 2", "block 1", "embeddings"]
    assert page.locator("line.fw-event").count() == 2 * len(names)  # in both charts
    assert page.locator(".fw-mark title").all_text_contents() == [
        f"from step {EVERY * number + 1}: {name} unfrozen" for number, name in enumerate(names, start=1)
    ]
    assert page.locator("circle.fw-best title").text_content().startswith("best step: validation loss")
    assert "at step 0" in page.locator("circle.fw-best title").text_content()
    page.wait_for_selector("[role=switch][aria-label^='block 6, frozen, 1st to be unfrozen, after step 3']")


def test_layers_that_are_changed_by_hand_end_the_schedule(panel):
    page = panel.page
    press(panel, "Start")
    page.wait_for_selector("[role=switch][aria-label*='unfrozen since step']", timeout=60_000)
    page.get_by_role("switch", name="embeddings").click()
    page.wait_for_selector(".fw-schedule:has-text('the layers were changed by hand')", timeout=60_000)
    page.wait_for_selector(".fw-keep .fw-effect:has-text('off since step')")
    press(panel, "Stop")
    page.wait_for_selector(".fw-run-words:has-text('stopped by you')", timeout=60_000)


@pytest.mark.parametrize("theme", ["JupyterLab Dark", "JupyterLab Light"])
def test_all_of_it_can_be_read_in_both_themes_and_in_600_pixels(panel, theme):
    panel.theme(theme)
    for width in (600, 1280):
        panel.page.set_viewport_size({"width": width, "height": 900})
        panel.page.wait_for_timeout(600)
        assert panel.page.evaluate(STICKING_OUT) == []
        assert panel.page.evaluate(TOO_FAINT) == []
