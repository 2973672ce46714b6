"""A scope in which transformers prints neither progress bars nor warnings; what matters is told in notes instead.

Left out: Python's own `warnings`, whose filters are shared by all threads and are the caller's to set.
"""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers (bars, and messages below errors) and restore its settings at the end."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars
    from transformers.utils import logging

    verbosity, had_bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    had_hub_bars = not are_progress_bars_disabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bars:
            logging.enable_progress_bar()
        if had_hub_bars:
            enable_progress_bars()
        else:
            disable_progress_bars()
