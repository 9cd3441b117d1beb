"""Drop files in every format, whole and damaged."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moderation_pipelines.foundation.settings import Bounds
from moderation_pipelines.ingest import reading
from moderation_pipelines.ingest.reading import DropRejected, RawRow, read_rows, reader_of

MakeFile = Callable[[str, bytes], Path]
ROWS = [{"item_id": "a", "text": 'one, "two"\nthree'}, {"item_id": "b", "text": "四"}]
REQUIRED = ("item_id", "text")


def as_jsonl() -> bytes:
    import json

    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in ROWS).encode()


def as_csv() -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["item_id", "text"])
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def packed(data: bytes, ending: str) -> bytes:
    if ending == ".gz":
        return gzip.compress(data)
    return bytes(pa.compress(data, "zstd", asbytes=True)) if ending == ".zst" else data


def rows_of(path: Path, **bounds: int) -> list[RawRow]:
    return [row for batch in read_rows(path, REQUIRED, bounds=Bounds(**bounds)) for row in batch]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("ending", "make"), [(".jsonl", as_jsonl), (".csv", as_csv), (".parquet", as_parquet)])
def test_every_format_gives_the_same_rows(
    make_file: MakeFile, ending: str, make: Callable[[], bytes], packing: str
) -> None:
    path = make_file(f"f{ending}{packing}", packed(make(), packing))
    rows = rows_of(path)
    assert [r.fields for r in rows] == ROWS
    assert [r.rule for r in rows] == [None, None]


def test_line_numbers_are_those_of_the_file(make_file: MakeFile) -> None:
    # Line 2 is blank, line 4 broken.
    path = make_file("f.jsonl", b'{"item_id":"a","text":"x"}\n\n{"item_id":"b","text":"y"}\n{"item_id"\n')
    assert [(r.line, r.rule) for r in rows_of(path)] == [(1, None), (3, None), (4, "broken_json")]
    # The first row spans lines 2 and 3, the second is line 4, the third, ragged, line 5.
    path = make_file("f.csv", b'item_id,text\na,"x\ny"\nb,z\nc\n')
    assert [(r.line, r.rule) for r in rows_of(path)] == [(2, None), (4, None), (5, "ragged_row")]


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b'{"item_id": "a", "text": ', "broken_json"),
        (b'["a"]', "broken_json"),
        (b"NaN", "broken_json"),
        (b'{"item_id": "a", "text": "\xff\xfe"}', "invalid_utf8"),
        (b'{"item_id": "a\x00b", "text": "t"}', "nul_byte"),
        (b'{"item_id": "a", "text": "\\ud800"}', "broken_json"),
    ],
)
def test_a_bad_json_line_is_one_bad_row(make_file: MakeFile, line: bytes, rule: str) -> None:
    path = make_file("f.jsonl", as_jsonl() + line + b"\n" + as_jsonl())
    rows = rows_of(path)
    assert [r.rule for r in rows] == [None, None, rule, None, None]
    assert rows[2].line == 3
    assert rows[2].raw_text()


def test_bad_csv_rows_leave_the_others_alone(make_file: MakeFile) -> None:
    path = make_file("f.csv", b"item_id,text\na,x\nb,x,y\nc,\xff\xfe\nd,\x00\ne,fine\n")
    assert [r.rule for r in rows_of(path)] == [None, "ragged_row", "invalid_utf8", "nul_byte", None]


def test_a_stray_quote_costs_its_own_line_only(make_file: MakeFile) -> None:
    # Left alone, the csv module would swallow lines up to the next quote, or to the end of the file.
    data = b'item_id,text\na,"oops\nb,fine\nc,fine\nd,"quoted"\ne,"never closed\nf,fine\n'
    rows = rows_of(make_file("f.csv", data))
    assert [(r.line, r.rule) for r in rows] == [
        (2, "broken_csv"),
        (3, None),
        (4, None),
        (5, None),
        (6, "broken_csv"),
        (7, None),
    ]
    assert rows[0].raw_text() == 'a,"oops'


def test_a_byte_order_mark_is_taken_off(make_file: MakeFile) -> None:
    assert rows_of(make_file("f.csv", b"\xef\xbb\xbf" + as_csv()))[0].fields == ROWS[0]
    assert rows_of(make_file("f.jsonl", b"\xef\xbb\xbf" + as_jsonl()))[0].fields == ROWS[0]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("f.jsonl", b"", "empty"),
        ("f.jsonl.gz", gzip.compress(b""), "empty"),
        ("f.txt", b"x", "ends in none of"),
        ("f.jsonl", as_jsonl().decode().encode("utf-16"), "UTF-16"),
        ("f.jsonl.gz", gzip.compress(as_jsonl() * 500)[:-12], "truncated"),
        ("f.jsonl.zst", packed(as_jsonl() * 500, ".zst")[:-6], "truncated"),
        ("f.jsonl.gz", as_jsonl(), "not a valid gzip"),
        ("f.jsonl.zst", as_jsonl(), "not a valid zstd"),
        ("f.parquet", as_parquet()[:-20], "not a valid Parquet"),
        ("f.parquet", b"PAR1", "not a valid Parquet"),
        ("f.csv", b"item_id,txt\na,b\n", 'column "text" is missing; did you mean "txt"?'),
        ("f.csv", b"item_id,text,text\na,b,c\n", "column 3 has the name of an earlier one"),
        ("f.csv", b'item_id,"text\na,b\n', "not valid CSV"),
    ],
)
def test_a_file_that_cannot_be_read_is_rejected_with_the_reason(
    make_file: MakeFile, name: str, data: bytes, said: str
) -> None:
    with pytest.raises(DropRejected, match=said.replace("?", r"\?")):
        rows_of(make_file(name, data))


def test_a_link_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").symlink_to("/etc/passwd")
    with pytest.raises(DropRejected, match="regular file"):
        rows_of(tmp_path / "f.jsonl")


def test_an_overlong_line_is_cut_and_the_next_one_read(make_file: MakeFile) -> None:
    rows = rows_of(make_file("f.jsonl", b'{"text": "' + b"x" * 5000 + b'"}\n' + as_jsonl()), record=1000)
    assert [(r.line, r.rule) for r in rows] == [(1, "overlong_line"), (2, None), (3, None)]
    rows = rows_of(make_file("f.csv", b"item_id,text\na,b\nc," + b"x" * 5000 + b"\nd,e\n"), record=1000)
    assert [(r.line, r.rule) for r in rows] == [(2, None), (3, "overlong_line"), (4, None)]


def test_deep_nesting_is_one_bad_row(make_file: MakeFile) -> None:
    deep = b'{"item_id": "a", "text": "t", "x": ' + b"[" * 500 + b"]" * 500 + b"}\n"
    assert [r.rule for r in rows_of(make_file("f.jsonl", deep + as_jsonl()))] == ["too_deep", None, None]


def test_large_rows_come_in_small_batches(make_file: MakeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BATCH_BYTES", 10_000)
    path = make_file("f.jsonl", (b'{"item_id": "a", "text": "' + b"x" * 4000 + b'"}\n') * 9)
    assert [len(batch) for batch in read_rows(path, REQUIRED)] == [3, 3, 3]


def test_a_header_is_never_quoted_in_a_message(make_file: MakeFile) -> None:
    with pytest.raises(DropRejected) as caught:
        rows_of(make_file("f.csv", b"c1,somebody said something private,en\n"))
    assert "private" not in str(caught.value)


def test_integers_beyond_64_bits_are_kept_as_they_are(make_file: MakeFile) -> None:
    rows = rows_of(make_file("f.jsonl", b'{"item_id": "a", "big": 123456789012345678901234567890}\n'))
    assert rows[0].fields["big"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("name", "parts"),
    [("a.JSONL.GZ", ("jsonl", ".gz")), ("a.b.csv", ("csv", "")), ("x.parquet.zst", ("parquet", ".zst"))],
)
def test_formats_go_by_name(name: str, parts: tuple[str, str]) -> None:
    reader, packed = reader_of(name)
    assert (reader.name, packed) == parts
