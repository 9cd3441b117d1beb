"""Eval sets: who may be drawn, with what weight, and that a release never changes."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation_pipelines.consensus.labels import consensus_labels
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.eval_sets.build import History, build_eval_sets, candidate_for, example_hashes
from moderation_pipelines.eval_sets.expectations import audit_release
from moderation_pipelines.eval_sets.release import (
    RELEASE_FILES,
    Candidate,
    Published,
    find_release,
    publish,
    release_diff,
    releases,
)
from moderation_pipelines.eval_sets.selection import allocation
from moderation_pipelines.eval_sets.specs import EvalSetSpec
from moderation_pipelines.eval_sets.tree import home_secret
from moderation_pipelines.foundation.errors import ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import text_sha256
from moderation_pipelines.ingest.tables import CONTENT, DROPS
from moderation_pipelines.tables import store
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome

SPEC = EvalSetSpec(name="harassment", size=40, stratify_by=("label",), min_per_stratum=2, seed=1)


def fill(small: SmallHome, n: int = 200, bad: int = 40) -> None:
    texts = [{"item_id": f"i{k:04d}", "text": f"comment number {k} about things", "locale": "en"} for k in range(n)]
    labels = [
        {"item_id": f"i{k:04d}", "policy": "harassment", "label": "bad" if k < bad else "fine", "rater_id": r}
        for k in range(n)
        for r in ("r1", "r2")
    ]
    small.deliver("content", "c.jsonl", texts)
    small.deliver("labels", "l.jsonl", labels)
    refresh(small)


def refresh(small: SmallHome, day: date = DAY) -> None:
    small.ingest(day)
    w = small.warehouse
    w.write(CONSENSUS, consensus_labels(w.scan(VOTES), small.policies, day), day)


def candidate(small: SmallHome, spec: EvalSetSpec = SPEC) -> Candidate:
    w, policy = small.warehouse, small.policies["harassment"]
    history = History(*(w.scan(t) for t in (CONSENSUS, CONTENT, VOTES, DROPS, CONSENSUS_METHODS)))
    return candidate_for(small.home, policy, spec, history, example_hashes(small.home, policy))


def ok(_: Candidate) -> list[dict[str, Any]]:
    return [{"id": "fine", "severity": "critical", "passed": True}]


def broken(_: Candidate) -> list[dict[str, Any]]:
    return [{"id": "label_present", "severity": "critical", "passed": False}]


def page(c: Candidate, version: str, results: list[dict[str, Any]]) -> str:
    return "page"


def released(small: SmallHome, spec: EvalSetSpec = SPEC) -> Published:
    return publish(small.home, candidate(small, spec), ok, page)


@given(
    st.dictionaries(st.text("abcdef", min_size=1, max_size=3), st.integers(1, 300), min_size=1, max_size=8),
    st.integers(1, 400),
    st.sampled_from(["proportional", "equal"]),
    st.integers(1, 20),
)
def test_allocation_never_exceeds_and_uses_all_it_may(sizes: dict[str, int], size: int, how: Any, floor: int) -> None:
    given_ = allocation(sizes, EvalSetSpec(name="s", size=size, allocation=how, min_per_stratum=floor))
    assert all(0 <= given_[s] <= sizes[s] for s in sizes)
    assert sum(given_.values()) == min(size, sum(sizes.values()))


def test_allocation_by_hand() -> None:
    # 2 each first; the remaining 6 of 10 in proportion to 88 : 8, that is 5.5 : 0.5; equal remainders go by name.
    assert allocation({"a": 90, "b": 10}, EvalSetSpec(name="s", size=10, min_per_stratum=2)) == {"a": 8, "b": 2}
    assert allocation({"a": 90, "b": 10}, EvalSetSpec(name="s", size=10, allocation="equal", min_per_stratum=1)) == {
        "a": 5,
        "b": 5,
    }


def test_weights_add_up_to_the_frame_and_only_eval_side_items_are_drawn(small: SmallHome) -> None:
    fill(small)
    made = candidate(small)
    assert made.items.height == 40
    assert made.items["weight"].sum() == pytest.approx(made.frame.items.height)
    sides = small.warehouse.scan(CONTENT).select("item_id", "side").collect()
    drawn = made.items.join(sides, on="item_id")
    assert drawn["side"].unique().to_list() == ["eval"]
    # By hand: every drawn item stands for (frame size / drawn) items of its stratum.
    for stratum, part in made.items.group_by("stratum"):
        size = made.frame.items.filter(pl.col("stratum") == stratum[0]).height
        assert part["inclusion_probability"].to_list() == pytest.approx([part.height / size] * part.height)


def test_few_shot_examples_and_copies_of_them_are_left_out(small: SmallHome) -> None:
    fill(small)
    example = candidate(small).items.row(0, named=True)
    shouted = {"text": f"  {example['text'].upper()} ", "label": "bad"}
    small.write("prompts/harassment/examples.jsonl", json.dumps(shouted) + "\n")
    made = candidate(small)
    assert text_sha256(example["text"]) not in set(made.frame.items["text_sha256"])
    assert made.frame.left_out["few-shot example or its duplicate"] == 1


def test_copies_of_a_text_are_drawn_once(small: SmallHome) -> None:
    fill(small)
    rows = [{"item_id": f"z{k}", "text": f"comment number {k} about things", "locale": "en"} for k in range(30)]
    small.deliver("content", "more.jsonl", rows)
    small.deliver(
        "labels", "more.jsonl", [{"item_id": f"z{k}", "policy": "harassment", "label": "bad"} for k in range(30)]
    )
    refresh(small)
    frame = candidate(small).frame
    assert frame.items["text_sha256"].is_unique().all()
    assert frame.left_out["copy of another item"] > 0


def test_same_inputs_give_the_same_bytes(small: SmallHome, tmp_path: Path) -> None:
    fill(small)
    first = released(small)
    twin = SmallHome(Home(tmp_path / "twin"))
    for policy in ("harassment", "levels"):
        twin.write(f"prompts/{policy}/policy.yaml", (small.home.prompts / policy / "policy.yaml").read_bytes())
    fill(twin)
    store.write_private(twin.home.warehouse / "_secret", (small.home.warehouse / "_secret").read_bytes())
    second = released(twin)
    assert first.release is not None
    assert second.release is not None
    files = sorted(p.name for p in first.release.path.iterdir())
    assert files == sorted(RELEASE_FILES)
    for name in files:
        assert (first.release.path / name).read_bytes() == (second.release.path / name).read_bytes(), name


def test_nothing_new_makes_no_new_version_and_a_change_does(small: SmallHome) -> None:
    fill(small)
    assert released(small).status == "published"
    assert released(small).status == "unchanged"
    small.deliver(
        "labels",
        "gold.jsonl",
        [{"item_id": f"i{k:04d}", "policy": "harassment", "label": "fine", "kind": "gold"} for k in range(10)],
    )
    refresh(small)
    second = released(small)
    assert second.release is not None
    assert (second.status, second.release.version) == ("published", "v0002")
    assert second.release.manifest["parent_version"] == "v0001"
    diff = release_diff(releases(small.home, "harassment")[0], second.release)
    assert all((before, after) == ("bad", "fine") for _, before, after in diff.relabelled)
    assert "labels changed" in diff.summary()


def test_the_manifest_names_what_made_the_release(small: SmallHome) -> None:
    fill(small)
    release = released(small).release
    assert release is not None
    m = release.manifest
    assert [(s["feed"], s["drop_file"]) for s in m["sources"]] == [("content", "c.jsonl"), ("labels", "l.jsonl")]
    assert all(len(s["sha256"]) == 64 for s in m["sources"])
    assert m["created_at"] == f"{DAY}T00:00:00Z"
    assert sum(s["frame_size"] for s in m["frame"]) == pytest.approx(release.items()["weight"].sum())
    assert (release.path / "policy.yaml").read_text() == (small.home.prompts / "harassment/policy.yaml").read_text()


def test_chunks_are_the_items_bit_by_bit(small: SmallHome) -> None:
    fill(small)
    release = released(small).release
    assert release is not None
    whole = release.items().select("text", "item_id", "context").rows()
    assert len(whole) > 3
    chunks = list(release.chunks(("text", "item_id", "context"), 3))
    assert [row for chunk in chunks for row in chunk] == whole
    assert {len(c) for c in chunks[:-1]} == {3}


def test_a_tampered_release_is_noticed(small: SmallHome) -> None:
    fill(small)
    release = released(small).release
    assert release is not None
    file = release.path / "items.parquet"
    file.chmod(0o644)
    release.items().with_columns(label=pl.lit("fine")).write_parquet(file)
    with pytest.raises(ReadFailure, match="not what was published"):
        release.items()
    with pytest.raises(ReadFailure, match="not what was published"):
        next(release.chunks(("text",), 3))


def test_a_set_whose_release_was_tampered_with_fails_alone(small: SmallHome) -> None:
    fill(small)
    specs = "eval_sets: [{name: harassment, min_votes: 2}, {name: short, min_votes: 2, size: 4}]\n"
    small.write("prompts/harassment/eval_sets.yaml", specs)
    w = small.warehouse
    history = History(*(w.scan(t) for t in (CONSENSUS, CONTENT, VOTES, DROPS, CONSENSUS_METHODS)))

    def build() -> dict[str, Published]:
        return {p.name: p for p in build_eval_sets(small.home, small.policies, history, 0.5)}

    first = build()["harassment"].release
    assert first is not None
    file = first.path / "items.parquet"
    file.chmod(0o644)
    first.items().with_columns(label=pl.lit("fine")).write_parquet(file)
    again = build()
    assert [again[name].status for name in ("harassment", "short")] == ["broken", "unchanged"]
    assert "harassment v0001: items.parquet is not what was published" in str(again["harassment"].reason)


def test_a_failed_audit_publishes_nothing_and_keeps_the_candidate(small: SmallHome) -> None:
    fill(small)
    done = publish(small.home, candidate(small), broken, page)
    assert (done.status, done.release) == ("failed", None)
    assert done.candidate_path is not None
    assert (done.candidate_path / "validation.html").read_text() == "page"
    assert releases(small.home, "harassment") == []


def test_an_empty_frame_is_said_and_publishes_nothing(small: SmallHome) -> None:
    small.ingest()
    assert released(small).status == "empty"


def test_fewer_items_than_strata_are_drawn_without_strata(small: SmallHome) -> None:
    fill(small)
    made = candidate(small, EvalSetSpec(name="harassment", size=1, stratify_by=("label",)))
    assert made.items["stratum"].to_list() == ["all"]
    assert made.items["weight"].sum() == pytest.approx(made.frame.items.height)


def test_the_share_of_the_eval_side_is_fixed_for_ever(small: SmallHome) -> None:
    fill(small)
    small.settings = Settings(eval_share=0.7)
    with pytest.raises(UserError, match=r"is 0.7, but this home's items were split with 0.5"):
        small.ingest()


def test_unknown_sets_and_versions_are_named(small: SmallHome) -> None:
    fill(small)
    released(small)
    with pytest.raises(UserError, match='did you mean "harassment"'):
        find_release(small.home, "harasment", "v1")
    with pytest.raises(UserError, match="known: v0001"):
        find_release(small.home, "harassment", "v7")
    assert find_release(small.home, "harassment", "1").version == "v0001"


def test_the_release_suite_finds_what_is_broken(small: SmallHome) -> None:
    from dataclasses import replace

    from moderation_pipelines.eval_sets.expectations import audit_release

    fill(small)
    sound = candidate(small)
    results = {r["id"]: r for r in audit_release(sound, set(), 0.5)}
    assert len(results) >= 25
    assert [i for i, r in results.items() if not r["passed"] and r["severity"] == "critical"] == []
    development = next(h for h in (text_sha256(f"x{k}") for k in range(50)) if int(h[:12], 16) >= 0.5 * 16**12)
    items = sound.items
    first, second = items["item_id"][0], items["item_id"][1]
    at = pl.col("item_id") == first
    items = items.with_columns(
        label=pl.when(at).then(pl.lit("evil")).otherwise("label"),
        text=pl.when(at).then(pl.lit("  ")).otherwise("text"),
        probability=pl.when(at).then(1.5).otherwise("probability"),
        text_sha256=pl.when(at).then(pl.lit(development)).otherwise("text_sha256"),
        weight=pl.when(at).then(0.1).otherwise("weight"),
    ).with_columns(item_id=pl.when(pl.col("item_id") == second).then(pl.lit(first)).otherwise("item_id"))
    results = {r["id"]: r for r in audit_release(replace(sound, items=items), {items["text_sha256"][3]}, 0.5)}
    failed = {i for i, r in results.items() if not r["passed"] and r["severity"] == "critical"}
    assert failed == {
        "item_id_unique", "label_in_policy", "text_not_blank", "probability_range", "eval_side_only",
        "weight_inverts_inclusion", "weights_sum_to_frame", "not_a_few_shot_example", "violating_matches_label",
    }  # fmt: skip
    assert (results["label_in_policy"]["n_unexpected"], results["label_in_policy"]["examples"]) == (1, [first])


def _secret_in(root: str) -> bytes:
    return home_secret(Home(Path(root)))


def _released_in(root: str) -> str:
    return released(SmallHome(Home(Path(root)))).status


@pytest.mark.slow
def test_two_processes_publish_one_complete_release(small: SmallHome) -> None:
    fill(small)
    with ProcessPoolExecutor(4, get_context("spawn")) as processes:
        found = list(processes.map(_released_in, [str(small.home.root)] * 4))
    assert sorted(found) == ["published", "unchanged", "unchanged", "unchanged"]
    (release,) = releases(small.home, "harassment")
    assert sorted(p.name for p in release.path.iterdir()) == sorted(RELEASE_FILES)
    release.verify()


@pytest.mark.slow
def test_first_use_by_several_processes_gives_one_secret(tmp_path: Path) -> None:
    with ProcessPoolExecutor(4, get_context("spawn")) as processes:
        found = list(processes.map(_secret_in, [str(tmp_path)] * 8))
    assert len(set(found)) == 1
    assert len(found[0]) == 32


def test_an_item_that_weighs_as_a_thousand_others_is_warned_of(small: SmallHome) -> None:
    fill(small)
    made = candidate(small)

    def dominates(heaviest: float) -> bool:
        heavy = pl.when(pl.int_range(pl.len()) == 0).then(heaviest * pl.col("weight").min()).otherwise("weight")
        changed = replace(made, items=made.items.with_columns(weight=heavy))
        (found,) = (r for r in audit_release(changed, set(), 0.5) if r["id"] == "no_item_dominates")
        assert found["severity"] == "warning"
        return not found["passed"]

    assert not dominates(1000)
    assert dominates(1001)
