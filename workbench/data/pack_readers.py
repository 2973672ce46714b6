"""Reads each data pack: from its folder to a Table.

The texts belong to third parties: packs are read, and never redistributed. No code from a pack is run.
"""

import html
import json
import re
from collections import Counter
from pathlib import Path

from workbench.data.table import Table
from workbench.data.text_files import read_text, split_lines
from workbench.errors import DataError, counted

_NEUTRAL = 0.5  # sentences with a mean valence closer to 0 are left out: raters often disagree on its sign
_RARE = 30  # licence categories with fewer texts are left out: split by family, too few would be left to measure


def read_sentiment(folder: Path, *, file: str, grouped: bool) -> Table:
    """Read one domain: sentences whose mean human valence, from -4 to 4, is clearly negative or positive.

    Args:
        folder: The pack.
        file: Name of the file, without "_GroundTruth.txt".
        grouped: Whether an id such as 12_3 means sentence 3 of document 12; the document is then the group.
    """
    lines = [line.split("\t", 2) for line in split_lines(_text(folder / f"{file}_GroundTruth.txt"))]
    rated = [(name, float(valence), _unescaped(text)) for name, valence, text in lines]
    clear = [row for row in rated if abs(row[1]) >= _NEUTRAL]
    columns = {
        "text": [text for _, _, text in clear],
        "label": ["positive" if valence > 0 else "negative" for _, valence, _ in clear],
        "valence": [valence for _, valence, _ in clear],
    }
    roles = {"text": "text", "label": "label"}
    if grouped:
        columns["document"] = [name.partition("_")[0] for name, _, _ in clear]
        roles["group"] = "document"
    neutral = f"{len(rated) - len(clear):,} of {len(rated):,} texts"
    note = f"{neutral} left out as neutral: rated within ±{_NEUTRAL:g} on a scale from −4 to 4"
    return Table(file, columns, lambda row: f"text {clear[row][0]}", roles=roles, notes=(note,))


def read_licences(folder: Path, *, categories: bool) -> Table:
    """Read the English licence texts; the group is the family (gpl, bsd …), so that versions stay in one split."""
    found = [_licence(path) for path in sorted((folder / "licenses").glob("*.LICENSE"))]
    if not found:
        raise _missing(folder / "licenses")
    english = [licence for licence in found if licence["language"] == "en" and licence["text"]]
    notes = [f"{counted(len(found) - len(english), 'licence')} left out: no text, or not in English"]
    if categories:
        counts = Counter(licence["category"] for licence in english)
        rare = sorted(name for name, count in counts.items() if count < _RARE)
        notes.append(
            f"{counted(sum(counts[name] for name in rare), 'licence')} of rare categories left out: {', '.join(rare)}"
        )
        english = [licence for licence in english if licence["category"] not in rare]
    columns = {name: [licence[name] for licence in english] for name in ("text", "category", "family", "key")}
    roles = {"text": "text", "label": "category", "group": "family"}
    return Table("licences", columns, lambda row: columns["key"][row], roles=roles, notes=tuple(notes))


def read_conversations(folder: Path) -> Table:
    """Read the conversations that have a reply: one row each, one line per turn; the authors are not kept."""
    found = json.loads(_text(folder / "dataset.json")).values()
    turns = [[_plain(" ".join(message["text"] for message in turn)) for turn in each["messages"]] for each in found]
    answered = ["\n".join(filter(None, each)) for each in turns if len(each) > 1]
    notes = (f"{len(turns) - len(answered):,} of {len(turns):,} conversations left out: no reply",)
    return Table("conversations", {"text": answered}, roles={"text": "text"}, notes=notes)


def read_plays(folder: Path) -> Table:
    """Read plays: one row per scene, as a plain script; the group is the play."""
    paths = sorted((folder / "plays").glob("*/*.md"), key=lambda path: path.stem)
    if not paths:
        raise _missing(folder / "plays")
    scenes = [(path.stem, scene) for path in paths for scene in _scenes(_text(path))]
    columns = {"text": [scene for _, scene in scenes], "play": [play for play, _ in scenes]}
    return Table("plays", columns, lambda row: f"a scene of {scenes[row][0]}", roles={"text": "text", "group": "play"})


def _unescaped(text: str) -> str:
    """Return a text without HTML entities; some are escaped twice (&amp;#39;)."""
    return html.unescape(html.unescape(text))


def _licence(path: Path) -> dict[str, str]:
    """Return the text of a licence and the `key: value` lines of its front matter that are used here."""
    _, front, text = re.split(r"^---\s*$", _text(path), maxsplit=2, flags=re.MULTILINE)
    fields = dict(re.findall(r"^(\w+): *(.*)$", front, flags=re.MULTILINE))
    family = re.split(r"[-_]", fields["key"])[0]
    found = {"text": text.strip(), "key": fields["key"], "family": family}
    return {**found, "category": fields["category"], "language": fields.get("language", "en")}


def _plain(text: str) -> str:
    """Return a message without web and email addresses."""
    return " ".join(re.sub(r"https?://\S+|www\.\S+|\S+@\S+\.\w+\S*", "", text).split())


def _scenes(markdown: str) -> list[str]:
    """Return the scenes of a play as `NAME: speech`, stage directions in square brackets."""
    parts = re.split(r"^#+ +(?!ACT\b)", markdown, flags=re.MULTILINE)[1:]  # the title is one of them: a single line
    return [scene for scene in map(_script, parts) if "\n" in scene]


def _script(scene: str) -> str:
    scene = re.sub(r"^#.*$", "", scene, flags=re.MULTILINE)  # the heading of the next act
    scene = re.sub(r"^\*\*(.+?)\*\* *\n", r"\1: ", scene, flags=re.MULTILINE)
    scene = re.sub(r"\\(.)", r"\1", scene)
    scene = re.sub(r"[_*]+\[?((?:(?!\n\n)[^][_*])+)\]?[_*]+", r"[\1]", scene)  # _Exit_, *Exit.*, _[Aside]_
    scene = re.sub("[_*]", "", scene)  # marks without a partner
    lines = [line.rstrip() for line in _unescaped(scene).splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError:
        raise _missing(path) from None


def _missing(path: Path) -> DataError:
    return DataError(f"the pack lacks {path.name}", hint="run `python -m workbench fetch` to fetch it again")
