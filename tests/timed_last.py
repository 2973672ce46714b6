"""A pytest plugin: where several processes share the tests (`-n 2`), what needs the whole machine comes last and alone.

The tests of a file stay together in one process. When nothing but TIMED is left, one process after the other ends, and
the last one takes all of it.
"""

from xdist.scheduler import LoadFileScheduling

TIMED = ("tests/browser/", "tests/test_notebooks.py")  # seconds are promised there, and several processes are at work


def is_timed(nodeid):
    return nodeid.startswith(TIMED)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: is_timed(item.nodeid))


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # the order of the items counts
    return TimedLast(config, log)


class TimedLast(LoadFileScheduling):
    """Hands out one file after the other, and what is timed as one piece when everything else is done."""

    def _split_scope(self, nodeid):
        return "timed" if is_timed(nodeid) else super()._split_scope(nodeid)

    def _reschedule(self, node):
        others = [other for other in self.nodes if other is not node]
        if list(self.workqueue) != ["timed"] or not others:
            super()._reschedule(node)
        elif not all(other.shutting_down for other in others):
            node.shutdown()  # it ends what it has; the last one to come here waits for that

    def remove_node(self, node):
        crashed = super().remove_node(node)
        for other in self.nodes:
            self._reschedule(other)
        return crashed
