"""Metrics of judges that learnt something, with and without what is like it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import polars as pl
import pytest

from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.eval_sets.build import History, candidate_for
from moderation_pipelines.eval_sets.release import Release, publish
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import text_sha256
from moderation_pipelines.ingest.tables import CONTENT, DROPS
from moderation_pipelines.judging.judges.baseline import development_items
from moderation_pipelines.judging.judges_file import JudgesFile
from moderation_pipelines.judging.tasks import Asked, Learnt
from moderation_pipelines.leakage import near_twins
from moderation_pipelines.leakage.learnt import leakage_tables, learnt_items, learnt_texts
from moderation_pipelines.leakage.near_twins import ReleasedTexts, near_content
from moderation_pipelines.leakage.tables import LEAKAGE, SEEN_ITEMS
from moderation_pipelines.metrics.daily import metrics_table
from moderation_pipelines.metrics.operating_points import operating_points_table
from moderation_pipelines.metrics.pairs import compare_judges, compare_releases
from moderation_pipelines.metrics.tables import COMPARISONS, METRICS, OPERATING_POINTS, UNLIKE
from moderation_pipelines.metrics.unlike import Learners, leading, leading_items
from moderation_pipelines.policies.policy import Policy
from moderation_pipelines.similarity.near import TextIndex
from moderation_pipelines.tables.checks import checked
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome
from moderation_pipelines_tests.test_eval_sets import fill, ok, page, refresh, released
from moderation_pipelines_tests.test_pairs import WHOLE, scores_of


@dataclass
class Task:
    """A scoring task as leakage sees it."""

    judge_id: str
    release: Release
    policy: Policy
    learnt: list[Learnt] = field(default_factory=list)


@pytest.fixture
def release(small: SmallHome) -> Release:
    fill(small, 200, 60)
    found = released(small, WHOLE).release
    assert found is not None
    return found


def learnt_as(used_as: Any, texts: tuple[str, ...], ids: tuple[str, ...]) -> Learnt:
    return Learnt(used_as, texts, tuple(text_sha256(t) for t in texts), ids)


def keys_of(release: Release, more: list[dict[str, Any]] | None = None, **of: dict[str, str]) -> pl.DataFrame:
    rows = [
        {
            "item_id": i,
            "text_sha256": h,
            **{k: of.get(k, {}).get(i) for k in ("author_key", "conversation_id", "group_key")},
        }
        for i, h in release.items().select("item_id", "text_sha256").iter_rows()
    ]
    schema = dict.fromkeys(("item_id", "text_sha256", "author_key", "conversation_id", "group_key"), pl.String)
    return pl.DataFrame([*rows, *(more or [])], schema=schema)


def seen(release: Release, judge: str, items: list[str]) -> Learners:
    named = {"eval_set": release.name, "version": release.version, "policy": release.policy, "judge_id": judge,
             "used_as": "trained", "drop_date": DAY}  # fmt: skip
    leakage = [{**named, "measure": "exact", "n_learnt": 9, "n": 9, "n_shared": 0}]
    rows = [{**named, "item_id": i, "similarity": 0.8} for i in items]
    return Learners(LEAKAGE.filled(pl.LazyFrame(leakage)).collect(), SEEN_ITEMS.filled(pl.LazyFrame(rows)).collect())


def test_what_a_judge_learnt_is_counted_by_measure(small: SmallHome, release: Release) -> None:
    items = release.items().sort("item_id")
    first, second, third, fourth = items["item_id"][:4].to_list()
    texts = dict(items.select("item_id", "text").iter_rows())
    # The text of the first, and so its group; a near-twin of the second (one letter more); another item of the third's
    # group. The fourth only has the author of something learnt.
    learnt = learnt_as("trained", (texts[first], texts[second] + "s", "nothing like it at all"), ("x1", "x2", "x3"))
    more = [
        {"item_id": "x1", "author_key": "a1", "conversation_id": None, "group_key": None},
        {"item_id": "x3", "author_key": None, "conversation_id": None, "group_key": "g1"},
    ]
    keys = keys_of(release, more, author_key={fourth: "a1", third: "a2"}, group_key={third: "g1", first: "g2"})
    task = Task("j", release, small.policies["harassment"], [learnt])
    assert learnt_items([task]) == {"x1", "x2", "x3"}  # type: ignore[list-item]
    table, rows = leakage_tables([task], near_content(ReleasedTexts([release]), []), keys, DAY)  # type: ignore[list-item]
    checked(LEAKAGE, table.lazy())
    checked(SEEN_ITEMS, rows.lazy())
    by = {r["measure"]: r for r in table.to_dicts()}
    n = items.height
    assert {m: (by[m]["n_shared"], by[m]["n"]) for m in by if m != "near_duplicate"} == {
        "exact": (1, n), "same_author": (1, 2), "same_conversation": (0, 0), "same_group": (2, 2)
    }  # fmt: skip
    assert by["same_author"]["share"] == 0.5
    assert by["same_author"]["ci_low"] < 0.5 < by["same_author"]["ci_high"]
    assert (by["same_conversation"]["share"], bool(by["same_conversation"]["note"])) == (None, True)
    assert {r["n_learnt"] for r in table.to_dicts()} == {3}
    mine = {r["item_id"]: r for r in rows.to_dicts()}
    assert mine[first]["similarity"] == 1.0
    assert 0.7 <= mine[second]["similarity"] < 1
    assert (mine[third]["same_group"], mine[first]["same_group"], mine[second]["same_group"]) == (True, True, None)
    assert by["near_duplicate"]["n_shared"] == sum(r["similarity"] is not None for r in rows.to_dicts())
    assert (fourth in mine) == (mine.get(fourth, {}).get("similarity") is not None)


def test_what_was_delivered_is_compared_once(
    small: SmallHome, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = small.warehouse.scan(CONTENT).collect()
    learnt = content.filter(side="development").sort("item_id")
    texts = (*learnt["text"], "comment number 7 about thingz", "nothing like it")
    task = Task("j", release, small.policies["harassment"], [learnt_as("trained", texts, tuple(learnt["item_id"]))])
    more = [{"item_id": i, "text_sha256": h} for i, h in learnt.select("item_id", "text_sha256").iter_rows()]
    keys, frames = keys_of(release, more), [content.select("item_id", "text", "text_sha256", "side")]
    asked: list[int] = []
    nearest = TextIndex.nearest
    monkeypatch.setattr(TextIndex, "nearest", lambda i, t, *a: asked.append(len(t)) or nearest(i, t, *a))
    plain = leakage_tables([task], near_content(ReleasedTexts([release]), []), keys_of(release), DAY)  # type: ignore[list-item]
    once = leakage_tables([task], near_content(ReleasedTexts([release]), frames), keys, DAY)  # type: ignore[list-item]
    assert plain[1].height > 50
    # Only what was never delivered was looked for a second time.
    assert asked == [len(texts), 2]
    asked.clear()
    assert [a.equals(b) for a, b in zip(once, plain, strict=True)] == [True, True]
    # Of texts with very many near-duplicates all that was learnt is compared.
    monkeypatch.setattr(near_twins, "ENOUGH", 3)
    crowded = near_content(ReleasedTexts([release]), frames)
    assert crowded.crowded.sum() > 50
    again = leakage_tables([task], crowded, keys, DAY)  # type: ignore[list-item]
    assert sum(asked) >= len(texts)
    assert [a.equals(b) for a, b in zip(again, plain, strict=True)] == [True, True]


def test_an_example_without_an_id_is_the_item_that_has_its_text(small: SmallHome, release: Release) -> None:
    items = release.items().sort("item_id")
    first, second, third = items["item_id"][:3].to_list()
    shown = learnt_as("shown", ("An example  of the group",), ("",))
    known = {"item_id": "x", "text_sha256": text_sha256("an example of the group"), "author_key": None,
             "conversation_id": None, "group_key": "g1"}  # fmt: skip
    task = Task("j", release, small.policies["harassment"], [shown])
    assert learnt_texts([task]) == {known["text_sha256"]}  # type: ignore[list-item]
    keys = keys_of(release, [known], group_key={first: "g1", second: "g2"})
    _, rows = leakage_tables([task], near_content(ReleasedTexts([release]), []), keys, DAY)  # type: ignore[list-item]
    assert rows.select("item_id", "similarity", "same_group").rows() == [(first, None, True)]
    # Where nothing that was learnt has a group, nobody can tell whether it is the same.
    near = learnt_as("shown", (items["text"][2],), ("",))
    unknown = keys_of(release, group_key={first: "g1"})
    _, rows = leakage_tables(
        [Task("j", release, task.policy, [near])], near_content(ReleasedTexts([release]), []), unknown, DAY
    )  # type: ignore[list-item]
    assert rows.filter(item_id=third)["same_group"].to_list() == [None]


def test_the_baseline_is_not_trained_on_texts_of_the_eval_side(small: SmallHome) -> None:
    # Each text twice, by two groups: some copies fall on both sides.
    small.write("prompts/settings.yaml", "side_by: group_key\n")
    rows = [
        {"item_id": f"{copy}{k}", "text": f"words of item {k}", "locale": "en", "group_key": f"{copy}{k}"}
        for k in range(120) for copy in "ab"
    ]  # fmt: skip
    votes = [
        {"item_id": r["item_id"], "policy": "harassment", "label": "bad" if n % 3 else "fine", "rater_id": x}
        for n, r in enumerate(rows) for x in ("r1", "r2")
    ]  # fmt: skip
    small.deliver("content", "c.jsonl", rows)
    small.deliver("labels", "l.jsonl", votes)
    refresh(small)
    w, policy = small.warehouse, small.policies["harassment"]
    asked = Asked(small.home, small.policies, JudgesFile(), w.scan(CONSENSUS), w.scan(CONTENT))
    training = development_items(asked, policy)
    sides = w.scan(CONTENT).collect()
    both = set(sides.filter(side="eval")["text_sha256"]) & set(sides.filter(side="development")["text_sha256"])
    assert len(both) > 20
    assert training.height > 20
    assert not both & set(training["text_sha256"])


def test_a_text_that_does_not_show_is_seen_where_it_was_learnt(small: SmallHome) -> None:
    rows = [
        {"item_id": f"i{k}", "text": "\u200b" if k == 0 else f"words of item {k}", "locale": "en"} for k in range(40)
    ]
    votes = [
        {"item_id": f"i{k}", "policy": "harassment", "label": "bad" if k % 3 else "fine", "rater_id": r}
        for k in range(40) for r in ("r1", "r2")
    ]  # fmt: skip
    small.settings = Settings(eval_share=1.0, bootstrap_replicates=100)
    small.deliver("content", "c.jsonl", rows)
    small.deliver("labels", "l.jsonl", votes)
    refresh(small)
    w, policy = small.warehouse, small.policies["harassment"]
    history = History(*(w.scan(t) for t in (CONSENSUS, CONTENT, VOTES, DROPS, CONSENSUS_METHODS)))
    found = publish(small.home, candidate_for(small.home, policy, WHOLE, history, set()), ok, page).release
    assert found is not None
    assert "i0" in found.items()["item_id"]
    task = Task("j", found, policy, [learnt_as("trained", ("\u200c",), ("x",))])
    _, seen_rows = leakage_tables([task], near_content(ReleasedTexts([found]), []), keys_of(found), DAY)  # type: ignore[list-item]
    assert seen_rows.select("item_id", "similarity").rows() == [("i0", 1.0)]


def test_a_judge_that_learnt_nothing_has_no_rows(small: SmallHome, release: Release) -> None:
    table, rows = leakage_tables(
        [Task("j", release, small.policies["harassment"])], near_content(ReleasedTexts([release]), []), keys_of(release), DAY  # type: ignore[list-item]
    )  # fmt: skip
    assert table.is_empty()
    assert rows.is_empty()


def test_metrics_of_a_learner_stand_twice_and_those_without_lead(release: Release) -> None:
    items = release.items().sort("item_id")
    ids = items["item_id"].to_list()
    known, wrong = ids[:60], set(ids[60:70])
    scores = pl.concat([scores_of(release, "learnt", wrong), scores_of(release, "other", wrong)])
    learners = seen(release, "learnt", known)
    table = metrics_table(scores, [release], DAY, 100, learners=learners)
    checked(METRICS, table.lazy())
    accuracy = table.filter(metric="accuracy")
    of = {(r["judge_id"], r["slice"]): r for r in accuracy.filter(pl.col("slice_value").is_null()).to_dicts()}
    n = len(ids)
    assert of["learnt", "all"]["value"] == pytest.approx(1 - 10 / n)
    assert of["learnt", UNLIKE]["value"] == pytest.approx(1 - 10 / (n - 60))
    assert (of["learnt", UNLIKE]["n"], of["learnt", "all"]["n"]) == (n - 60, n)
    assert ("other", UNLIKE) not in of
    # Every slicing stands twice, and the slices without add up to the whole without.
    learnt = accuracy.filter(judge_id="learnt")
    for slicing in ("locale", "surface", "label_confidence"):
        assert learnt.filter(slice=f"{UNLIKE}_{slicing}")["n"].sum() == n - 60
    first = leading(table).filter(metric="accuracy").select("judge_id", "slice").rows()
    assert sorted(first) == [("learnt", UNLIKE), ("other", "all")]
    # The numbers of all items are what they are without learners.
    before = metrics_table(scores, [release], DAY, 100)
    assert table.filter(~pl.col("slice").str.starts_with(UNLIKE)).equals(before)


def test_fewer_than_thirty_left_are_null_with_the_reason(release: Release) -> None:
    ids = release.items().sort("item_id")["item_id"].to_list()
    scores = pl.concat([scores_of(release, "a", set(ids[:5])), scores_of(release, "b", set(ids[5:9]))])
    learners = seen(release, "a", ids[:-29])
    table = metrics_table(scores, [release], DAY, 100, learners=learners)
    left = table.filter(slice=UNLIKE)
    assert left["value"].null_count() == left["ci_low"].null_count() == left.height == 9
    assert set(left.filter(metric="accuracy")["n"]) == {29}
    assert set(left["note"]) == {"29 items are unlike anything it learnt; 30 are needed"}
    pair = compare_judges(scores, release, "a", "b", 100, learners)
    assert pair["slice"][0] == UNLIKE
    assert pair.filter(slice=UNLIKE)["difference"].null_count() == pair.filter(slice=UNLIKE).height == 5
    assert pair.filter(slice=UNLIKE)["note"].null_count() == 0
    assert pair.filter(slice="all", metric="accuracy")["difference"][0] is not None
    one_more = metrics_table(scores, [release], DAY, 100, learners=seen(release, "a", ids[:-30]))
    assert one_more.filter(slice=UNLIKE, metric="accuracy")["value"][0] is not None


def test_judges_are_compared_on_what_neither_learnt(release: Release) -> None:
    ids = release.items().sort("item_id")["item_id"].to_list()
    scores = pl.concat([scores_of(release, "a", set(ids[:40])), scores_of(release, "b", set(ids[100:110]))])
    both = [seen(release, "a", ids[:50]), seen(release, "b", ids[40:60])]
    learners = Learners(*(pl.concat([getattr(x, t) for x in both]) for t in ("leakage", "seen_items")))
    rows = compare_judges(scores, release, "a", "b", 100, learners)
    COMPARISONS.picked(rows.with_columns(drop_date=pl.lit(DAY)).lazy())
    row = rows.filter(slice=UNLIKE, metric="accuracy").to_dicts()[0]
    # Without the first sixty only the second errs, ten times.
    assert (row["n"], row["value_a"], row["n_only_a"], row["n_only_b"]) == (len(ids) - 60, 1.0, 10, 0)
    assert (
        UNLIKE
        not in compare_judges(scores, release, "a", "b", 100, Learners(LEAKAGE.empty(), SEEN_ITEMS.empty()))["slice"]
    )
    twice = compare_releases(scores, release, release, "b", 100, learners)
    assert twice.filter(slice=UNLIKE, metric="accuracy")["n"][0] == len(ids) - 20


def test_operating_points_of_a_learner_lead_with_what_it_did_not_learn(release: Release) -> None:
    ids = release.items().sort("item_id")["item_id"].to_list()
    scores = scores_of(release, "a", set(ids[:30])).with_columns(p_violating=pl.col("violating").cast(pl.Float64))
    table = operating_points_table(scores, [release], DAY, {}, 100, learners=seen(release, "a", ids[:30]))
    checked(OPERATING_POINTS, table.lazy())
    whole = table.filter(pl.col("locale").is_null(), threshold=0.5)
    recall = dict(whole.select("items", "recall").iter_rows())
    assert recall[UNLIKE] == 1.0
    assert recall["all"] < 1.0
    assert set(leading_items(table)["items"]) == {UNLIKE}
    few = operating_points_table(scores, [release], DAY, {}, 100, learners=seen(release, "a", ids[:-20]))
    left = few.filter(items=UNLIKE)
    assert left["recall"].null_count() == left.height > 0
    assert set(left["note"]) == {"20 items are unlike anything it learnt; 30 are needed"}
    silent = scores.with_columns(p_violating=pl.lit(None, pl.Float64))
    assert operating_points_table(silent, [release], DAY, {}, 100, learners=seen(release, "a", ids[:30])).is_empty()
