"""Two processes share the tests of files; the timed ones run when all others have ended, in one process."""

from types import SimpleNamespace

from timed_last import TIMED, TimedLast

PLAIN = ["tests/a.py::test_1", "tests/a.py::test_2", "tests/b.py::test_1", "tests/c.py::test_1", "tests/c.py::test_2"]
TIMED_ONES = [f"{TIMED[0]}test_x.py::test_1", f"{TIMED[1]}::test_1"]
CONFIG = SimpleNamespace(getvalue=lambda name: ["popen", "popen"], option=SimpleNamespace(loadscopereorder=False))


class Process:
    """Stands for a process of pytest-xdist, which runs a test only when it has the next one or was told to end."""

    gateway = SimpleNamespace(id="process")

    def __init__(self):
        self.waiting, self.done, self.shutting_down = [], [], False

    def send_runtest_some(self, indices):
        self.waiting += indices

    def shutdown(self):
        self.shutting_down = True

    def can_run(self):
        return len(self.waiting) > 1 or (self.waiting and self.shutting_down)


def carried_out(names):
    """Let two processes carry out the tests; return for each test in turn its name, and which process were there."""
    scheduler, processes, log = TimedLast(CONFIG), [Process(), Process()], []
    for process in processes:
        scheduler.add_node(process)
        scheduler.add_node_collection(process, names)
    scheduler.schedule()
    for _ in range(99):
        for process in [process for process in processes if process in scheduler.nodes]:
            if process.can_run():
                log.append((names[process.waiting[0]], process, list(scheduler.nodes)))
                scheduler.mark_test_complete(process, process.waiting.pop(0))
            elif process.shutting_down:
                scheduler.remove_node(process)
    return log


def test_the_timed_tests_come_last_and_alone():
    log = carried_out(PLAIN + TIMED_ONES)
    assert sorted(name for name, _, _ in log) == sorted(PLAIN + TIMED_ONES)
    assert [name for name, _, _ in log[-2:]] == TIMED_ONES
    assert all(there == [process] for _, process, there in log[-2:])
    assert len({process for _, process, _ in log[:-2]}) == 2


def test_the_tests_of_a_file_stay_together():
    where = {}
    for name, process, _ in carried_out(PLAIN):
        where.setdefault(name.partition("::")[0], set()).add(process)
    assert [len(processes) for processes in where.values()] == [1, 1, 1]


def test_timed_tests_alone_need_one_process():
    assert len({process for _, process, _ in carried_out(TIMED_ONES)}) == 1
