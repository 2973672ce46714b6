"""The command line: fetch packs, open JupyterLab, run a plan, list runs and resume them.

Every command is a thin layer over functions that a notebook calls too. After a user's mistake, it prints one message to
stderr and exits with code 2; after an interruption, with 130. No option changes a plan: edit its file instead.
"""

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from workbench import __version__, packs
from workbench.errors import RunError, WorkbenchError
from workbench.events.terminal import Line, RunLine
from workbench.plan.plan import Plan

if TYPE_CHECKING:
    from workbench.runs.disk.run_folder import RunFolder

_QUICKSTART = "notebooks/0_quickstart.ipynb"
_INTERRUPTED = 130  # 128 + SIGINT, the convention of shells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    options, rest = _parser().parse_known_args(arguments)
    if rest and options.command is not lab:
        _parser().error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return int(options.command(options))
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workbench", description="Fine-tune a pretrained model and watch it happen.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"Finetune Workbench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(command: Callable[[argparse.Namespace], int], text: str, epilog: str = "") -> argparse.ArgumentParser:
        name = command.__name__
        form = argparse.RawDescriptionHelpFormatter
        added = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=epilog, formatter_class=form
        )
        added.set_defaults(command=command)
        return added

    fetching = add(fetch, "download, verify and convert the offline packs that are missing", _pack_list())
    fetching.add_argument("names", nargs="*", metavar="NAME", help="packs to fetch; without a name, every default pack")
    fetching.add_argument("--verify", action="store_true", help="hash every file of the packs in the cache")
    add(lab, "open JupyterLab on the quickstart; further arguments go to JupyterLab, as in --no-browser --port 8899")
    running = add(run, "run a plan that Plan.save has written, and keep the run in a folder")
    running.add_argument("plan", metavar="PLAN.json", type=Path, help="the plan; missing fields take their defaults")
    running.add_argument(
        "--runs", metavar="FOLDER", type=Path, default=Path("runs"), help="the folder of all runs (default: runs)"
    )
    resuming = add(resume, "resume a run that was stopped, failed or died, from its newest valid checkpoint")
    resuming.add_argument("run", metavar="RUN", help='its name in the list of `runs`, a path to its folder, or "last"')
    resuming.add_argument(
        "--runs", metavar="FOLDER", type=Path, default=Path("runs"), help="the folder of all runs (default: runs)"
    )
    listing = add(runs, "list the runs of a folder, oldest first")
    listing.add_argument("folder", metavar="FOLDER", type=Path, nargs="?", default=Path("runs"), help="default: runs")
    return parser


def _pack_list() -> str:
    rows = (
        f"  {row.name:18} {row.size_mb:6.1f} MB  {row.title}{'' if row.default else ' (not by default)'}"
        for row in packs.TABLE
    )
    return "\n".join(
        ["packs:", *rows, f"They are in {packs.cache_folder()}; FINETUNE_WORKBENCH_CACHE sets another folder."]
    )


def fetch(options: argparse.Namespace) -> int:
    """Fetch packs."""
    packs.fetch(options.names or None, Line(), verify=options.verify)
    return 0


def lab(options: argparse.Namespace) -> int:
    """Fetch the default packs that are missing, then replace this process by JupyterLab on localhost with its token."""
    project = _project()
    packs.fetch([name for name in packs.names(default=True) if not packs.is_ready(name)], Line())
    command = [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--ServerApp.root_dir={project}"]
    command.append(f"--LabApp.default_url=/lab/tree/{_QUICKSTART}")  # so that the printed address opens it too
    if getattr(os, "geteuid", lambda: 1)() == 0:
        command.append("--allow-root")  # needed in containers; it is safe on localhost behind a token
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *options.rest])


def _project() -> Path:
    for folder in (Path(__file__).resolve().parents[1], Path.cwd()):
        if (folder / _QUICKSTART).is_file():
            return folder
    raise RunError(
        f"{_QUICKSTART} is neither next to the installed workbench nor in this folder",
        hint="run this in a clone of the project, or open your own notebook with `jupyter lab`",
    )


def run(options: argparse.Namespace) -> int:
    """Run a plan; the first Ctrl-C stops the run and saves its model, the second one interrupts it."""
    plan = Plan.open(options.plan)
    from workbench.events.run_state import RunState
    from workbench.runs.disk.run_folder import RunFolder

    folder = RunFolder.create(plan, options.runs)
    try:
        return _run_folder(folder)
    finally:
        if RunState(folder.events()).never_loaded:
            folder.remove()


def resume(options: argparse.Namespace) -> int:
    """Resume a run in this process; Ctrl-C works as in `run`."""
    from workbench.runs.disk.run_list import find
    from workbench.runs.preparation import Preparation

    folder = find(options.run, options.runs)
    Preparation().check_objects(folder.plan())
    return _run_folder(folder)


def _run_folder(folder: "RunFolder") -> int:
    """Run or resume the run in `folder`, and show its events."""
    from workbench.runs.disk.control import Control
    from workbench.runs.run import run as events_of

    control, shown = Control(folder.path), RunLine(Line())
    with _interrupt(control.stop):
        for event in events_of(folder=folder, control=control):
            shown.show(event)
    print(folder.path)
    return _INTERRUPTED if control.is_stopping else 0


@contextlib.contextmanager
def _interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """Let the first Ctrl-C call `stop`; the next one interrupts as usual."""

    def on_signal(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        stop()

    usual = signal.signal(signal.SIGINT, on_signal)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


def runs(options: argparse.Namespace) -> int:
    """List runs."""
    from workbench.runs.disk.run_list import summaries

    found = summaries(options.folder)
    if not found:
        print(f"no runs in {options.folder} yet")
        return 0
    print(f"{'run':44} {'started':16} {'state':10} {'step':>13} {'score':>16}  backbone, data")
    for summary in found:
        started = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary.started))
        score = "" if summary.score is None else f"{summary.score[0]} {summary.score[1]:.3g}"
        step, origin = f"{summary.step}/{summary.steps}", f"{summary.backbone}, {summary.source}"
        print(f"{summary.name:44} {started} {summary.state:10} {step:>13} {score:>16}  {origin}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
