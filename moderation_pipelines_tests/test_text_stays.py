"""Item text stays in columns that hold text: a canary word in every item is looked for in every byte a run leaves."""

from __future__ import annotations

import io
import json
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.fake_endpoint.endpoint import FakeEndpoint
from moderation_pipelines.fake_endpoint.plan import Plan
from moderation_pipelines.fake_endpoint.server import serving_fake
from moderation_pipelines.orchestration.stages import all_tables
from moderation_pipelines_tests.conftest import DAY, SmallHome, modpipe

WORD = "zqxwvcanary"
NAME = "zqxwvrater"
JUDGES = """\
endpoints:
  local: {base_url: "%s", concurrency: 8}
judges:
  llm: {endpoint: local, model: m, canary: 5, injections: 1}
"""
# What answers are kept in: the ledger, by the hash of what was asked.
LEDGER_COLUMNS = {"evidence", "rationale"}


def decoded(path: Path, data: bytes) -> Iterator[tuple[str, bytes]]:
    """(place inside the file, bytes) of everything in it: tables and columns, entries of archives, the file itself."""
    if data.startswith(b"SQLite format 3"):
        with sqlite3.connect(path) as db:
            tables = [r[0] for r in db.execute("select name from sqlite_master where type = 'table'")]
            for table in tables:
                names = [d[0] for d in db.execute(f'select * from "{table}" limit 0').description]
                for row in db.execute(f'select * from "{table}"'):
                    for name, value in zip(names, row, strict=True):
                        yield f"{table}.{name}", value if isinstance(value, bytes) else str(value).encode()
    elif data.startswith(b"PAR1"):
        frame = pl.read_parquet(io.BytesIO(data), hive_partitioning=False)
        for name in frame.columns:
            yield name, b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in frame[name].to_list())
    elif data.startswith(b"PK"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in archive.namelist():
                yield name, archive.read(name)
    else:
        yield "", data


def found(root: Path, word: str) -> set[tuple[str, str]]:
    """(file below the home, place inside) of everything that holds the word, in any case and escaping."""
    escaped = json.dumps(word).strip('"')
    hits = set()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = path.relative_to(root).as_posix()
        if name.startswith("data/drops/"):
            continue
        for place, data in decoded(path, path.read_bytes()):
            lower = data.lower()
            if word.encode() in lower or escaped.encode() in lower or word.encode("utf-16-le") in lower:
                hits.add((name, place))
    return hits


def holds_text(name: str, place: str) -> bool:
    parts = name.split("/")
    if parts[:3] == ["data", "warehouse", "_ledger"]:
        return place.rpartition(".")[2] in LEDGER_COLUMNS
    if parts[:2] != ["data", "warehouse"] or not name.endswith(".parquet"):
        return False
    if parts[2] == "eval_sets":
        return EVAL_SET_ITEMS.columns[place].holds_text
    table = all_tables().get(parts[3] if parts[2] == "_replaced" else parts[2])
    return table is not None and table.columns[place].holds_text


@pytest.mark.slow
def test_a_word_of_every_item_is_nowhere_but_in_columns_that_hold_text(small: SmallHome) -> None:
    items = [
        {
            "item_id": f"i{k}",
            "text": f"{WORD} words of item {k}",
            "locale": "en",
            "context": f"before {WORD}",
            "note": WORD,
        }
        for k in range(120)
    ]
    small.deliver(
        "content", "c.jsonl", [*items, {"item_id": 7, "text": WORD}, {"item_id": "x", "text": WORD, "views": WORD}]
    )
    votes = [
        {"item_id": f"i{k}", "policy": "harassment", "label": "bad" if k % 3 == 0 else "fine", "rater_id": f"{NAME}{r}",
         "rationale": f"because {WORD}", "seconds": 3 + r}
        for k in range(120)
        for r in range(3)
    ]  # fmt: skip
    # Swapped columns: a text where a label, a kind, a policy, a time should be.
    strays = [
        {"item_id": "i1", "policy": "harassment", "label": WORD, "rater_id": "r"},
        {"item_id": "i1", "policy": WORD, "label": "fine", "rater_id": "r"},
        {"item_id": "i1", "policy": "harassment", "label": "fine", "kind": WORD},
        {"item_id": "i1", "policy": "harassment", "label": "fine", "labeled_at": WORD},
        {"item_id": f"{WORD}\n", "policy": "harassment", "label": "fine"},
    ]
    small.deliver("labels", "v.jsonl", [*votes, *strays])
    small.deliver("labels", "broken.jsonl", f'{{"item_id": "{WORD}')
    small.deliver("labels", "header.csv", f"{WORD},b\n{WORD},2\n")
    with serving_fake(FakeEndpoint(Plan(faults={"prose": 0.05, "refusal": 0.05, "error_500": 0.05}))) as url:
        small.write("prompts/judges.yaml", JUDGES % url)
        done = modpipe("run", "--home", str(small.home.root))
    assert "rejected" in done.stderr
    assert WORD not in (done.stdout + done.stderr).lower()
    hits = found(small.home.root, WORD)
    assert [h for h in sorted(hits) if not holds_text(*h)] == []
    # It was there to be found, and the endpoint quoted it.
    held = {(name.split("/")[2], place) for name, place in hits}
    for place in (("content", "text"), ("content", "context"), ("content", "extra"), ("votes", "rationale"),
                  ("quarantine", "raw"), ("scores", "evidence"), ("eval_sets", "text")):  # fmt: skip
        assert place in held
    # What stood in a wrong column is shown by its length and hash.
    assert not {("quarantine", "message"), ("quarantine", "value")} & held
    assert str(DAY) in done.stderr


@pytest.mark.slow
def test_who_a_rater_is_stands_in_tables_and_reports_and_in_no_log(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", [{"item_id": f"i{k}", "text": f"words {k}", "locale": "en"} for k in range(60)])
    votes = [
        {"item_id": f"i{k}", "policy": "harassment", "label": "fine", "rater_id": f"{NAME}{r}"}
        for k in range(60)
        for r in range(3)
    ]
    small.deliver("labels", "v.jsonl", votes)
    done = modpipe("run", "--home", str(small.home.root))
    assert NAME not in done.stdout + done.stderr
    places = {
        name for name, _ in found(small.home.root, NAME) if not name.startswith(("data/warehouse/", "data/reports/"))
    }
    # The report is shown in the UI: its Markdown is metadata of the asset.
    assert {p for p in places if "dagster_home" not in p} == set()
