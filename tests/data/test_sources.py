"""The named sources: small copies of each pack's form here, the packs themselves in slow tests."""

import json
import time
import warnings

import pytest

from workbench import data, packs
from workbench.data import pack_readers, sources
from workbench.errors import DataError, PackError
from workbench.plan import choices

# What the packs hold, counted once: task, rows, class names.
CONTENTS = {
    "sentiment:movies": ("text-classification", 10_072, ("negative", "positive")),
    "sentiment:tweets": ("text-classification", 3_432, ("negative", "positive")),
    "sentiment:amazon": ("text-classification", 2_985, ("negative", "positive")),
    "sentiment:news": ("text-classification", 2_970, ("negative", "positive")),
    "legal-texts": (
        "text-classification",
        2_214,
        (
            "Commercial",
            "Copyleft",
            "Copyleft Limited",
            "Free Restricted",
            "Permissive",
            "Proprietary Free",
            "Public Domain",
            "Source-available",
        ),
    ),
    "legal-texts:language": ("language-modeling", 2_252, ()),
    "everyday-chat": ("language-modeling", 4_018, ()),
    "shakespeare": ("language-modeling", 781, ()),
}


def test_the_table_is_complete():
    names = [source.name for source in data.SOURCES]
    assert len(set(names)) == len(names)
    assert set(CONTENTS) | {"fashion-mnist"} == set(names)
    for source in data.SOURCES:
        assert all((source.title, source.licence, source.citation))
        assert source.task in choices.TASKS
        assert source.pack is None or source.pack in packs.names()
        assert sources.find(source.name) is source
        if source.name in CONTENTS:  # which are compared with the rows below
            task, rows, labels = CONTENTS[source.name]
            assert (source.task, source.rows, source.classes) == (task, rows, len(labels))


def test_sentiment(tmp_path):
    lines = ["1_1\t2.5\tlovely &amp;#38; good", "1_2\t-0.49\tmeh", "2_1\t-0.5\tbad", "2_2\t0.5\tgood"]
    (tmp_path / "news_GroundTruth.txt").write_bytes("\r\n".join(lines).encode())
    table = pack_readers.read_sentiment(tmp_path, file="news", grouped=True)
    assert table.values("text") == ["lovely & good", "bad", "good"]
    assert table.values("label") == ["positive", "negative", "positive"]
    assert table.values("document") == ["1", "2", "2"]
    assert table.place(1) == "text 2_1"
    assert "1 of 4 texts left out as neutral" in table.notes[0]


def licence(folder, key, category, text, extra=""):
    (folder / f"{key}.LICENSE").write_text(
        f"---\nkey: {key}\ncategory: {category}\n{extra}notes: a\n  b: c\n---\n{text}"
    )


def test_licences(tmp_path):
    folder = tmp_path / "licenses"
    folder.mkdir()
    for i in range(30):
        licence(folder, f"gpl-{i}.0", "Copyleft", f"\ntext {i}\n---\nmore\n")
    licence(folder, "rare-1", "CLA", "rare")
    licence(folder, "eupl-fr", "Copyleft", "texte", "language: fr\n")
    licence(folder, "unknown", "Copyleft", "")
    table = pack_readers.read_licences(tmp_path, categories=True)
    assert set(table.values("family")) == {"gpl"}
    assert table.values("text")[0] == "text 0\n---\nmore"
    assert table.notes == (
        "2 licences left out: no text, or not in English",
        "1 licence of rare categories left out: CLA",
    )
    assert len(pack_readers.read_licences(tmp_path, categories=False)) == 31


def test_conversations(tmp_path):
    def turn(*texts):
        return [{"text": text, "sender": "720840be", "timestamp": "2018"} for text in texts]

    said = [turn("Hi", "see https://a.b/c?d"), turn("write to me@home.org"), turn("www.x.y"), turn("bye")]
    found = {"a07edb12": {"messages": said}, "b": {"messages": [turn("anyone?")]}}
    (tmp_path / "dataset.json").write_text(json.dumps(found))
    table = pack_readers.read_conversations(tmp_path)
    assert table.values("text") == ["Hi see\nwrite to\nbye"]
    assert "1 of 2 conversations left out" in table.notes[0]


def test_plays(tmp_path):
    (tmp_path / "plays" / "tragedies").mkdir(parents=True)
    (tmp_path / "plays" / "tragedies" / "hamlet.md").write_text(
        "# Hamlet\n\n## ACT I\n\n### SCENE I. Elsinore.\n\n_FRANCISCO at his post. Enter\nBERNARDO_\n\n"
        "**BERNARDO**  \nWho's there?\n\n**FRANCISCO**  \n_\\[Aside]_  \nNay, answer me:  \nstand.\n\n*Exit.*\n\n"
        "## ACT II\n\n### SCENE I. A room.\n\n**POLONIUS**  \nGive him this money.\n"
    )
    table = pack_readers.read_plays(tmp_path)
    assert table.values("play") == ["hamlet", "hamlet"]
    assert table.values("text")[0] == (
        "SCENE I. Elsinore.\n\n[FRANCISCO at his post. Enter\nBERNARDO]\n\nBERNARDO: Who's there?\n\n"
        "FRANCISCO: [Aside]\nNay, answer me:\nstand.\n\n[Exit.]"
    )
    assert table.values("text")[1] == "SCENE I. A room.\n\nPOLONIUS: Give him this money."


@pytest.mark.parametrize("name", list(CONTENTS))
def test_a_pack_without_its_files_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setattr(packs, "get", lambda pack: tmp_path)
    with pytest.raises(DataError, match="the pack lacks"):
        data.load(choices.Data(source=name))


def test_a_pack_that_cannot_be_fetched_says_so_itself(monkeypatch):
    def get(pack):
        raise PackError(f"{pack} is not here")

    monkeypatch.setattr(packs, "get", get)
    with pytest.raises(PackError, match="sentiment is not here"):
        data.load(choices.Data(source="sentiment:movies"))


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTENTS)
def test_real_packs(name):
    packs.get(sources.find(name).pack)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        split = data.load(choices.Data(source=name))
    task, rows, labels = CONTENTS[name]
    assert (split.task, split.rows, split.labels) == (task, rows, labels)
    if "group" in split.columns:
        homes = [set(split.part(part)["group"]) for part in ("train", "validation", "test")]
        assert sum(map(len, homes)) == len(set.union(*homes))
    for counts in split.counts().values():
        assert min(counts.values()) > 0
    texts = split.train["text"][:]
    marks = ("\r",) if "legal" in name else ("\r", "&amp;", "&#")  # a licence may speak of HTML
    assert not any(mark in text for text in texts for mark in marks)


@pytest.mark.slow
def test_a_pack_may_serve_another_task():
    split = data.load(choices.Data(source="sentiment:movies", task="language-modeling", max_rows=100))
    assert (split.task, split.labels, split.rows) == ("language-modeling", (), 100)


@pytest.mark.slow
def test_chat_holds_no_addresses_and_no_senders():
    texts = "\n".join(data.load(choices.Data(source="everyday-chat")).train["text"])
    assert "http://" not in texts
    assert "https://" not in texts
    assert "gmail.com" not in texts
    assert "-4138-" not in texts


@pytest.mark.slow
def test_movies_load_in_a_second():
    choice = choices.Data(source="sentiment:movies")
    data.load(choice)  # imports, and the pack
    start = time.perf_counter()
    data.load(choice)
    assert time.perf_counter() - start < 1.0
