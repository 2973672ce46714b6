"""Any file or object of rows: it becomes a Split, or a DataError that says why; and the file stays as it was."""

import io
import json
import time
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import JUNK, TEXTS, VALUES, as_json, damaged, outcome, said
from hypothesis import example, given
from hypothesis import strategies as st

from workbench import data
from workbench.data import Split
from workbench.plan import choices

pytestmark = pytest.mark.slow

SUFFIXES = [".csv", ".tsv", ".jsonl", ".json", ".parquet", ".txt"]
ROWS = [{"text": f"the {i}th text", "label": "good" if i % 2 else "bad", "stars": i % 5} for i in range(16)]
CELL = st.text(st.sampled_from('ab,;\t|"\n\r\0\ufeff é\u2028'), max_size=8)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "latin-1", "cp1252", "utf-7"]


def written(suffix):
    """Return the bytes of a sound file of that kind."""
    if suffix in (".csv", ".tsv"):
        return pd.DataFrame(ROWS).to_csv(sep="\t" if suffix == ".tsv" else ",", index=False).encode()
    if suffix == ".parquet":
        sink = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), sink)
        return sink.getvalue()
    lines = [json.dumps(row) for row in ROWS]
    return "\n\n".join(lines).encode() if suffix == ".txt" else "\n".join(lines).encode()


SOUND = {suffix: written(suffix) for suffix in SUFFIXES}


def works_or_says_why(tmp_path, content, suffix, **choice):
    """Load a file with this content; what is loaded can be shown, and the file is as it was."""
    path = tmp_path / f"rows{suffix}"
    path.write_bytes(content)
    begun = time.monotonic()
    found = outcome(lambda: data.load(choices.Data(source=str(path), **choice)))
    assert time.monotonic() - begun < 5
    assert path.read_bytes() == content
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    path.unlink()
    return shows(found)


def shows(found):
    if isinstance(found, Split):
        assert found.rows > 0
        shown = [found.train[:3], found.counts(), found.notes, found.available]
        json.dumps(shown, ensure_ascii=False, default=str).encode()
    return found


@given(st.sampled_from(SUFFIXES), JUNK | st.text(max_size=80).map(lambda text: text.encode(errors="replace")))
@example(".csv", b",,,\n,,,\n")
@example(".csv", b"text,label\n")
@example(".csv", b'text,label\n"never closed,1\n')
@example(".jsonl", b'{"text": ' + b"[" * 50_000)
@example(".jsonl", b'{"\\ud800": "x"}\n' * 9)
@example(".jsonl", b'{"text": "\\ud800", "label": 1}\n' * 9)
@example(".txt", b"\0\0\n\n" * 20)
def test_any_bytes(tmp_path, suffix, content):
    works_or_says_why(tmp_path, content, suffix)


@given(st.data(), st.sampled_from(SUFFIXES))
def test_a_damaged_file(tmp_path, drawn, suffix):
    works_or_says_why(tmp_path, drawn.draw(damaged(SOUND[suffix])), suffix)


@given(
    st.lists(st.lists(CELL, max_size=4), max_size=8),
    st.sampled_from(",;\t|\x01"),
    st.sampled_from(ENCODINGS),
    st.sampled_from([".csv", ".tsv"]),
)
def test_any_table_of_text(tmp_path, rows, delimiter, encoding, suffix):
    text = "\n".join(delimiter.join(cells) for cells in [["text", "label"], *rows])
    works_or_says_why(tmp_path, text.encode(encoding, errors="replace"), suffix)


@given(st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]) | TEXTS, VALUES, max_size=3), max_size=4))
def test_any_objects(tmp_path, rows):
    lines = [line for row in rows if (line := as_json(row)) is not None]
    works_or_says_why(tmp_path, "\n".join(lines).encode(), ".jsonl")
    works_or_says_why(tmp_path, f"[{','.join(lines)}]".encode(), ".json")


COLUMNS = [
    pa.array(["a text", "b text"] * 8),
    pa.array([1, 2] * 8),
    pa.array([0.5, float("nan")] * 8),
    pa.array([True, None] * 8),
    pa.nulls(16),
    pa.array([b"\xff", b"\0"] * 8),
    pa.array(["a", "b"] * 8).dictionary_encode(),
    pa.array([[1], None] * 8),
    pa.array([{"bytes": None, "path": "/dev/zero"}] * 16),
    pa.array([{"bytes": b"\x89PNG\r\n\x1a\n", "path": None}] * 16),
    pa.array([{"bytes": 3, "path": 4}] * 16),
    pa.array([2**62, -(2**62)] * 8, pa.timestamp("s")),
    pa.array([2**31 - 1, 0] * 8, pa.date32()),
    pa.array([2**62, 1] * 8, pa.duration("s")),
    pa.array([1, 2] * 8, pa.timestamp("ns", "No/Where")),
    pa.array([[("k", 1)], []] * 8, pa.map_(pa.string(), pa.int64())),
    pa.StringArray.from_buffers(16, pa.py_buffer(b"".join(i.to_bytes(4, "little") for i in range(17))),
                                pa.py_buffer(b"\xff" * 16)),
]  # fmt: skip


@given(st.lists(st.tuples(st.sampled_from(["text", "label", "image", "x", ""]), st.sampled_from(COLUMNS)), max_size=4))
def test_any_columns_of_parquet(tmp_path, columns):
    table = pa.table([column for _, column in columns], names=[name for name, _ in columns])
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except (pa.ArrowException, NotImplementedError):
        return
    works_or_says_why(tmp_path, sink.getvalue(), ".parquet")


CHOICE = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from(choices.TASKS),
        "text_column": st.sampled_from(["text", "label", "nothing", ""]),
        "label_column": st.sampled_from(["text", "label", "stars", "nothing"]),
        "group_column": st.sampled_from(["text", "label", "stars", "nothing"]),
        "max_rows": st.integers(10, 20),
        "validation_fraction": st.floats(0.01, 0.5),
        "test_fraction": st.floats(0, 0.5),
    },
)


@given(CHOICE)
def test_any_choice_of_columns(tmp_path, choice):
    works_or_says_why(tmp_path, SOUND[".csv"], ".csv", **choice)


CELLS = (
    st.text(max_size=3)
    | st.integers(0, 3)
    | st.sampled_from(
        [
            None,
            float("nan"),
            pd.NaT,
            pd.NA,
            pd.Timestamp(0),
            np.float32(1),
            np.arange(3),
            [1],
            {"a": 1},
            b"x",
            object(),
            "\ud800",
        ]
    )
)


@given(st.lists(st.tuples(TEXTS | st.integers(), st.lists(CELLS, min_size=8, max_size=8)), max_size=3))
def test_any_frame(columns):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas on odd mixtures
        frame = pd.DataFrame({i: pd.Series(values, dtype=object) for i, (_, values) in enumerate(columns)})
        frame.columns = pd.Index([name for name, _ in columns], dtype=object)
    shows(outcome(lambda: data.load(choices.Data(), table=frame)))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b",,\n,,\n", "no column names"),
        ("a.csv", b"text,text\na,b\n", "two columns named 'text'"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.csv", b"text,label\na,b\nc\n", "line 3: expected 2 columns"),
        ("a.csv", b"text,label\nab\xe9,1\n", "byte 0xe9 at offset 13, line 2"),
        ("a.csv", b"text,label\n" + b'"' + b"x," * 200_000 + b"\n", "a quote is opened and never closed"),
        ("a.jsonl", b'{"a\\u0000": "x", "text": "y"}\n' * 8, "column 1, 'a\\x00', contains a zero byte"),
        ("a.jsonl", b'{"text": "\\udc00"}\n' * 8, "line 1: the text contains half a character"),
        ("a.jsonl", b'{"text": ' + b"9" * 5_000 + b"}\n", "line 1: can't be read"),
        ("a.parquet", SOUND[".parquet"][:200], "can't be read as a Parquet file"),
        ("a.pkl", b"cos\nsystem\n(S'true'\ntR.", "a pickle can run code"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    told = said(lambda: data.load(choices.Data(source=str(tmp_path / name))))
    assert words in told
    assert len(told) < 1_000


def test_a_wide_header_is_not_repeated_in_full(tmp_path):
    (tmp_path / "a.csv").write_text(",".join(f"column {i}" for i in range(50_000)) + "\n")
    assert len(said(lambda: data.load(choices.Data(source=str(tmp_path / "a.csv"))))) < 3_000
