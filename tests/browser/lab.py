"""A JupyterLab of its own and a headless Chromium that reaches nothing else; both end with the process that asked.

The server listens on 127.0.0.1 with a token, and keeps configuration, data, run-time files, settings and workspaces in
one folder that is thrown away. `Notebook` is one notebook open in one page.
"""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import nbformat
from playwright.sync_api import sync_playwright

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
]
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True},
    "docmanager-extension/plugin": {"autosave": False},
}
PR_SET_PDEATHSIG = 1


def die_with_parent():
    """Have the kernel of Linux end this process when the one that started it is gone, even if killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


class Lab:
    """The server: its address, its token, and the folder that notebooks are in."""

    def __init__(self, folder, *, environment=None):
        self.folder = Path(folder)
        self.notebooks = self.folder / "notebooks"
        self.notebooks.mkdir(parents=True)
        self.port, self.token = _free_port(), secrets.token_hex(16)
        own = {name: str(self.folder / place) for name, place in FOLDERS.items()}
        for place, settings in SETTINGS.items():
            path = self.folder / "settings" / "@jupyterlab" / f"{place}.jupyterlab-settings"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(settings))
        self._output = (self.folder / "server.log").open("w")
        self._server = subprocess.Popen(
            [
                sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
                f"--port={self.port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={self.token}",
                f"--ServerApp.root_dir={self.notebooks}", "--LabApp.expose_app_in_browser=True",
            ],
            env={**os.environ, **own, **(environment or {})},
            stdout=self._output, stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
        self._wait()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        """End the server, which ends its kernels; by force if it takes too long."""
        self._server.terminate()
        try:
            self._server.wait(15)
        except subprocess.TimeoutExpired:
            self._server.kill()
            self._server.wait()
        self._output.close()

    def write(self, name, *cells):
        """Write a notebook of code cells."""
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata=kernel)
        nbformat.write(notebook, self.notebooks / name)

    def _wait(self, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end and self._server.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.address}/api?token={self.token}", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.1)
        self.close()
        raise RuntimeError(f"JupyterLab did not start:\n{(self.folder / 'server.log').read_text()[-3000:]}")


class Notebook:
    """One notebook in one page."""

    def __init__(self, lab, page, name):
        self.lab, self.page, self.name = lab, page, name
        self.open()

    def open(self):
        """Open the notebook, or open it again as a reload of the page does."""
        workspace = secrets.token_hex(4)
        self.page.goto(f"{self.lab.address}/lab/workspaces/{workspace}/tree/{self.name}?token={self.lab.token}")
        self.ready()

    def ready(self):
        """Wait until cells can be run; fold the file browser away."""
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        self.page.wait_for_function(
            "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
            timeout=60_000,
        )
        self.page.evaluate("() => { if (!jupyterapp.shell.leftCollapsed) jupyterapp.shell.collapseLeft(); }")

    def run(self, index):
        """Run a cell and wait for its end."""
        self.command("notebook:move-cursor-up", times=30)
        self.command("notebook:move-cursor-down", times=index)
        self.command("notebook:run-cell")

    def command(self, name, arguments=None, *, times=1):
        """Execute a command of JupyterLab, so many times, and wait for it."""
        script = "async ([name, args, n]) => { while (n-- > 0) await jupyterapp.commands.execute(name, args); }"
        self.page.evaluate(script, [name, arguments or {}, times])

    def output(self, index):
        """The text that a cell printed."""
        return self.page.locator(".jp-Cell").nth(index).locator(".jp-OutputArea").inner_text()

    def theme(self, name):
        """Change the theme and wait for it: "JupyterLab Light" or "JupyterLab Dark"."""
        self.command("apputils:change-theme", {"theme": name})
        light = str("Light" in name).lower()
        self.page.wait_for_selector(f"body[data-jp-theme-light='{light}']", timeout=15_000, state="attached")

    def save(self):
        self.command("docmanager:save")


@contextmanager
def chromium():
    """A browser; pages of it come from `page`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def page_of(browser, *, width=1280, height=800, scale=1):
    """Return a page that reaches 127.0.0.1 and nothing else; `page.blocked` lists what it asked for besides."""
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
    page = context.new_page()
    page.blocked, page.mistakes = [], []

    def route(way):
        if urlsplit(way.request.url).hostname in ("127.0.0.1", None):
            return way.continue_()
        page.blocked.append(way.request.url)
        return way.abort()

    context.route("**/*", route)
    page.on("pageerror", lambda error: page.mistakes.append(str(error)))
    return page


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
