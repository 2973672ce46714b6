"""How much does the live panel cost? Compares the same run with and without the panel, in a real Jupyter kernel.

Claim: training with the whole panel costs less than 2 % (the ratio of `live` is at least 0.98). The run is in its own
ipykernel with real comm messages; its time is measured from the first step to the last, according to its log. On a
noisy machine the ratio varies by more than 2 %. Therefore the CPU time of the thread that updates the panels is given
too, in percent of the time of the run. The work of the browser is not included.
"""

import json
import statistics
import tempfile

import form
from jupyter_client.manager import KernelManager

RUN = """
import json, tempfile, time, workbench as wb
from workbench.events import StepEnded
plan = wb.Plan().change(max_rows=1200, epochs=100, max_steps={steps}, evaluate_every={evaluate_every})
session = wb.Session(plan, runs={runs!r})
session.prepare()
began = time.monotonic()
while session.backbone is None and time.monotonic() < began + 120: time.sleep(0.05)
"""
SHOW = """
from IPython.display import display
from widgets import Workbench, bridge
spent, update = [0.0], bridge.Pump.update
def timed(pump):
    began = time.thread_time()
    update(pump)
    spent[0] += time.thread_time() - began
bridge.Pump.update = timed
display(Workbench(session))
"""
HIDE = "bridge.Pump.update = update; print(json.dumps(spent[0]))"
TIME = """
run = session.start().wait()
steps = [event.time for event in run.events if isinstance(event, StepEnded)]
print(json.dumps(steps[-1] - steps[0]))
"""
SHARES: list[float] = []  # CPU time of the panels' thread in percent of the run, for each run with the panel


class Kernel:
    """A Jupyter kernel for the measurements."""

    def __enter__(self) -> "Kernel":
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel()
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def execute(self, code: str) -> str:
        """Run the code and return what it printed."""
        printed: list[str] = []

        def on_output(message: dict) -> None:
            content = message["content"]
            if message["msg_type"] == "stream" and content["name"] == "stdout":
                printed.append(content["text"])
            if message["msg_type"] == "error":
                raise RuntimeError("\n".join(content["traceback"]))

        self.client.execute_interactive(code, output_hook=on_output, timeout=600)
        return "".join(printed)


def seconds(kernel: Kernel, *, shown: bool, steps: int) -> float:
    """Return the seconds of all steps of one run, with evaluations."""
    with tempfile.TemporaryDirectory() as runs:
        kernel.execute(RUN.format(steps=steps, evaluate_every=steps // 2, runs=runs))
        if shown:
            kernel.execute(SHOW)
        taken = float(json.loads(kernel.execute(TIME)))
        if shown:
            SHARES.append(100 * float(json.loads(kernel.execute(HIDE))) / taken)
        kernel.execute("import ipywidgets as ipw; ipw.Widget.close_all(); del run, session")
        return taken


def main() -> None:
    options = form.arguments(__doc__)
    steps, repetitions = (20, 2) if options.quick else (60, 7)
    with Kernel() as kernel:
        taken = form.alternate(
            lambda: seconds(kernel, shown=True, steps=steps),
            lambda: seconds(kernel, shown=False, steps=steps),
            repetitions=repetitions,
        )
    share = statistics.median(SHARES)
    row = form.row("live", "no panel", taken, repetitions=repetitions, panel_cpu_percent=share)
    form.report("ui_cost", [row], as_json=options.json)


if __name__ == "__main__":
    main()
