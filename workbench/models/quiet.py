"""A context in which transformers prints no progress bars and no warnings; notes of the backbone report what matters.

The settings of transformers belong to the whole process, and a notebook loads in several threads: while one of them is
in the context, no other restores them.

Left out: the filters of Python's `warnings`, which all threads share; the caller sets them.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_entered = 0  # how many contexts are open, in all threads
_restore: Callable[[], None] = lambda: None  # noqa: E731 - restores the settings as the first context found them


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers (progress bars, and messages below errors); restore its settings after the last context."""
    global _entered, _restore
    with _lock:
        if _entered == 0:
            _restore = _silence()
        _entered += 1
    try:
        yield
    finally:
        with _lock:
            _entered -= 1
            if _entered == 0:
                _restore()


def _silence() -> Callable[[], None]:
    """Silence transformers; return a function that restores its settings."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    had_hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()

    def restore() -> None:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
        if had_hub_bars:
            enable_progress_bars()

    return restore
