"""Takes pictures of the panel in all its states, in JupyterLab: 1280 and 600 pixels wide, light and dark.

    python benchmarks/panel_states.py FOLDER [STATE …]

It needs Chromium, playwright, and the packs minilm-l6 and sentiment. Look at the pictures after a change of the panel.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "browser"))

from lab import Lab, Notebook, chromium, page_of  # noqa: E402 (helpers of the browser tests)
from looking import STICKING_OUT, TOO_FAINT  # noqa: E402

from workbench import packs  # noqa: E402

CELLS = (
    """from workbench import Plan
from widgets import Workbench
plan = Plan().change(trainable="last 2", max_rows=1200, max_length=48, batch_size=16, epochs=1)
panel = Workbench(plan)
panel""",
    "if panel.session.run: panel.session.run.stop().wait(60)",
    "panel.session.change(epochs=50)",
    "panel.session.change(source='nowhere.csv')",
    "panel.session.change(source='sentiment:movies')",
    """import json, os, signal
os.kill(json.loads((panel.session.run.folder / "worker.json").read_text())["pid"], signal.SIGKILL)""",
    "panel.session.change(learning_rate=1e-3)",
    """import workbench as wb
wb.attach("last").stop().wait(60)""",
)
WIDTHS, THEMES = (1280, 600), ("Light", "Dark")


class Camera:
    """The panel in a notebook, and how to bring it into each state."""

    def __init__(self, notebook: Any, target: Path) -> None:
        self.notebook, self.page, self.target = notebook, notebook.page, target

    def press(self, words: str) -> None:
        """Press a button of the panel."""
        self.page.locator(".fw-workbench").get_by_role("button", name=words, exact=True).first.click()

    def says(self, words: str, where: str = ".fw-run-words") -> None:
        """Wait until the panel says this."""
        self.page.wait_for_selector(f"{where}:has-text('{words}')", timeout=120_000)

    def take(self, state: str) -> None:
        """Take the pictures of a state, and name what sticks out or is too faint to read."""
        for theme in THEMES:
            self.notebook.theme(f"JupyterLab {theme}")
            for width in WIDTHS:
                self.page.set_viewport_size({"width": width, "height": 1000 if width > 800 else 1900})
                self.page.wait_for_timeout(400)
                name = f"{state}-{width}-{theme.lower()}"
                self.page.locator(".fw-workbench").screenshot(path=self.target / f"{name}.png")
                for fault in (*self.page.evaluate(STICKING_OUT), *self.page.evaluate(TOO_FAINT)):
                    print(f"{name}: {fault}")

    def loading(self) -> None:
        """Just opened."""
        self.page.wait_for_selector(".fw-next-words")

    def ready(self) -> None:
        """Loaded, without a run."""
        self.says("ready to start", ".fw-next-words")

    def wrong_path(self) -> None:
        """The data is not there."""
        self.notebook.run(3)
        self.says("Start is off", ".fw-next-words")

    def starting(self) -> None:
        """A process is being started."""
        self.notebook.run(4)
        self.ready()
        self.page.get_by_label("runs in").select_option("process")
        self.press("Start")
        self.says("starting a process")

    def completed(self) -> None:
        """A short run has ended."""
        self.says("completed")
        self.press("▸ Use this model")

    def running(self) -> None:
        """A long run is under way."""
        self.press("▾ Use this model")
        self.page.get_by_label("runs in").select_option("kernel")
        self.notebook.run(2)
        self.ready()
        self.press("Start")
        self.says("training · step 2")

    def paused(self) -> None:
        """The run is paused."""
        self.press("Pause")
        self.says("paused")

    def stopped(self) -> None:
        """The run was stopped."""
        self.press("Stop")
        self.says("stopped by you")
        self.ready()

    def failed(self) -> None:
        """The process of a run was killed."""
        self.page.get_by_label("runs in").select_option("process")
        self.press("Start")
        self.says("training · step")
        self.notebook.run(5)
        self.says("failed")

    def runs(self) -> None:
        """The list of runs, one of them open."""
        self.notebook.run(6)
        self.page.get_by_role("tab", name="Runs").click()
        self.page.wait_for_selector(".fw-row:nth-child(3)")
        self.page.locator(".fw-row-head").nth(1).click()

    def overlay(self) -> None:
        """Another run over the shown one."""
        self.page.locator(".fw-row-head").nth(2).click()
        self.page.locator(".fw-row-acts:visible").get_by_role("button", name="Open").click()
        self.says("completed")
        self.page.locator(".fw-row-head").nth(1).click()
        self.page.locator(".fw-row-acts:visible").get_by_role("button", name="Compare curves").click()
        self.page.get_by_role("tab", name="Curves").click()
        self.page.wait_for_selector("path.fw-over-0", state="attached")

    def restarted(self) -> None:
        """The kernel was restarted during a run."""
        self.press("Start")
        self.says("training · step")
        self.page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
        self.page.wait_for_selector(".fw-run .fw-lost:has-text('restarted')")
        self.notebook.run(7)  # its process would go on


STATES: tuple[Callable[[Camera], None], ...] = (
    Camera.loading,
    Camera.ready,
    Camera.wrong_path,
    Camera.starting,
    Camera.completed,
    Camera.running,
    Camera.paused,
    Camera.stopped,
    Camera.failed,
    Camera.runs,
    Camera.overlay,
    Camera.restarted,
)


def main(target: Path, wanted: list[str]) -> None:
    """Bring the panel from state to state, and take the pictures of those that are wanted, or of all."""
    target.mkdir(parents=True, exist_ok=True)
    cache = packs.get("minilm-l6").parent
    packs.get("sentiment")
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        environment = {"FINETUNE_WORKBENCH_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
        lab = Lab(Path(folder) / "lab", environment=environment)
        try:
            lab.write("states.ipynb", *CELLS)
            camera = Camera(Notebook(lab, page_of(browser, width=1280, height=1000), "states.ipynb"), target)
            camera.notebook.run(0)
            for reach in STATES:
                reach(camera)
                if not wanted or reach.__name__ in wanted:
                    camera.take(reach.__name__)
        finally:
            lab.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
