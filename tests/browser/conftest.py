import pytest
from lab import Lab, Notebook, chromium, page_of

from workbench import packs

WIDE = {"width": 1280, "height": 800}


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One JupyterLab for all browser tests; its kernels are offline."""
    for name in ("minilm-l6", "sentiment"):
        packs.get(name)
    cache = packs.get("minilm-l6").parent
    server = Lab(
        tmp_path_factory.mktemp("lab"),
        environment={"FINETUNE_WORKBENCH_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "2"},
    )
    yield server
    server.close()


@pytest.fixture(scope="session")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def notebook(lab, browser):
    """One page for the tests of a module, and the assurance that it needed nobody else."""
    lab.write("panel.ipynb", *CELLS)
    page = page_of(browser, **WIDE)
    opened = Notebook(lab, page, "panel.ipynb")
    yield opened
    assert page.blocked == [], "the page asked other hosts for something"
    assert page.mistakes == []
    page.context.close()


CELLS = (
    """from widgets import Workbench
from workbench import Plan
plan = Plan().change(max_rows=1200, max_length=48, batch_size=8, epochs=200, evaluation_rows=100)
panel = Workbench(plan=plan)
panel""",
    "print(panel.session.plan.to_json())",
    "print(6 * 7, panel.session.run.state, panel.session.run.step)",
    "if panel.session.run: panel.session.run.stop().wait(20)",
)
