"""A day of drops: every row is accepted, quarantined or a duplicate, and says why."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation_pipelines.foundation.text import normalised_text, side_of, text_sha256
from moderation_pipelines.ingest.tables import CONTENT, DROPS, QUARANTINE
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome

VOTE = {"item_id": "i1", "policy": "harassment", "label": "fine", "rater_id": "r1"}


def quarantined(small: SmallHome) -> list[tuple[int, str, str | None]]:
    frame = small.warehouse.scan(QUARANTINE, [DAY]).sort("drop_file", "drop_line").collect()
    return frame.select("drop_line", "rule", "column").rows()


@pytest.mark.parametrize(
    ("changed", "rule", "said"),
    [
        ({"policy": "harrassment"}, "unknown_policy", 'did you mean "harassment"?'),
        ({"label": "finee"}, "unknown_label", 'did you mean "fine"?'),
        ({"label": 1}, "unknown_label", 'label "1" is not in policy'),
        ({"label": 1.5}, "wrong_type", "write it in quotes"),
        ({"item_id": None}, "missing_value", '"item_id" is missing'),
        ({"item_id": "  "}, "missing_value", "is empty"),
        ({"item_id": "x" * 257}, "overlong_id", "at most 256"),
        ({"item_id": "a\nb"}, "bad_id", "control character"),
        ({"kind": "golden"}, "unknown_kind", 'did you mean "gold"?'),
        ({"rater_id": ["r1"]}, "wrong_type", "is a list"),
        ({"pool": True}, "wrong_type", "true or false"),
    ],
)
def test_each_rule_names_the_mistake_and_what_would_be_right(
    small: SmallHome, changed: dict[str, Any], rule: str, said: str
) -> None:
    small.deliver("labels", "f.jsonl", [VOTE, {**VOTE, **changed}])
    day = small.ingest()
    assert (day.files[0].accepted, day.files[0].quarantined) == (1, 1)
    row = small.warehouse.scan(QUARANTINE, [DAY]).collect().row(0, named=True)
    assert (row["drop_file"], row["drop_line"], row["rule"]) == ("f.jsonl", 2, rule)
    assert said in row["message"]


def test_all_mistakes_of_a_row_are_named_at_once(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [{**VOTE, "label": "finee", "kind": "golden", "pool": True}])
    small.ingest()
    message = small.warehouse.scan(QUARANTINE, [DAY]).collect()["message"][0]
    assert all(word in message for word in ("finee", "golden", "pool"))


def test_item_text_never_stands_in_a_message_or_value(small: SmallHome) -> None:
    secret = "a long and secret text " * 5
    small.deliver("content", "f.jsonl", [{"item_id": "a", "text": 5, "context": secret, "decision": secret * 9}])
    small.deliver("labels", "f.jsonl", [{**VOTE, "label": secret, "policy": "harassment"}])
    small.ingest()
    frame = small.warehouse.scan(QUARANTINE, [DAY]).collect()
    assert frame.height == 2
    assert "secret" not in "".join(frame["message"].to_list() + [v or "" for v in frame["value"].to_list()])


def test_unknown_fields_are_kept_as_json(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [{**VOTE, "target": "women", "n": [1, {"a": None}]}])
    small.ingest()
    assert json.loads(small.warehouse.scan(VOTES, [DAY]).collect()["extra"][0]) == {
        "target": "women",
        "n": [1, {"a": None}],
    }


def test_deliveries_repeated_on_a_day_count_once(small: SmallHome) -> None:
    item = {"item_id": "i1", "text": "hello there", "locale": "en"}
    small.deliver("content", "a.jsonl", [item, item])
    small.deliver("content", "b.jsonl", [item, {**item, "text": "something else"}])
    small.deliver("labels", "a.jsonl", [{**VOTE, "vote_id": "v1"}, {**VOTE, "vote_id": "v1"}, VOTE, VOTE])
    day = small.ingest()
    counts = {f.place.split("/", 1)[0] + f.name: (f.rows, f.accepted, f.duplicates, f.quarantined) for f in day.files}
    # The item stands once; its two repeats are duplicates; the same id with another text is quarantined.
    assert counts["contenta.jsonl"] == (2, 1, 1, 0)
    assert counts["contentb.jsonl"] == (2, 0, 1, 1)
    # v1 twice is one delivery; rows without a vote_id are repeated votes, not repeated deliveries.
    assert counts["labelsa.jsonl"] == (4, 3, 1, 0)
    assert quarantined(small) == [(2, "conflicting_item", "item_id")]


@pytest.mark.parametrize(("policy", "label", "expected"), [("harassment", "bad", "bad"), ("levels", "severe", "none")])
def test_on_repeat_decides_which_vote_is_current(small: SmallHome, policy: str, label: str, expected: str) -> None:
    # harassment counts the last vote of a rater, levels the first.
    first = "fine" if policy == "harassment" else "none"
    small.deliver(
        "labels", "f.jsonl", [{**VOTE, "policy": policy, "label": first}, {**VOTE, "policy": policy, "label": label}]
    )
    small.ingest()
    current = small.warehouse.scan(VOTES, [DAY]).filter("is_current").collect()
    assert current["label"].to_list() == [expected]


def test_anonymous_votes_are_never_repeats(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [{**VOTE, "rater_id": None}] * 3)
    small.ingest()
    assert small.warehouse.scan(VOTES, [DAY]).collect()["is_current"].to_list() == [True, True, True]


def test_the_order_of_repeats_goes_by_the_time_of_the_vote(small: SmallHome) -> None:
    early, late = {"labeled_at": "2026-03-02T08:00:00Z"}, {"labeled_at": "2026-03-02T12:00:00+02:00"}
    small.deliver("labels", "f.jsonl", [{**VOTE, "label": "bad", **late}, {**VOTE, "label": "fine", **early}])
    small.ingest()
    # 12:00+02:00 is 10:00 UTC, after 08:00 UTC: "bad" is the last vote although delivered first.
    assert small.warehouse.scan(VOTES, [DAY]).filter("is_current").collect()["label"].to_list() == ["bad"]


def test_a_repeat_without_a_time_goes_by_delivery(small: SmallHome) -> None:
    small.deliver("labels", "a.jsonl", [{**VOTE, "label": "fine", "labeled_at": "2026-03-02T09:00:00Z"}])
    small.deliver("labels", "b.jsonl", [{**VOTE, "label": "bad"}])
    small.ingest()
    assert small.warehouse.scan(VOTES, [DAY]).filter("is_current").collect()["label"].to_list() == ["bad"]


def test_numbers_arrive_as_they_were_sent(small: SmallHome) -> None:
    small.deliver("content", "a.csv", "item_id,text,views\na,t one,9007199254740993\nb,t two,1_000\n")
    small.ingest()
    assert small.warehouse.scan(CONTENT, [DAY]).collect()["views"].to_list() == [9007199254740993, None]
    assert quarantined(small) == []


@pytest.mark.parametrize("tag", ["en", "zh-Hant-TW", "es-419", "en-US-u-ca-gregory", "de-x-phonebk", "sl-rozaj-biske"])
def test_locales_of_every_kind_are_taken(small: SmallHome, tag: str) -> None:
    small.deliver("content", "a.jsonl", [{"item_id": "a", "text": "t", "locale": tag.upper()}])
    small.ingest()
    assert small.warehouse.scan(CONTENT, [DAY]).collect()["locale"].to_list() == [tag]


def test_a_corrected_file_replaces_the_earlier_one(small: SmallHome) -> None:
    small.deliver("labels", "f.jsonl", [VOTE, {**VOTE, "label": "finee"}])
    small.ingest()
    small.deliver("labels", "f.jsonl", [VOTE, {**VOTE, "label": "bad"}])
    small.ingest()
    assert small.warehouse.scan(VOTES, [DAY]).collect()["label"].to_list() == ["fine", "bad"]
    assert small.warehouse.scan(QUARANTINE, [DAY]).collect().is_empty()


def test_a_rejected_file_leaves_the_rest_of_the_day(small: SmallHome) -> None:
    small.deliver("labels", "a.jsonl", [VOTE])
    small.deliver("labels", "b.jsonl.gz", b"not gzip at all")
    small.ingest()
    drops = small.warehouse.scan(DROPS, [DAY]).sort("drop_file").collect()
    assert drops["status"].to_list() == ["accepted", "rejected"]
    assert drops["rows"].to_list() == [1, None]
    assert drops["reason"][1].startswith("not a valid gzip")
    assert small.warehouse.rows(VOTES, DAY) == 1


def test_reruns_give_the_same_bytes(small: SmallHome) -> None:
    small.deliver("content", "a.jsonl", [{"item_id": f"i{k}", "text": f"text {k}"} for k in range(50)])
    small.deliver("labels", "a.jsonl", [{**VOTE, "item_id": f"i{k}"} for k in range(50)])
    small.ingest()
    before = {t.name: small.warehouse.file(t, DAY).read_bytes() for t in (CONTENT, VOTES, DROPS, QUARANTINE)}
    small.ingest()
    assert before == {t.name: small.warehouse.file(t, DAY).read_bytes() for t in (CONTENT, VOTES, DROPS, QUARANTINE)}


def test_locales_are_detected_where_none_is_given(small: SmallHome) -> None:
    texts = {
        "en": "This is a perfectly normal English sentence about gardens.",
        "zh": "今天天气很好，我们去公园散步吧",
        "und": "12345 !!",
    }
    small.deliver(
        "content",
        "a.jsonl",
        [{"item_id": k, "text": t} for k, t in texts.items()] + [{"item_id": "x", "text": "hi", "locale": "PT-br"}],
    )
    small.ingest()
    rows = {r["item_id"]: r for r in small.warehouse.scan(CONTENT, [DAY]).collect().to_dicts()}
    assert {k: rows[k]["locale"] for k in texts} == {"en": "en", "zh": "zh", "und": "und"}
    assert all(rows[k]["locale_source"] == "detected" and 0 <= rows[k]["locale_confidence"] <= 1 for k in texts)
    assert (rows["x"]["locale"], rows["x"]["locale_source"], rows["x"]["locale_confidence"]) == ("pt-BR", "given", None)


def test_copies_are_marked_first_kept_also_across_days(small: SmallHome) -> None:
    small.deliver(
        "content", "a.jsonl", [{"item_id": "a", "text": "Hello  World"}, {"item_id": "b", "text": "hello world"}]
    )
    small.deliver("content", "a.jsonl", [{"item_id": "c", "text": "HELLO WORLD "}], DAY + timedelta(days=1))
    small.ingest()
    small.ingest(DAY + timedelta(days=1))
    marked = small.warehouse.scan(CONTENT).select("item_id", "duplicate_of").collect()
    assert dict(marked.iter_rows()) == {"a": None, "b": "a", "c": "a"}


def test_a_day_without_files_is_written_empty(small: SmallHome) -> None:
    assert small.ingest().files == []
    assert small.warehouse.days(VOTES) == [DAY]
    assert small.warehouse.rows(VOTES, DAY) == 0


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 12), order=st.permutations(range(12)))
def test_splitting_a_drop_in_two_changes_nothing(small: SmallHome, cut: int, order: list[int]) -> None:
    rows = [
        {**VOTE, "item_id": f"i{k % 5}", "vote_id": f"v{k % 9}", "label": "fine" if k % 4 else "wrong"} for k in order
    ]
    for path in (small.home.drops / "labels" / str(DAY)).glob("*"):
        path.unlink()
    small.deliver("labels", "a.jsonl", rows)
    whole = small.ingest()
    kept = small.warehouse.scan(VOTES, [DAY]).select("vote_id", "item_id", "label").collect()
    small.deliver("labels", "a.jsonl", rows[:cut])
    small.deliver("labels", "b.jsonl", rows[cut:])
    parts = small.ingest()
    for count in ("rows", "accepted", "quarantined", "duplicates"):
        assert whole.total("labels", count) == parts.total("labels", count)
    again = small.warehouse.scan(VOTES, [DAY]).select("vote_id", "item_id", "label").collect()
    assert kept.equals(again)


@given(st.text(max_size=60))
def test_normal_form_is_stable_and_hash_and_side_follow_it(text: str) -> None:
    once = normalised_text(text)
    assert normalised_text(once) == once
    assert text_sha256(text) == text_sha256(f"  {text}\n\u200b")
    assert side_of(text_sha256(text), 1.0) == "eval"
    assert side_of(text_sha256(text), 0.0) == "development"


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The file with something done to it that happens to files."""
    kind = rng.randrange(8)
    if not data:
        return data
    at = rng.randrange(len(data))
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return data[:at] + bytes(rng.randrange(256) for _ in range(rng.randrange(1, 12))) + data[at:]
    if kind == 3:
        end = min(len(data), at + rng.randrange(1, 80))
        return data[:at] + data[end:]
    if kind == 4:
        return data + data[at:]
    if kind == 5:
        return data.replace(
            rng.choice([b'"', b",", b"\n", b":", b"{"]),
            rng.choice([b"", b"\x00", b'"', b"\r\n", b"\xff"]),
            rng.randrange(1, 5),
        )
    if kind == 6:
        return rng.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\x00" * 8, b"\n\n\n"]) + data
    return data[at:] + data[:at]


@pytest.mark.slow
def test_two_thousand_mutated_files_and_the_accounting_closes_on_each(small: SmallHome) -> None:
    from moderation_pipelines.sample.generate import sample_files

    rng = random.Random(20261123)
    small.home.root.mkdir(exist_ok=True)
    for name, data in sample_files().items():
        if name.startswith("prompts/"):
            small.write(name, data)
    originals = []
    for name, data in sample_files().items():
        if name.startswith("data/drops/"):
            originals.append((name.split("/")[2], name.rsplit("/", 1)[1], data))
    delivered = 0
    first = date(2026, 4, 1)
    for d in range(25):
        day = first + timedelta(days=d)
        for k in range(80):
            feed, name, data = rng.choice(originals)
            if name.endswith((".jsonl", ".csv")) and len(data) > 4000:
                data = data[: data.index(b"\n", 3000) + 1]
            for _ in range(rng.randrange(1, 4)):
                data = mutated(data, rng)
            small.deliver(feed, f"{k:03d}-{name}", data, day)
            delivered += 1
        done = small.ingest(day)
        for f in done.files:
            if f.reason is None:
                assert f.rows == f.accepted + f.quarantined + f.duplicates
                assert min(f.accepted, f.quarantined, f.duplicates) >= 0
            else:
                assert (f.rows, f.accepted) == (None, 0)
        written = small.warehouse.rows(CONTENT, day) + small.warehouse.rows(VOTES, day)
        assert written == sum(f.accepted for f in done.files)
        assert small.warehouse.rows(QUARANTINE, day) == sum(f.quarantined for f in done.files)
    assert delivered == 2000
    # The damage is real: some files were rejected, some rows quarantined, some survived.
    statuses: dict[str, int] = dict(small.warehouse.scan(DROPS).group_by("status").len().collect().iter_rows())
    assert min(statuses["accepted"], statuses["rejected"]) > 50
    assert small.warehouse.scan(QUARANTINE).select(pl.len()).collect().item() > 500
