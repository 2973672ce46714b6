"""Events as JSON objects: how the log writes them, and how a log that a stranger may have written is read."""

import dataclasses
import functools
import re
import typing
from collections.abc import Mapping
from typing import Any

from workbench.errors import RunError, nearest
from workbench.events.kinds import KINDS, Event
from workbench.untrusted import Reader, reader, shown, to_json


def to_dict(event: Event) -> dict[str, Any]:
    """Return the event as JSON values; numbers that JSON does not have become "nan", "inf" or "-inf"."""
    values = vars(event)
    return {"event": event.kind, **{name: to_json(values[name]) for name in _names(event.kind)}}


@functools.cache
def _names(kind: str) -> tuple[str, ...]:
    return tuple(entry.name for entry in dataclasses.fields(KINDS[kind]))


def from_dict(tree: Mapping[str, Any]) -> Event:
    """Make an event from JSON values, which may come from anybody.

    Raises:
        RunError: The kind of event is unknown, its fields are invalid, or a path points outside the run folder.
    """
    body = dict(tree) if isinstance(tree, Mapping) else {}
    kind = body.pop("event", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise RunError(f"the log has an unknown event {shown(kind)}", hint=nearest(shown(kind), KINDS))
    readers = _readers(kind)
    try:
        event = KINDS[kind](**{name: readers[name](value) for name, value in body.items()})
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise RunError(f"the log has a {kind} that can't be read: {reason[:200]}") from None
    for name in _PATH_FIELDS & body.keys():
        if not _is_inside(body[name]):
            raise RunError(f"the log has a {kind} whose {name} is {shown(body[name])}, outside the run folder")
    return event


@functools.cache
def _readers(kind: str) -> dict[str, Reader]:
    return {name: reader(hint) for name, hint in typing.get_type_hints(KINDS[kind]).items()}


_PATH_FIELDS = {"folder", "parent"}  # fields that hold a path: one inside the run folder, one next to it


def _is_inside(path: str) -> bool:
    return ".." not in re.split(r"[/\\]", path) and not re.match(r"[/\\~]|$", path) and ":" not in path
