"""Recognizes the errors of a missing network.

Which classes a library raises changes with its version (`huggingface_hub` went from requests to httpx and httpx2), so
errors are recognized by the library that raised them and not by their class.
"""

_LIBRARIES = ("aiohttp", "httpcore", "httpx", "requests", "socket", "ssl", "urllib", "urllib3")
_OF_A_HUB = ("LocalEntryNotFoundError", "OfflineModeIsEnabled")  # huggingface_hub: neither on this disk nor reachable


def is_unreachable(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, says that a server could not be reached or gave no answer."""
    while error is not None:
        if any(_is_of_network(kind) for kind in type(error).__mro__):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_of_network(kind: type) -> bool:
    library = kind.__module__.partition(".")[0].rstrip("0123456789")  # httpx2 is httpx
    is_of_library = library in {name.rstrip("0123456789") for name in _LIBRARIES}
    return is_of_library or kind.__name__ in _OF_A_HUB or kind in (ConnectionError, TimeoutError)
