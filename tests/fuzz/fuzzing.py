"""What every fuzz test shares: the property that it holds, and ways to do damage. How many cases: `conftest.py`."""

import json

from hypothesis import strategies as st

from workbench.errors import WorkbenchError

JUNK = st.binary(max_size=200) | st.sampled_from([b"", b"\0", b"{", b"\xff\xfe", b"\xef\xbb\xbf{}", b"[" * 100_000])
TEXTS = st.text(max_size=12) | st.sampled_from(["", "../../x", "/etc/passwd", "\0", "\ud800", "x" * 9_999, "~nobody/x"])
NUMBERS = (
    st.integers() | st.floats() | st.sampled_from([2**63, 1e308]) | st.sampled_from([400, 5_000]).map(lambda n: 10**n)
)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def outcome(work):
    """Return what `work()` gives, or the error it raises if that is one a user can read; anything else escapes."""
    try:
        return work()
    except WorkbenchError as error:
        found = error
    assert found.what.strip(), f"a {type(found).__name__} without words"
    for words in (found.what, found.hint):
        words.encode()  # it can be printed, logged and sent to a panel
        assert len(words) < 20_000, "an error nobody can read"
    return found


def said(work):
    """Return the words of the WorkbenchError that `work()` must raise."""
    error = outcome(work)
    assert isinstance(error, WorkbenchError), f"no error, but {error!r}"
    return str(error)


def as_json(tree):
    """Write as JSON what JSON has no form for too: NaN, infinity, half characters; None where even that fails."""
    try:
        return json.dumps(tree)
    except ValueError:  # a number of 5,000 digits
        return None


def contents(folder):
    """Return every file below a folder with its bytes; links are named, not followed."""
    found = sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else b"special"
        for path in found
    }


@st.composite
def damaged(draw, whole):
    """Return `whole` cut off, with bytes flipped, with bytes put in, or all three."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        how = draw(st.sampled_from(["cut", "flip", "flip", "insert", "zero"]))
        if how == "cut":
            del content[place:]
        elif how == "insert":
            content[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif content:
            content[place : place + 1] = b"\0" if how == "zero" else bytes([content[place] ^ draw(st.integers(1, 255))])
    return bytes(content)
