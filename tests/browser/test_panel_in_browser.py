"""The whole panel in a real JupyterLab: what a person sees and does, timed where a promise was made."""

import csv
import json

import pytest
from looking import CUT_LABELS, FOCUSED, NEVER_FOCUSED, STICKING_OUT, TIME_FROM_CLICK, TOO_FAINT
from playwright.sync_api import TimeoutError as TooLate

from workbench.glossary import GLOSSARY

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(240)]

EVIL = "<img src=x onerror=window.hacked=1>"
LOADED = ".fw-freeze .fw-block"
UNDER_WAY = "/training · step [1-9]/.test(find('.fw-run-words').textContent)"
CAN_START = "() => !document.querySelector('.fw-next-run .fw-primary').disabled"
WORDS = "document.querySelector('.fw-run-words').textContent"
STEP = f"Number(({WORDS}.match(/step ([\\d,]+)/)?.[1] ?? '0').replaceAll(',', ''))"


@pytest.fixture(scope="module")
def panel(notebook):
    """The panel with its backbone and data loaded."""
    notebook.run(0)
    try:
        notebook.page.wait_for_selector(LOADED, timeout=60_000)
    except TooLate:
        pytest.fail(f"the backbone was not loaded; the cell shows:\n{notebook.output(0)}")
    return notebook


@pytest.fixture
def resting(panel):
    """The panel with no run under way, before and after the test."""
    panel.run(3)
    panel.page.wait_for_function(CAN_START, timeout=20_000)
    yield panel
    panel.run(3)


def click(notebook, words, test, *, seconds=20):
    """Press a button; return the seconds until `test`, an expression over find(selector), holds."""
    return notebook.page.evaluate(TIME_FROM_CLICK, [words, test, 1000 * seconds]) / 1000


def says(words):
    return f"find('.fw-run-words').textContent.includes({words!r})"


def plan(notebook):
    notebook.run(1)
    return json.loads(notebook.output(1))


def step(notebook):
    return notebook.page.evaluate(f"() => {STEP}")


def test_the_first_loss_shows_soon_after_start(resting):
    seconds = []
    for _ in range(3):
        resting.page.wait_for_function(CAN_START, timeout=20_000)
        is_new = "!find('.fw-run-words').textContent.includes('stopped')"  # else what shows is of the try before
        seconds.append(click(resting, "Start", f"{is_new} && find('.fw-dot, .fw-provisional, path.fw-training')"))
        resting.page.locator(".fw-run").get_by_role("button", name="Stop").and_(
            resting.page.locator(":enabled")
        ).wait_for(timeout=20_000)
        click(resting, "Stop", says("stopped by you"))
        if seconds[-1] <= 1.5:
            break
    assert min(seconds) <= 1.5, seconds


def test_start_says_at_once_that_it_starts_and_can_not_be_pressed_twice(resting):
    answered = "find('.fw-next-words').textContent.startsWith('starting') && find('.fw-next-run .fw-primary').disabled"
    assert click(resting, "Start", answered) <= 0.1


def test_pause_resume_and_stop_act_within_a_second(resting):
    click(resting, "Start", UNDER_WAY)
    took = {
        "Pause": click(resting, "Pause", says("paused at step")),
        "Resume": click(resting, "Resume", says("training")),
        "Stop": click(resting, "Stop", says("stopped by you")),
    }
    assert max(took.values()) <= 1.0, took


def test_cells_stay_usable_during_a_run(resting):
    click(resting, "Start", UNDER_WAY)
    resting.run(2)
    answer, state, first = resting.output(2).split()
    assert (answer, state) == ("42", "running")
    resting.page.wait_for_timeout(500)
    resting.run(2)
    assert int(resting.output(2).split()[2]) > int(first)


def test_sliders_and_blocks_reach_the_plan(resting):
    page = resting.page
    before = plan(resting)
    page.get_by_label("learning rate, slider").focus()
    page.keyboard.press("ArrowRight")
    page.locator(".fw-setting", has_text="batch size").locator(".fw-number").fill("16")
    page.keyboard.press("Enter")
    page.get_by_role("switch", name="block 6").click()
    page.wait_for_selector("[role=switch][aria-label^='block 6, trainable']")
    page.get_by_role("switch", name="block 5").focus()
    page.keyboard.press("Space")
    page.wait_for_selector("[role=switch][aria-label^='block 5, trainable']")
    after = plan(resting)
    assert after["tuning"]["learning_rate"] > before["tuning"]["learning_rate"]
    assert after["tuning"]["batch_size"] == 16
    assert after["transfer"]["trainable"] == "last 2"
    page.locator(".fw-setting", has_text="batch size").locator(".fw-number").fill("0")
    page.keyboard.press("Enter")
    page.wait_for_selector(".fw-field-error:has-text('must be between 1 and 65,536; kept 16')")
    assert plan(resting)["tuning"]["batch_size"] == 16
    page.locator(".fw-setting", has_text="batch size").locator(".fw-number").fill("8")
    page.keyboard.press("Enter")
    rate = page.locator(".fw-hyperparameter").get_by_label("learning rate", exact=True)
    rate.fill("0.0005")
    page.keyboard.press("Enter")
    page.get_by_label("number of last blocks that train").fill("99")
    page.keyboard.press("Enter")
    page.wait_for_selector(
        ".fw-freeze .fw-field-error:has-text('must be a whole number from 1 to 6; kept last 2 blocks')"
    )
    assert rate.input_value() == "0.0005"  # written as it was typed
    page.get_by_role("button", name="head only").click()
    page.wait_for_selector("[role=switch][aria-label^='block 6, frozen']")
    assert page.locator(".fw-freeze .fw-field-error").inner_text() == ""


def test_tabs_are_chosen_by_keys_survive_a_reload_and_move_nothing(resting):
    page = resting.page
    height = page.evaluate("() => document.querySelector('.fw-workbench').getBoundingClientRect().height")
    page.get_by_role("tab", name="Curves").focus()
    page.keyboard.press("End")
    runs = page.get_by_role("tabpanel", name="Runs")
    runs.wait_for()
    assert page.evaluate("() => document.activeElement.textContent") == "Runs"
    assert page.locator(".fw-curves").is_hidden()
    assert height == page.evaluate("() => document.querySelector('.fw-workbench').getBoundingClientRect().height")
    resting.save()
    page.reload()
    resting.ready()
    runs.wait_for(timeout=20_000)
    page.get_by_role("tab", name="Runs").focus()
    page.keyboard.press("Home")
    page.locator(".fw-curves").wait_for()
    assert runs.count() == 0  # hidden


def test_more_settings_show_after_a_click(resting):
    page = resting.page
    assert page.get_by_label("warm-up", exact=True).is_hidden()
    page.get_by_role("button", name="more", exact=True).click()
    assert page.get_by_label("warm-up", exact=True).is_visible()
    for width in (600, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.wait_for_timeout(300)
        assert page.evaluate(CUT_LABELS) == []
    page.get_by_role("button", name="less", exact=True).click()
    assert page.get_by_label("warm-up", exact=True).is_hidden()


def test_lora_is_switched_by_itself_and_is_still_on_after_a_reload(resting):
    page, lora = resting.page, resting.page.get_by_role("switch", name="LoRA", exact=True)
    page.get_by_role("switch", name="block 2").click()
    page.wait_for_selector("[role=switch][aria-label^='block 2, trainable']")
    lora.focus()
    page.keyboard.press("Space")
    page.wait_for_selector("[role=switch][aria-label^='block 2, frozen, LoRA adapters train']")
    page.get_by_label("LoRA rank").fill("4")
    page.keyboard.press("Enter")
    page.get_by_label("number of last blocks that train").fill("3")
    page.keyboard.press("Enter")
    page.wait_for_selector("[role=switch][aria-label^='block 4, frozen, LoRA adapters train']")
    chosen = plan(resting)["transfer"]
    assert (chosen["trainable"], chosen["method"], chosen["lora_rank"]) == ("last 3", "lora", 4)
    resting.save()
    page.reload()
    resting.ready()
    page.wait_for_selector("[role=switch][aria-label^='block 4, frozen, LoRA adapters train']", timeout=20_000)
    assert lora.is_checked()
    lora.click()
    page.wait_for_selector("[role=switch][aria-label^='block 4, trainable']")
    page.get_by_role("button", name="head only").click()
    page.wait_for_selector("[role=switch][aria-label^='block 4, frozen']")


def test_words_are_explained_on_hover_and_on_focus_one_at_a_time(resting):
    words = resting.page.locator(".fw-workbench .fw-term")
    frozen, backbone = words.get_by_text("frozen", exact=True), words.get_by_text("Backbone")
    frozen.hover()
    meaning = resting.page.locator(".fw-meaning")
    meaning.get_by_text(GLOSSARY["frozen"]).wait_for(timeout=5_000)
    backbone.focus()
    meaning.get_by_text(GLOSSARY["backbone"]).wait_for(timeout=5_000)
    assert meaning.count() == 1
    resting.page.keyboard.press("Escape")
    assert meaning.count() == 0


def test_the_plan_is_shown_as_the_python_that_starts_it(resting):
    plan = resting.page.locator(".fw-workbench .fw-plan")
    plan.get_by_text("show as Python").click()
    code = plan.locator("code")
    assert "max_rows=1200,\n" in code.inner_text()  # inner_text is what can be seen
    assert code.inner_text().strip().endswith("run = wb.Session(plan).start().wait()")
    plan.get_by_text("hide Python").click()


def test_each_control_of_the_plan_is_reached_by_tab_and_shows_that_it_is(resting):
    page = resting.page
    page.get_by_role("button", name="more", exact=True).click()
    page.locator(".fw-choices button:enabled").first.focus()
    for key in ("Tab", "Shift+Tab"):  # from here on the focus is that of a keyboard
        page.keyboard.press(key)
    found = []
    while (shows := page.evaluate(FOCUSED, ".fw-choices")) is not None and len(found) < 100:
        found.append(shows)
        page.keyboard.press("Tab")
    assert page.evaluate(NEVER_FOCUSED, ".fw-choices") == []
    assert all(found)
    page.get_by_role("button", name="less", exact=True).click()


def test_keys_pressed_in_the_panel_do_not_reach_the_notebook(resting):
    page = resting.page
    cells = page.locator(".jp-Notebook .jp-Cell").count()
    page.get_by_role("switch", name="block 3").focus()
    for key in ("d", "d", "x", "b", "m"):  # delete, cut, insert, make it text: JupyterLab's own shortcuts
        page.keyboard.press(key)
    assert page.locator(".jp-Notebook .jp-Cell").count() == cells
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.activeElement.getAttribute('aria-label')").startswith("block 4")


def test_a_reload_in_mid_run_comes_back_live(resting):
    click(resting, "Start", UNDER_WAY)
    resting.save()
    before = step(resting)
    resting.page.reload()
    resting.ready()
    resting.page.wait_for_selector(".fw-workbench .fw-run", timeout=20_000)
    resting.page.wait_for_function(f"before => {STEP} > before + 2", arg=before, timeout=20_000)
    resting.page.wait_for_selector("path.fw-training", state="attached")
    click(resting, "Stop", says("stopped by you"))


def choose(notebook, panel, value):
    field = notebook.page.locator(f".fw-{panel} .fw-combo input")
    field.fill(value)
    field.press("Enter")


def test_errors_are_readable_where_the_choice_was_made(resting, lab):
    page = resting.page
    rows = lab.notebooks / "no_label.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "length"], *([f"row {i} of a film", str(i)] for i in range(60))])
    choose(resting, "data", str(rows))
    alert = page.locator(".fw-data [role=alert] .fw-what")
    alert.wait_for(timeout=20_000)
    assert "no_label.csv has no label column" in alert.inner_text()
    choose(resting, "data", "sentiment:movies")
    page.wait_for_selector(".fw-data .fw-bar", timeout=30_000)
    assert alert.count() == 0
    choose(resting, "backbone", "someone/not-here")
    alert = page.locator(".fw-backbone [role=alert] .fw-what")
    alert.wait_for(timeout=30_000)
    assert "someone/not-here" in alert.inner_text()
    choose(resting, "backbone", "minilm-l6")
    page.wait_for_selector(LOADED, timeout=30_000)
    assert page.locator(".fw-problem p").count() == 0


def test_markup_in_a_row_is_text(resting, lab):
    page = resting.page
    rows = lab.notebooks / "evil.csv"
    with rows.open("w", newline="") as file:
        csv.writer(file).writerows([["text", "label"], *([f"{EVIL} {i}", f"<b>{'ab'[i % 2]}</b>"] for i in range(60))])
    choose(resting, "data", str(rows))
    page.get_by_role("button", name="look at rows").click()
    page.wait_for_selector(".fw-cell-text:has-text('onerror')", timeout=20_000)
    assert page.locator(".fw-workbench img, .fw-workbench td b").count() == 0
    assert page.evaluate("() => window.hacked") is None
    page.get_by_role("button", name="hide rows").click()
    choose(resting, "data", "sentiment:movies")
    page.wait_for_selector(".fw-bar:has-text('positive')", timeout=30_000)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_both_themes_can_be_read(resting, theme):
    click(resting, "Start", UNDER_WAY)
    resting.theme(theme)
    resting.page.wait_for_timeout(300)
    assert resting.page.evaluate(TOO_FAINT) == []
    for button in resting.page.locator(".fw-workbench button:enabled:visible").all():
        button.hover()
        assert resting.page.evaluate(TOO_FAINT) == [], button.inner_text()
    resting.page.locator(".fw-data .fw-combo input").click()
    resting.page.locator(".fw-data .fw-popup li").first.hover()
    assert resting.page.evaluate(TOO_FAINT) == []
    resting.page.keyboard.press("Escape")
    resting.theme("JupyterLab Light")


def test_what_stands_below_the_blocks_does_not_touch_the_next_line(resting):
    room = resting.page.evaluate(
        "() => Math.min(...[...document.querySelectorAll('.fw-moved')].map((words) =>"
        " document.querySelector('.fw-freeze-line').getBoundingClientRect().top"
        " - words.closest('svg').getBoundingClientRect().top - Number(words.getAttribute('y'))))"
    )
    assert room >= 5  # pixels from the baseline of figures that are 10 pixels high


def test_the_bars_of_the_classes_have_one_scale(resting):
    widths = "() => [...document.querySelectorAll('.fw-bar-track')].map((bar) => bar.getBoundingClientRect().width)"
    first, *others = resting.page.evaluate(widths)
    assert others == [pytest.approx(first, abs=0.5)] * len(others)
    assert first > 30  # pixels


@pytest.mark.parametrize("width", [600, 1000, 1280])
def test_nothing_sticks_out(resting, width):
    resting.page.set_viewport_size({"width": width, "height": 800})
    resting.page.wait_for_timeout(400)
    assert resting.page.evaluate(STICKING_OUT) == []
    stacked = resting.page.evaluate(
        "() => document.querySelector('.fw-curves').getBoundingClientRect().top"
        " >= document.querySelector('.fw-stop').getBoundingClientRect().bottom"
    )
    assert stacked == (width == 600)
    resting.page.set_viewport_size({"width": 1280, "height": 800})


def test_the_whole_panel_fits_one_screen(resting):
    height, room = resting.page.evaluate(
        "() => [document.querySelector('.fw-workbench').getBoundingClientRect().height,"
        " document.querySelector('.jp-Notebook .jp-WindowedPanel-outer').clientHeight]"
    )
    assert height <= room  # of 800 pixels, the rest being JupyterLab's own


def test_the_panel_stands_still_while_a_run_goes_on(resting):
    measure = "() => document.querySelector('.fw-workbench').getBoundingClientRect().height"
    before = resting.page.evaluate(measure)
    click(resting, "Start", UNDER_WAY)
    heights = {resting.page.evaluate(measure)}
    for _ in range(5):
        resting.page.wait_for_timeout(200)
        heights.add(resting.page.evaluate(measure))
    click(resting, "Stop", says("stopped by you"))
    heights.add(resting.page.evaluate(measure))
    assert heights == {before}
