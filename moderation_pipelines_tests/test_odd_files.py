"""Odd files: one never costs a day, none costs minutes or gigabytes, and what is said of it helps and tells no text."""

from __future__ import annotations

import gzip
import io
import json
import random
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from moderation_pipelines.foundation.errors import masked, nearest, shown
from moderation_pipelines.foundation.settings import Bounds, Settings
from moderation_pipelines.ingest import day as day_module
from moderation_pipelines.ingest.day import FileResult, stage_file
from moderation_pipelines.ingest.landing import DropFile
from moderation_pipelines.ingest.looks_like import column_meant
from moderation_pipelines.ingest.reading import read_rows
from moderation_pipelines.ingest.tables import CONTENT, CONVERSIONS, DROPS, QUARANTINE
from moderation_pipelines.orchestration.stages import all_problems
from moderation_pipelines.sample.generate import sample_files
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome, modpipe

VOTE = {"item_id": "i1", "policy": "harassment", "label": "fine", "rater_id": "r1"}
GOOD = '{"item_id": "good", "text": "a sound row", "locale": "en"}\n'
MakeFile = Callable[[str, bytes], Path]


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def staged(path: Path, feed: str = "content", **bounds: int) -> FileResult:
    """The file through the first pass, in a folder beside it."""
    folder = path.parent / "staging"
    folder.mkdir(exist_ok=True)
    return stage_file(DropFile(feed, DAY, path), folder, load_nothing(), Settings(bounds=Bounds(**bounds)))


def load_nothing() -> Any:
    from moderation_pipelines.policies.policy import Policies

    return Policies([])


# One contract, one net


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("text", '"cut \\ud83d"', "broken_json"),
        ("item_id", '"cut \\ud83d"', "broken_json"),
        ("rationale", '"\\udc00"', "broken_json"),
        ("item_id", "1" * 5000, "overlong_id"),
        ("item_id", "NaN", "missing_value"),
        ("text", "Infinity", "wrong_type"),
    ],
)
@pytest.mark.parametrize("long_number", ["", ', "tweet": 1234567890123456789'])
def test_a_value_is_judged_alike_whether_or_not_a_long_number_stands_beside_it(
    small: SmallHome, field: str, value: str, rule: str, long_number: str
) -> None:
    row = {"item_id": '"a"', "text": '"t"', field: value}
    line = "{" + ", ".join(f'"{k}": {v}' for k, v in row.items()) + long_number + "}\n"
    small.deliver("content", "odd.jsonl", line + GOOD)
    small.deliver("content", "other.jsonl", GOOD.replace("good", "other"))
    done = small.ingest()
    assert {f.name: (f.status, f.accepted, f.quarantined) for f in done.files} == {
        "odd.jsonl": ("accepted", 1, 1), "other.jsonl": ("accepted", 1, 0),
    }  # fmt: skip
    bad = small.warehouse.scan(QUARANTINE, [DAY]).collect()
    assert bad["rule"].to_list() == [rule]


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("views", "1" * 5000, "out_of_range"),
        ("views", "1e999", "out_of_range"),
        ("views", "-Infinity", "out_of_range"),
        ("views", "NaN", "nan_as_missing"),
        ("x", "1" * 60, None),
        ("x", "[NaN, -Infinity]", None),
    ],
)
@pytest.mark.parametrize("long_number", ["", ', "tweet": 1234567890123456789'])
def test_a_number_that_cannot_be_costs_its_value_at_most(
    small: SmallHome, field: str, value: str, rule: str | None, long_number: str
) -> None:
    small.deliver("content", "odd.jsonl", f'{{"item_id": "a", "text": "t", "{field}": {value}{long_number}}}\n{GOOD}')
    done = small.ingest()
    assert [(f.accepted, f.quarantined) for f in done.files] == [(2, 0)]
    assert done.files[0].conversions == ({} if rule is None else {(field, rule): 1})


def test_what_nobody_foresaw_rejects_its_file_loudly_and_the_others_go_on(
    small: SmallHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.deliver("content", "a.jsonl", GOOD)
    small.deliver("content", "b.jsonl", GOOD.replace("good", "b"))
    checked = day_module.checked_batch

    def failing(*arguments: Any) -> Any:
        if arguments[3] == "a.jsonl":
            raise ZeroDivisionError("a sound row")
        return checked(*arguments)

    monkeypatch.setattr(day_module, "checked_batch", failing)
    done = small.ingest()
    assert [(f.name, f.status) for f in done.files] == [("a.jsonl", "rejected"), ("b.jsonl", "accepted")]
    reason = small.warehouse.scan(DROPS, [DAY]).filter(drop_file="a.jsonl").collect()["reason"][0]
    assert "ZeroDivisionError in test_odd_files.py:" in reason
    assert "a sound row" not in reason


def test_two_thousand_mutated_files_of_a_home_are_mistakes_and_never_a_traceback(small: SmallHome) -> None:
    rng = random.Random(7)
    originals = {n: d for n, d in sample_files().items() if n.startswith("prompts/")}
    for name, data in originals.items():
        small.write(name, data)
    pieces = (b": ", b"\t", b"- ", b"'", b'"', b"*a", b"&a", b"!!int ", b"9" * 5000, b'"\\ud83d"', b"\xff", b"{", b"[", b"\n---\n",
              b".inf", b"2026-99-99", b"\x00", b"null", b"!!binary x", b"1e999", b"<<: ", b"!!timestamp 1", b"\xf0\x9f")  # fmt: skip
    names = sorted(originals)
    told = 0
    for _ in range(400):
        chosen = rng.sample(names, 5)
        for name in chosen:
            data = bytearray(originals[name])
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(data))
                data[at : at + rng.randrange(0, 12)] = rng.choice(pieces)
            small.write(name, bytes(data))
        found = all_problems(small.home)  # raises nothing
        told += bool(found)
        assert all("Traceback" not in str(p) and "instance of" not in str(p) for p in found)
        for name in chosen:
            small.write(name, originals[name])
    assert told > 300
    assert all_problems(small.home) == []


# Bounds


def quotes() -> bytes:
    return b'{"item_id": "a", "text": "t", "x": ' + b"[" * 65 + b'\\"' * 40_000 + b"\n" + GOOD.encode()


def wide_header() -> bytes:
    return ("item_id,text," + ",".join(f"c{k}" for k in range(20_000)) + "\na,b\n").encode()


def one_word_for_all() -> bytes:
    word = pa.DictionaryArray.from_arrays(pa.array([0] * 4000, pa.int32()), pa.array(["x" * 1_000_000]))
    out = io.BytesIO()
    pq.write_table(
        pa.table({"item_id": [f"i{k}" for k in range(4000)], "text": word}), out, compression="zstd",
        use_dictionary=["text"], dictionary_pagesize_limit=10**8, store_schema=False,
    )  # fmt: skip
    return out.getvalue()


def nothing_many_times() -> bytes:
    out, n = io.BytesIO(), 20_000_000
    schema = pa.schema([("item_id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        writer.write_table(pa.table([pa.nulls(n, pa.string())] * 2, schema=schema), row_group_size=n)
    return out.getvalue()


def packed_zeros() -> bytes:
    return gzip.compress(parquet(item_id=["a"], text=["b"], z=[bytes(250_000_000)]), 1)


def many_fields() -> bytes:
    return b"".join(
        b"{" + b",".join(b'"k%d_%d":1' % (r, k) for k in range(1900)) + b"}\n" for r in range(100)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("quotes.jsonl", quotes, None),
        ("header.csv", wide_header, "the header has 20,002 columns; at most 2,000"),
        ("word.parquet", one_word_for_all, "more than 200 times as many"),
        ("nulls.parquet", nothing_many_times, "stand for over 19,999,999 rows"),
        ("zeros.parquet.gz", packed_zeros, "more than 200 times as many"),
        ("fields.jsonl", many_fields, "all 100 rows are quarantined"),
    ],
)
def test_a_small_file_costs_neither_minutes_nor_gigabytes(
    make_file: MakeFile, name: str, make: Callable[[], bytes], said: str | None
) -> None:
    path = make_file(name, make())
    before = time.process_time()
    tracemalloc.start()
    pool = pa.total_allocated_bytes()
    result = staged(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.process_time() - before < 20  # traced; a second without
    assert peak < 400 * 2**20
    assert pa.total_allocated_bytes() - pool < 100 * 2**20
    if said is None:
        assert (result.rows, dict(result.rules)) == (2, {"too_deep": 1})
    else:
        assert said in str(result.why)


def test_a_record_over_many_lines_is_bounded_in_bytes(make_file: MakeFile) -> None:
    path = make_file("f.csv", b'item_id,text\na,"' + (b"x" * 900 + b"\n") * 50 + b'"\nb,c\n')
    rows = [r for batch in read_rows(path, ("item_id", "text"), bounds=Bounds(record=10_000)) for r in batch]
    # The record is given up; its lines are rows with a cell too few, and the last row is sound.
    assert (rows[0].rule, rows[-1].fields) == ("broken_csv", {"item_id": "b", "text": "c"})
    assert {r.rule for r in rows[1:-2]} == {"ragged_row"}


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ({"bytes": 100}, "over 100 bytes; divide it, or raise MODERATION_DROP_BYTES"),
        ({"rows": 5}, "over 5 rows; divide it, or raise MODERATION_DROP_ROWS"),
        ({"columns": 1}, "2 columns; at most 1"),
    ],
)
def test_every_bound_is_told_with_the_setting_that_raises_it(
    make_file: MakeFile, bound: dict[str, int], said: str
) -> None:
    path = make_file("f.csv", b"item_id,text\n" + b"a,some text here\n" * 9)
    assert said in str(staged(path, **bound).reason)


def test_bounds_of_rows_cost_the_row(make_file: MakeFile) -> None:
    long = json.dumps({"item_id": "a", "text": "x" * 60}) + "\n"
    deep = json.dumps({"item_id": "b", "text": "t", "x": [[[1]]]}) + "\n"
    path = make_file("f.jsonl", (long + deep + GOOD).encode())
    assert dict(staged(path, cell=50).rules) == {"overlong_text": 1}
    assert dict(staged(path, depth=2).rules) == {"too_deep": 1}
    assert dict(staged(path, record=70).rules) == {"overlong_line": 1}


def test_time_is_a_watchdog_that_fails_the_run_and_rejects_nothing(small: SmallHome) -> None:
    from moderation_pipelines.foundation.errors import UserError

    small.deliver("content", "a.jsonl", GOOD)
    small.settings = Settings(bounds=Bounds(seconds=0))
    with pytest.raises(UserError, match="MODERATION_DROP_SECONDS"):
        small.ingest()
    assert small.warehouse.days(DROPS) == []


def test_bounds_come_from_the_environment() -> None:
    assert Settings.from_env({"MODERATION_DROP_ROWS": "7"}).bounds == Bounds(rows=7)


def padded(rows: int) -> bytes:
    return b"item_id,policy,label,labeled_at\n" + b"i,p,x,a" + b" " * 200_000 + b"b\n" * rows


def one_word_in_structs() -> bytes:
    word = pa.DictionaryArray.from_arrays(pa.array([0] * 2000, pa.int32()), pa.array(["x" * 1_000_000]))
    out = io.BytesIO()
    pq.write_table(
        pa.table({"item_id": [f"i{k}" for k in range(2000)], "text": ["t"] * 2000, "z": pa.StructArray.from_arrays([word], ["w"])}),
        out, compression="zstd", dictionary_pagesize_limit=10**8, store_schema=False,
    )  # fmt: skip
    return out.getvalue()


def fixed_width() -> bytes:
    out = io.BytesIO()
    wide = pa.array([bytes(1_000_000)] * 500, pa.binary(1_000_000))
    pq.write_table(
        pa.table({"item_id": [f"i{k}" for k in range(500)], "text": ["t"] * 500, "z": wide}), out, compression="zstd"
    )
    return out.getvalue()


def open_quotes() -> bytes:
    return b"item_id,text\n" + b'a","\n' * 60_000


@pytest.mark.parametrize(
    ("name", "feed", "make", "said"),
    [
        ("spaces.csv", "labels", lambda: padded(1), "all 1 rows are quarantined"),
        ("structs.parquet", "content", one_word_in_structs, "more than 200 times as many"),
        ("fixed.parquet", "content", fixed_width, "more than 200 times as many"),
        ("quotes.csv", "content", open_quotes, "quotes are opened and not closed, again and again"),
    ],
)
def test_neither_does_a_cleverer_one(
    make_file: MakeFile, name: str, feed: str, make: Callable[[], bytes], said: str
) -> None:
    path = make_file(name, make())
    before = time.process_time()
    result = staged(path, feed)
    assert time.process_time() - before < 10
    assert said in str(result.why)


def test_a_long_cell_is_one_bad_row_and_its_lines_are_none(make_file: MakeFile) -> None:
    """Whoever writes a text of a thousand lines must not write rows with it."""
    text = "\n".join(["a line"] * 600 + ["fake1,injected"] + ["a line"] * 600)
    path = make_file("f.csv", f'item_id,text\na,"{text}"\nb,honest\n'.encode())
    rows = [r for batch in read_rows(path, ("item_id", "text")) for r in batch]
    assert [(r.rule, r.fields) for r in rows] == [("overlong_line", {}), (None, {"item_id": "b", "text": "honest"})]


def test_empty_columns_of_a_spreadsheet_are_none(make_file: MakeFile) -> None:
    rows = [r for b in read_rows(make_file("f.csv", b"item_id,text,,\na,b,,\n"), ("item_id", "text")) for r in b]
    assert [r.fields for r in rows] == [{"item_id": "a", "text": "b"}]


def test_honest_sparse_columns_are_no_bomb(make_file: MakeFile) -> None:
    n = 50_000
    columns = {f"c{k:03d}": pa.nulls(n, pa.string()) for k in range(300)}
    data = parquet(item_id=[f"i{k}" for k in range(n)], text=["some words"] * n, **columns)
    assert staged(make_file("f.parquet", data)).status == "accepted"


# Values that may be null, and values written otherwise


def test_a_bad_value_in_a_column_that_may_be_null_is_nulled_kept_and_counted(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [
        {**VOTE, "labeled_at": "21.11.2026 8 Uhr", "seconds": -1, "confidence": 2, "rationale": 5, "rater_locale": "??"},
        {**VOTE, "rater_id": "r2", "labeled_at": "2026-11-21T08:30:00Z"},
        {**VOTE, "rater_id": "r3", "labeled_at": "soon", "kind": "golden"},
    ])  # fmt: skip
    small.deliver("content", "c.jsonl", [
        {"item_id": "i1", "text": "some English words to be told from others", "locale": "zz_zz_zz_nope", "views": "many",
         "created_at": 5, "surface": "x" * 300, "media_uri": ["a"]},
    ])  # fmt: skip
    done = small.ingest()
    votes = small.warehouse.scan(VOTES, [DAY]).sort("rater_id").collect()
    first = votes.row(0, named=True)
    assert [first[c] for c in ("labeled_at", "seconds", "confidence", "rationale", "rater_locale")] == [None] * 5
    assert json.loads(first["extra"]) == {
        "labeled_at": "21.11.2026 8 Uhr", "seconds": -1, "confidence": 2, "rationale": 5, "rater_locale": "??",
    }  # fmt: skip
    # A kind is never nulled: a gold row must not become a vote. Its row is out, and so is what was nulled in it.
    assert votes["rater_id"].to_list() == ["r1", "r2"]
    assert small.warehouse.scan(QUARANTINE, [DAY]).collect()["rule"].to_list() == ["unknown_kind"]
    item = small.warehouse.scan(CONTENT, [DAY]).collect().row(0, named=True)
    assert (item["locale"], item["locale_source"], item["views"], item["surface"]) == ("en", "detected", None, None)
    counted = small.warehouse.scan(CONVERSIONS, [DAY]).select("feed", "column", "rule", "n").collect().rows()
    assert set(counted) == {
        ("labels", "labeled_at", "bad_timestamp", 1), ("labels", "seconds", "out_of_range", 1),
        ("labels", "confidence", "out_of_range", 1), ("labels", "rationale", "wrong_type", 1),
        ("labels", "rater_locale", "bad_locale", 1), ("content", "locale", "bad_locale", 1),
        ("content", "views", "wrong_type", 1), ("content", "created_at", "wrong_type", 1),
        ("content", "surface", "overlong_name", 1), ("content", "media_uri", "wrong_type", 1),
    }  # fmt: skip
    note = next(f.notes for f in done.files if f.feed == "labels")
    assert note == [
        "labeled_at could not be read in 1 rows: among repeated votes in them the order in the file decides"
    ]


def test_numbers_of_every_kind_and_tags_in_their_other_spelling_are_read_and_counted(small: SmallHome) -> None:
    data = parquet(
        item_id=pa.array([Decimal("12"), Decimal("13"), Decimal("14")], pa.decimal128(10, 0)),
        policy=["harassment"] * 3,
        label=["bad"] * 3,
        rater_id=pa.array([101.0, float("nan"), 103.0]),
        seconds=pa.array([Decimal("1.50"), Decimal("2.25"), None], pa.decimal128(10, 2)),
        confidence=pa.array([0.5, float("nan"), None]),
        rater_locale=["en_US", "pt-br", "zh_hant"],
        labeled_at=["2026-11-21 08:30:00 UTC", "2026-325", "20261121T083000Z"],
    )
    small.deliver("labels", "f.parquet", data)
    small.ingest()
    votes = small.warehouse.scan(VOTES, [DAY]).sort("item_id").collect()
    assert votes["item_id"].to_list() == ["12", "13", "14"]
    assert votes["rater_id"].to_list() == ["101", None, "103"]
    assert votes["seconds"].to_list() == [1.5, 2.25, None]
    assert votes["confidence"].to_list() == [0.5, None, None]
    assert [str(t)[:16] for t in votes["labeled_at"]] == ["2026-11-21 08:30", "2026-11-21 00:00", "2026-11-21 08:30"]
    counted = small.warehouse.scan(CONVERSIONS, [DAY]).select("column", "rule", "n").collect().rows()
    assert set(counted) == {
        ("item_id", "number_as_text", 3), ("rater_id", "number_as_text", 2), ("rater_id", "nan_as_missing", 1),
        ("confidence", "nan_as_missing", 1), ("rater_locale", "locale_respelt", 2), ("labeled_at", "time_respelt", 2),
    }  # fmt: skip


def test_a_vote_without_a_readable_time_is_a_vote(small: SmallHome) -> None:
    """One format of labeled_at nobody reads once cost every vote of a file."""
    rows = [{**VOTE, "item_id": f"i{k}", "labeled_at": f"{k % 28 + 1}/11/26 at noon"} for k in range(719)]
    small.deliver("labels", "f.jsonl", rows)
    done = small.ingest()
    assert (done.files[0].accepted, done.files[0].conversions) == (719, {("labeled_at", "bad_timestamp"): 719})


# Hints


def workbook() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as book:
        book.writestr("[Content_Types].xml", "<Types/>")
        book.writestr("xl/workbook.xml", "<workbook/>")
    return out.getvalue()


LABEL_STUDIO = json.dumps([{"id": 1, "annotations": [{"completed_by": 2, "result": []}], "data": {"text": "secret"}}])


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("f.csv", b"item_id;text\na;b\n", "cells are separated by semicolons"),
        ("f.csv", b'"item_id";"text"\n"a";"b"\n', "cells are separated by semicolons"),
        ("f.csv", b"kennung;inhalt;sprache\na;b;de\n", "cells are separated by semicolons"),
        ("f.csv", b"sep=;\nitem_id;text\n", "the first line is Excel's sep="),
        ("f.csv", b"# made by hand\nitem_id,text\n", "the first line is a comment"),
        ("f.jsonl", b'{\n  "item_id": "a"\n}\n', "JSON over several lines"),
        ("f.jsonl", b'{"item_id": "a"}\r{"item_id": "b"}\r', "lines end in CR only"),
        ("f.csv.gz", gzip.compress(gzip.compress(b"item_id,text\na,b\n")), "packed twice"),
        ("f.csv", b"item_id,text," + b"n" * 300 + b"\na,b,c\n", "column 3 has a name of 300 characters; at most 256"),
        ("f.csv", b"item_id\ttext\na\tb\n", "cells are separated by tabs"),
        ("f.csv", "item_id,text\na,b\n".encode("utf-16"), "UTF-16"),
        ("f.csv", "item_id,text\na,b\n".encode("utf-16-le"), "UTF-16"),
        ("f.xlsx", workbook(), "an Excel workbook; save the sheet as CSV"),
        ("f.csv", workbook(), "an Excel workbook; save the sheet as CSV"),
        ("f.json", LABEL_STUDIO.encode(), "a Label Studio export"),
        ("f.jsonl", LABEL_STUDIO.encode(), "a Label Studio export"),
        ("f.jsonl", b'[{"item_id": "a"}]', "one JSON array"),
        ("f.csv", b'{"item_id": "a"}\n', "JSON, not CSV"),
        ("f.csv", gzip.compress(b"item_id,text\na,b\n"), "packed by gzip; name it .csv.gz"),
        ("f.csv", parquet(item_id=["a"]), "a Parquet file; name it .parquet"),
        ("f.html", b"<!DOCTYPE html><p>x", "a page of HTML"),
        ("f.csv", b"Item_ID,TEXT\na,b\n", 'column "item_id" is missing; did you mean "Item_ID"'),
        ("f.csv", b"id,body,locale\na,b,en\n", 'column "text" is missing; did you mean "body"'),
    ],
)
def test_a_file_is_named_for_what_it_is(make_file: MakeFile, name: str, data: bytes, said: str) -> None:
    result = staged(make_file(name, data))
    assert result.status == "rejected"
    assert said in str(result.reason)
    assert "secret" not in str(result.reason)


def test_a_hint_is_never_a_known_other_field() -> None:
    known = ("item_id", "policy", "label", "labeled_at", "rater_id")
    assert column_meant("label", ["item_id", "policy", "verdict", "labeled_at"], known) == "verdict"
    assert column_meant("label", ["item_id", "policy", "labeled_at"], known) is None
    assert column_meant("label", ["Label ", "labels"], known) == "Label "
    assert nearest("HARASSMENT", ["harassment", "HARASS"]) == "harassment"


def test_optional_columns_that_look_misnamed_are_told(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [
        {"item_id": "i", "policy": "harassment", "label": "fine", "annotator": "a", "timestamp": "2026-11-21", "lang": "en"}
    ])  # fmt: skip
    small.deliver("content", "c.csv", "item_id,text,Language\na,words,en\n")
    small.ingest()
    notes = dict(small.warehouse.scan(DROPS, [DAY]).select("feed", "note").collect().iter_rows())
    assert 'column "annotator" is kept in extra only; rename it to rater_id if' in notes["labels"]
    assert 'column "timestamp" is kept in extra only; rename it to labeled_at if' in notes["labels"]
    assert "lang" not in notes["labels"]
    assert notes["content"] == 'column "Language" is kept in extra only; rename it to locale if that is what it holds'


def test_a_misnamed_kind_rejects_the_file_as_gold_must_not_become_votes(small: SmallHome) -> None:
    small.deliver("labels", "a.csv", "item_id,policy,label,Kind\na,harassment,bad,gold\n")
    small.deliver("labels", "b.jsonl", [{**VOTE, "vote_kind": "gold"}])
    done = small.ingest()
    assert [f.status for f in done.files] == ["rejected", "rejected"]
    assert 'the column "Kind" looks like kind' in str(done.files[0].reason)


def test_no_vendor_can_take_the_id_of_another_vendors_vote(small: SmallHome) -> None:
    small.deliver("labels", "a.jsonl", [{**VOTE, "vote_id": f"{DAY}/b.jsonl:1"}])
    small.deliver("labels", "b.jsonl", [VOTE])
    small.ingest()
    votes = small.warehouse.scan(VOTES, [DAY]).collect()
    assert votes["drop_file"].to_list() == ["b.jsonl"]
    assert small.warehouse.scan(QUARANTINE, [DAY]).collect()["rule"].to_list() == ["bad_id"]


def test_an_odd_time_zone_or_a_time_out_of_range_costs_its_value(small: SmallHome) -> None:
    times = pa.array([1, 2], pa.timestamp("us", "Mars/Base"))
    late = pa.array([2**62, 0], pa.timestamp("us"))
    base = {"item_id": ["a", "b"], "policy": ["harassment"] * 2, "label": ["bad"] * 2, "rater_id": ["r", "s"]}
    small.deliver("labels", "a.parquet", parquet(**base, labeled_at=times))
    small.deliver("labels", "b.parquet", parquet(**base, labeled_at=late))
    small.deliver("labels", "c.parquet", parquet(**base, other=times))
    done = small.ingest()
    assert [(f.status, f.accepted) for f in done.files] == [("accepted", 2)] * 3
    assert done.files[0].conversions == {("labeled_at", "invalid_utf8"): 2}
    assert done.files[1].conversions == {("labeled_at", "invalid_utf8"): 1}


def test_an_empty_vote_id_gives_way_to_its_other_name(small: SmallHome) -> None:
    small.deliver("labels", "a.jsonl", [{**VOTE, "vote_id": "", "label_id": "v7"}])
    small.ingest()
    assert small.warehouse.scan(VOTES, [DAY]).collect()["vote_id"].to_list() == ["v7"]


def test_a_file_of_which_nothing_survives_is_not_accepted_and_drop_refuses_it(small: SmallHome, tmp_path: Path) -> None:
    lines = "".join(json.dumps({**VOTE, "item_id": f"i{k}", "label": "fien"}) + "\n" for k in range(3))
    small.deliver("labels", "f.jsonl", lines)
    done = small.ingest()
    row = small.warehouse.scan(DROPS, [DAY]).collect().row(0, named=True)
    assert (row["status"], row["rows"], row["quarantined"]) == ("quarantined", 3, 3)
    assert row["reason"] == "all 3 rows are quarantined (unknown_label 3); labels are those of the policy"
    assert done.rejected
    path = tmp_path / "g.jsonl"
    path.write_text(lines)
    day = str(DAY + timedelta(days=1))
    said = modpipe("drop", str(path), "--feed", "labels", "--date", day, "--home", str(small.home.root))
    assert said.returncode == 1
    assert "not placed: all 3 rows are quarantined" in said.stderr
    assert not (small.home.drops / "labels" / day).exists()


# What is shown of a value


def test_a_value_is_shown_only_if_it_nearly_is_a_known_one() -> None:
    assert shown("fien", ["fine", "bad"]) == '"fien"'
    assert shown("2026-99-99") == '"2026-99-99"'
    assert shown("-1") == '"-1"'
    for text in ("you are an idiot", "idiot", "bad boy, I know where you live"):
        assert text not in shown(text, ["fine", "bad"])
        assert shown(text, ["fine", "bad"]) == masked(text)
    assert column_meant("label", ["labelzqleak", "lapel"]) == "lapel"
    assert masked("abc") == "(3 characters, sha256 ba7816bf)"  # FIPS 180-4, the example of one block


def test_item_text_in_a_wrong_column_reaches_no_message_reason_or_note(small: SmallHome) -> None:
    words = "meet me behind the mill"
    for k, column in enumerate(("item_id", "policy", "label", "rater_id", "kind", "labeled_at", "seconds", "confidence",
                                "rater_locale", "pool", "guideline", "vote_id")):  # fmt: skip
        small.deliver("labels", f"{k}.jsonl", [{**VOTE, column: words}, {**VOTE, column: words, words: 1}])
    for k, column in enumerate(("item_id", "locale", "views", "created_at", "media_uri", "purposes", "surface")):
        content = [{"item_id": "a", "text": "t", column: words}, {"item_id": "a", "text": "u", column: words}]
        small.deliver("content", f"{k}.jsonl", content)
    small.deliver("content", "header.csv", f"{words},b,c\n1,2,3\n")
    small.ingest()
    quarantine = small.warehouse.scan(QUARANTINE, [DAY]).collect()
    assert quarantine.height > 10
    told = quarantine["message"].to_list() + quarantine["value"].drop_nulls().to_list()
    drops = small.warehouse.scan(DROPS, [DAY]).collect()
    told += drops["reason"].drop_nulls().to_list() + drops["note"].drop_nulls().to_list()
    assert [t for t in told if "mill" in t] == []
