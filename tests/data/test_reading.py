"""Files, folders and objects: what is read, and what is refused with its line and reason."""

import codecs
import csv
import json

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench import data
from workbench.data import reading
from workbench.errors import DataError
from workbench.plan import choices

ROWS = [(f"the {i}th text, which is good", "positive") for i in range(10)] + [
    (f"the {i}th text, which is bad", "negative") for i in range(10)
]


def write_csv(path, rows=ROWS, *, delimiter=",", header=("text", "label"), encoding="utf-8"):
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([header, *rows])
    return path


def read(path):
    return reading.read_source(str(path))


def refused(path):
    with pytest.raises(DataError) as caught:
        data.load(choices.Data(source=str(path)))
    return caught.value


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_byte_order_marks(tmp_path, delimiter, encoding):
    rows = [("“curly”, with, commas; semicolons\tand\nline breaks", "a"), ('a "quoted" word', "b"), ("plain", "a")]
    table = read(write_csv(tmp_path / "x.csv", rows, delimiter=delimiter, encoding=encoding))
    assert table.values("text") == [text for text, _ in rows]
    assert table.values("label") == ["a", "b", "a"]


def test_places_are_the_lines_rows_start_in(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('\n\ntext,label\n\n"two\nlines",a\n\nnext,b\n')
    table = read(path)
    assert [table.place(0), table.place(1)] == ["line 5", "line 8"]


def test_delimiter_is_the_one_that_rows_agree_on(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("what, they said;label\nyes, it is; a\nno;b\nwell, well, well;b\n")
    assert list(read(path).columns) == ["what, they said", "label"]


def test_one_column_may_hold_any_delimiter(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text('text\none, two; three\n"quoted, too"\n')
    assert read(path).values("text") == ["one, two; three", "quoted, too"]


def test_quotes_between_tabs_may_be_plain_characters(tmp_path):
    path = tmp_path / "x.tsv"
    path.write_text('text\tlabel\n"Up" is fine\ta\nit"s\tb\n')
    table = read(path)
    assert table.values("text") == ['"Up" is fine', 'it"s']
    assert "quotes" in table.notes[0]


def test_pandas_index_column_has_a_name(tmp_path):
    path = tmp_path / "x.csv"
    pd.DataFrame(ROWS, columns=["text", "label"]).to_csv(path)
    assert list(read(path).columns) == ["unnamed 1", "text", "label"]


def test_very_long_fields_are_read_and_csv_keeps_its_limit(tmp_path):
    before = csv.field_size_limit()
    table = read(write_csv(tmp_path / "x.csv", [("x" * 300_000, "a")]))
    assert len(table.values("text")[0]) == 300_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("x.csv", b"", "is empty"),
        ("x.csv", b" \n\n", "is empty"),
        ("x.csv", b"text,label\n", "no rows"),
        ("x.csv", b"text,text,label\na,b,c\n", "two columns named 'text'"),
        ("x.csv", b"text,label\na,b\nc,d,e\nf\n", "line 3: expected 2 columns as in the header, got 3; 1 more row has"),
        ("x.csv", b"text,label\na,b\n\"c,d\ne,f\n", "line 3: a quote is opened and never closed"),
        ("x.csv", b"text,label\na,b\ncaf\xe9,d\n", "byte 0xe9 at offset 18, line 3"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', "line 2: not JSON"),
        ("x.jsonl", b'{"text": "a"}\n[1]\n', "line 2: expected an object, got [1]"),
        ("x.jsonl", b"[" * 100_000, "can't be read"),
        ("x.json", b'[{"text": "a"}, 3]', "row 1: expected an object, got 3"),
        ("x.json", b'[{"text": "a"},\n {"text" 3}]', "line 2"),
        ("x.json", b"{}", "contains no values"),
        ("x.jsonl", b'{"n": ' + b"9" * 5000 + b"}", "line 1"),
        ("x.parquet", b"PAR1 is not enough", "can't be read as a Parquet file"),
        ("x.xlsx", b"PK", "a .xlsx file"),
        ("x.pkl", b"\x80", "a .pkl file"),
        ("x", b"text", "a file without a suffix"),
    ],
)  # fmt: skip
def test_a_bad_file_says_where_and_why(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    assert words in refused(path).what


def test_excel_says_what_to_do(tmp_path):
    (tmp_path / "x.xlsx").write_bytes(b"PK")
    assert "CSV" in refused(tmp_path / "x.xlsx").hint


def test_a_file_without_column_names_is_noticed(tmp_path):
    table = read(write_csv(tmp_path / "x.csv", ROWS[1:], header=ROWS[0]))
    assert "'positive' among them" in table.notes[0]
    assert not read(write_csv(tmp_path / "y.csv")).notes


def test_addresses_and_hub_names_say_what_to_do():
    assert "download" in refused("https://example.org/a.csv").hint
    assert "load_dataset" in refused("someone/reviews").hint
    assert refused("nowhere/a.csv").what == "there is no file 'nowhere/a.csv', and no folder 'nowhere'"


def test_a_missing_file_names_the_nearest_one(tmp_path):
    write_csv(tmp_path / "reviews.csv")
    assert "'reviews.csv'" in refused(tmp_path / "reviws.csv").hint
    assert "'sentiment:movies'" in refused("sentiment:movie").hint


def test_only_what_can_be_read_is_suggested(tmp_path):
    for name in ("nosuch.ipynb", ".nosuch.csv", "a.py"):
        (tmp_path / name).touch()
    (tmp_path / "nosuch_csv").mkdir()
    assert refused(tmp_path / "nosuch.csv").hint.startswith("give a .csv, .tsv, ")
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "1.png").touch()
    assert "'photos'" in refused(tmp_path / "fotos").hint


@pytest.mark.parametrize("source", ["x" * 4000 + ".csv", "~nobody-at-all/x.csv", "no/such/folder/x.csv", "", "."])
def test_odd_paths_are_refused_too(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    refused(source)


def test_json_lines_and_lists(tmp_path):
    objects = [{"text": "a\u2028b", "label": 1}, {"text": "c", "extra": None}]
    lines, whole, wrapped = tmp_path / "x.jsonl", tmp_path / "y.json", tmp_path / "z.json"
    lines.write_text("\n\n".join(json.dumps(o, ensure_ascii=False) for o in objects) + "\n", encoding="utf-8")
    whole.write_text(json.dumps(objects, indent=2))
    wrapped.write_text(json.dumps({"version": 1, "data": objects}))
    for path in (lines, whole, wrapped):
        table = read(path)
        assert table.values("text") == ["a\u2028b", "c"]
        assert table.values("label") == [1, None]
    assert read(lines).place(1) == "line 3"


def test_parquet_keeps_class_names(tmp_path):
    path = tmp_path / "x.parquet"
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = pa.table({"text": [f"text {i}" for i in range(20)], "label": [0, 1] * 10}, schema=features.arrow_schema)
    pq.write_table(table, path)
    assert data.load(choices.Data(source=str(path))).labels == ("no", "yes")


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path):
    path = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), path)
    assert "two columns" in refused(path).what


def test_text_files(tmp_path):
    paragraphs = tmp_path / "book.txt"
    paragraphs.write_text("\n\n\n".join(f"paragraph {i},\nsecond line" for i in range(12)))
    lines = tmp_path / "lines.txt"
    lines.write_text("\r\n".join(f"sentence {i}" for i in range(12)))
    assert read(paragraphs).values("text")[1] == "paragraph 1,\nsecond line"
    assert read(paragraphs).place(1) == "line 5"
    assert read(lines).values("text")[3] == "sentence 3"
    split = data.load(choices.Data(source=str(lines)))
    assert (split.task, split.labels, split.rows) == ("language-modeling", (), 12)


def test_folder_of_documents(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.txt").write_text(f"document {i}")
    split = data.load(choices.Data(source=str(tmp_path)))
    assert (split.task, split.rows) == ("language-modeling", 12)


def test_folder_of_texts_by_class(tmp_path):
    for i in range(24):
        folder = tmp_path / ("neg", "pos")[i % 2]
        folder.mkdir(exist_ok=True)
        (folder / f"{i}.txt").write_text(f"review {i}")
    split = data.load(choices.Data(source=str(tmp_path)))
    assert (split.task, split.labels) == ("text-classification", ("neg", "pos"))


def paint(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, dtype=np.uint8)).save(path)


@pytest.mark.parametrize("suffix", ["png", "JPG", "webp"])
def test_folder_of_images_by_class(tmp_path, suffix):
    for i in range(20):
        paint(tmp_path / ("cat", "dog")[i % 2] / f"{i}.{suffix}", 12 * i)
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    split = data.load(choices.Data(source=str(tmp_path)))
    assert (split.task, split.labels, split.rows) == ("image-classification", ("cat", "dog"), 20)
    assert split.columns == {"image": "image", "label": "folder"}
    assert split.train[0]["image"].size == (8, 8)
    assert any("1 file" in note for note in split.notes)


def test_given_splits_of_an_image_folder_are_kept(tmp_path):
    for part, rows in {"train": 12, "val": 4, "test": 6}.items():
        for i in range(rows):
            paint(tmp_path / part / ("cat", "dog")[i % 2] / f"{part}{i}.png", 7 * i + len(part))
    split = data.load(choices.Data(source=str(tmp_path)))
    assert [len(split.part(name)) for name in ("train", "validation", "test")] == [12, 4, 6]


def test_a_missing_given_split_is_carved_out_of_train(tmp_path):
    for part, rows in {"train": 20, "test": 6}.items():
        for i in range(rows):
            paint(tmp_path / part / ("cat", "dog")[i % 2] / f"{i}.png", 5 * i + (part == "test"))
    split = data.load(choices.Data(source=str(tmp_path), validation_fraction=0.2))
    assert [len(split.part(name)) for name in ("train", "validation", "test")] == [16, 4, 6]


@pytest.mark.parametrize("damage", ["cut", "text"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_unreadable_image_is_named(tmp_path, damage, suffix):
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / ("cat", "dog")[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    bad = tmp_path / "cat" / f"4.{suffix}"
    bad.write_bytes(bad.read_bytes()[:2000] if damage == "cut" else b"not an image")
    assert f"cat/4.{suffix}" in refused(tmp_path).what


def test_the_hint_for_a_folder_of_tables_knows_every_format(tmp_path, monkeypatch):
    monkeypatch.setitem(reading.READERS, ".new", None)
    (tmp_path / "rows.new").write_text("x")
    assert refused(tmp_path).hint.endswith("rows.new")


def test_folders_that_hold_no_classes(tmp_path):
    assert "no images" in refused(tmp_path).what
    write_csv(tmp_path / "reviews.csv")
    assert "reviews.csv" in refused(tmp_path).hint
    paint(tmp_path / "1.png", 3)
    assert "no class folder" in refused(tmp_path).what
    (tmp_path / "a.txt").write_text("x")
    assert "both" in refused(tmp_path).what


def test_pandas_frames(tmp_path):
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    frame.loc[3, "text"] = None
    frame.loc[5, "label"] = float("nan")
    frame["stars"] = pd.array([1, 2] * 10, dtype="Int64")
    before = frame.copy()
    split = data.load(choices.Data(label_column="stars"), table=frame)
    assert split.labels == ("1", "2")
    assert split.source == "table"
    assert "1 row without text left out (row 3)" in split.notes
    assert "1 row without label left out (row 5)" in data.load(choices.Data(), table=frame).notes
    pd.testing.assert_frame_equal(frame, before)


def test_frames_with_odd_columns():
    frame = pd.DataFrame([[f"text {i}", i % 2 == 0] for i in range(20)])
    split = data.load(choices.Data(), table=frame)
    assert split.columns == {"text": "0", "label": "1"}
    assert split.labels == ("False", "True")
    frame.columns = ["text", "text"]
    with pytest.raises(DataError, match="two columns"):
        data.load(choices.Data(), table=frame)


def test_frame_of_images():
    images = [Image.fromarray(np.full((8, 8), i, dtype=np.uint8)) for i in range(20)]
    split = data.load(choices.Data(), table=pd.DataFrame({"picture": images, "label": [0, 1] * 10}))
    assert split.task == "image-classification"
    assert split.train[0]["image"].size == (8, 8)


def test_datasets_keep_their_class_names_and_order():
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["z", "y", "x"])}
    )
    rows = {"text": [f"text {i}" for i in range(40)], "label": [0, 2] * 20}
    split = data.load(choices.Data(), table=datasets.Dataset.from_dict(rows, features=features).select(range(30)))
    assert split.labels == ("z", "x")
    assert split.rows == 30


def test_dataset_dictionaries_keep_their_splits():
    def part(start, rows):
        return datasets.Dataset.from_dict(
            {"text": [f"text {i}" for i in range(start, start + rows)], "label": [0, 1] * (rows // 2)}
        )

    parts = {"train": part(0, 20), "validation": part(20, 6), "test": part(24, 8), "other": part(90, 2)}
    split = data.load(choices.Data(), table=datasets.DatasetDict(parts))
    assert {name: len(split.part(name)) for name in ("train", "validation", "test")} == {
        "train": 20,
        "validation": 6,
        "test": 8,
    }
    assert any("2 rows are in more than one of the given splits" in note for note in split.notes)
    assert any("other" in note for note in split.notes)
    with pytest.raises(DataError, match="expected train"):
        data.load(choices.Data(), table=datasets.DatasetDict({"a": part(0, 4)}))


@pytest.mark.parametrize("table", [[{"text": "a"}], 3, {"text": ["a"]}])
def test_other_objects_are_refused(table):
    with pytest.raises(DataError, match="expected a pandas frame"):
        data.load(choices.Data(), table=table)


def test_nothing_is_cached_and_no_setting_changed():
    before = datasets.is_progress_bar_enabled()
    split = data.load(choices.Data(), table=pd.DataFrame(ROWS, columns=["text", "label"]))
    assert split.train.cache_files == split.validation.cache_files == []
    assert datasets.is_progress_bar_enabled() == before


def test_empty_objects_are_refused():
    for table in (pd.DataFrame(), pd.DataFrame({"text": []}), datasets.Dataset.from_dict({"text": [], "label": []})):
        with pytest.raises(DataError, match="no rows"):
            data.load(choices.Data(), table=table)


def only_data_errors(path, content):
    path.write_bytes(content)
    for task in (None, "text-classification", "language-modeling"):
        try:
            split = data.load(choices.Data(source=str(path), task=task))
        except DataError as error:
            assert error.what  # noqa: PT017
        else:
            assert split.rows > 0


@given(suffix=st.sampled_from(["csv", "tsv", "jsonl", "json", "txt"]), content=st.binary(max_size=200))
def test_random_bytes_raise_nothing_else(tmp_path, suffix, content):
    only_data_errors(tmp_path / f"x.{suffix}", content)


ODD = st.text(alphabet=st.sampled_from('ab,;\t|"\n\r\x00\x1f\ufeff é\u2028{}[]:0.1'), max_size=300)


@given(suffix=st.sampled_from(["csv", "tsv", "txt"]), header=st.sampled_from(["", "text,label\n", "a\n"]), body=ODD)
def test_random_tables_raise_nothing_else(tmp_path, suffix, header, body):
    only_data_errors(tmp_path / f"x.{suffix}", (header + body).encode())


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


@pytest.mark.slow
@given(
    objects=st.lists(st.dictionaries(st.sampled_from(["text", "label", "x"]), VALUE, max_size=3), max_size=20),
    junk=st.sampled_from([b"", b"{", b"nul", b'{"text": "\\ud800"}', codecs.BOM_UTF8]),
)
def test_random_objects_raise_nothing_else(tmp_path, objects, junk):
    lines = "\n".join(json.dumps(entry) for entry in objects).encode()
    only_data_errors(tmp_path / "x.jsonl", lines + b"\n" + junk)


@pytest.mark.slow
@given(
    rows=st.lists(
        st.tuples(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text("ab", min_size=1, max_size=1)),
        min_size=1,
    )
)
def test_what_csv_writes_is_read_back(tmp_path, rows):
    path = write_csv(tmp_path / "x.csv", rows)
    table = read(path)
    assert list(zip(table.values("text"), table.values("label"), strict=True)) == rows
