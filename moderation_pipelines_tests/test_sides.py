"""Sides by text, by a key and by near-duplicate clusters: fixed at first use, and no item ever moves."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.foundation.text import side_key, side_of, text_sha256
from moderation_pipelines.ingest.sides import home_problems, keyed_items, pinned_side_by
from moderation_pipelines.ingest.tables import CONTENT, NEAR_DUPLICATE_CLUSTERS, SIDES
from moderation_pipelines.ingest.twins_seen import near_twins_note
from moderation_pipelines.similarity.near import NEAR
from moderation_pipelines.wiring.settings_file import settings_problems
from moderation_pipelines_tests.conftest import DAY, HARASSMENT, SmallHome
from moderation_pipelines_tests.test_near_twins import plain_jaccard, variants

NEXT = DAY + timedelta(days=1)


def stated(small: SmallHome, by: str) -> SmallHome:
    small.write("prompts/settings.yaml", f"side_by: {by}\n")
    return small


def content(small: SmallHome) -> pl.DataFrame:
    return small.warehouse.scan(CONTENT).sort("drop_date", "item_id").collect()


def items(keys: list[str | None], key: str) -> list[dict[str, str]]:
    """Items with these keys, whose texts share hardly a 3-gram."""
    hashes = [hashlib.sha256(str(k).encode()).hexdigest() for k in range(len(keys))]
    return [
        {"item_id": f"i{k:03d}", "text": text, **({} if value is None else {key: value})}
        for k, (text, value) in enumerate(zip(hashes, keys, strict=True))
    ]


@pytest.mark.parametrize("by", ["group_key", "author_key", "conversation_id"])
def test_what_has_a_key_in_common_is_on_one_side(small: SmallHome, by: str) -> None:
    keys: list[str | None] = [f"g{k % 20}" for k in range(100)] + [None] * 10
    stated(small, by).deliver("content", "c.jsonl", items(keys, by))
    small.ingest()
    rows = content(small)
    assert rows.filter(pl.col(by).is_not_null()).group_by(by).agg(pl.col("side").n_unique())["side"].max() == 1
    assert rows["side"].n_unique() == 2
    for row in rows.to_dicts():
        key = None if row[by] is None else side_key(by, row[by])  # type: ignore[arg-type]
        assert row["side_key"] == key
        assert row["side"] == side_of(key or row["text_sha256"])
    sides = small.warehouse.scan(SIDES).sort("first_item_id").collect()
    assert sides["first_item_id"].to_list() == [f"i{k:03d}" for k in range(20)]
    assert set(sides["first_seen"]) == {DAY}


def test_a_key_seen_before_is_no_new_key(small: SmallHome) -> None:
    stated(small, "group_key").deliver("content", "c.jsonl", items(["a", "b"], "group_key"))
    small.ingest()
    small.deliver("content", "c.jsonl", [{"item_id": "z1", "text": "zz", "group_key": "a"},
                                         {"item_id": "z2", "text": "yy", "group_key": "c"}], NEXT)  # fmt: skip
    small.ingest(NEXT)
    assert small.warehouse.scan(SIDES, [NEXT]).collect()["first_item_id"].to_list() == ["z2"]
    rows = content(small)
    assert rows.filter(group_key="a")["side"].n_unique() == 1


def test_an_item_keeps_its_side_when_its_key_comes_late_or_changes(small: SmallHome) -> None:
    stated(small, "group_key").deliver("content", "c.jsonl", items([None] * 30 + ["a"] * 30, "group_key"))
    small.ingest()
    before = content(small).select("item_id", "side_key", "side")
    found = keyed_items(small.warehouse, DAY, 0.5)
    assert found.counts == {
        "items": 60, "not on the side of their key": 0, "without the key": 30, "kept": 0, "of the largest key": 30
    }  # fmt: skip
    assert found.wrong == [
        "30 of 60 items have no group_key and are divided by their text; deliver it with the first file that has the item"
    ]
    # The corrected file of the day, and the same items a day later, have other keys.
    later = items(["b"] * 60, "group_key")
    for day in (DAY, NEXT):
        small.deliver("content", "c.jsonl", later, day)
        small.ingest(day)
        assert small.warehouse.scan(CONTENT, [day]).sort("item_id").select(before.columns).collect().equals(before)
        assert keyed_items(small.warehouse, day, 0.5).counts["kept"] == 60
    # What is new with the key goes where the key does.
    small.deliver("content", "n.jsonl", [{"item_id": "new", "text": "new", "group_key": "b"}], NEXT)
    small.ingest(NEXT)
    (new,) = content(small).filter(item_id="new").to_dicts()
    assert new["side"] == side_of(side_key("group_key", "b"))


def test_a_key_that_holds_most_items_is_told(small: SmallHome) -> None:
    stated(small, "group_key").deliver("content", "c.jsonl", items(["a"] * 80 + ["b"] * 40, "group_key"))
    said = near_twins_note(small.home, Settings())
    odd = "side_by is group_key, but one group_key holds 80 of the first 120 different texts, all of them on one side; "
    assert said == f"{odd}choose another key before the first run"
    small.ingest()
    assert keyed_items(small.warehouse, DAY, 0.5).wrong == ["one group_key holds 80 of 120 items, all on one side"]
    assert near_twins_note(small.home, Settings()) == f"{odd}a new home may have another key"


def test_a_key_no_item_has_is_told_before_the_first_run(small: SmallHome) -> None:
    stated(small, "conversation_id").deliver("content", "c.jsonl", items(["a"] * 50, "group_key"))
    assert near_twins_note(small.home, Settings()) == (
        "side_by is conversation_id, but 50 of the first 50 different texts have none and are divided by their text; "
        "deliver it, or choose another key before the first run"
    )


def test_keys_follow_the_rules_of_ids(small: SmallHome) -> None:
    rows = [
        {"item_id": f"i{k}", "text": f"t{k}", "group_key": key}
        for k, key in enumerate(["e\u0301", "\u00e9", " g", "   ", "a\nb", "", None, 7, "7"])
    ]
    stated(small, "group_key").deliver("content", "c.jsonl", rows)
    done = small.ingest()
    assert done.total("content", "quarantined") == 3
    sides = {r["item_id"]: r["side_key"] for r in content(small).to_dicts()}
    assert sides["i0"] == sides["i1"] is not None
    assert sides["i7"] == sides["i8"] is not None
    assert (sides["i5"], sides["i6"]) == (None, None)


@pytest.mark.parametrize(("column", "field"), [("template_id", "group_key"), ("thread_id", "conversation_id")])
def test_a_column_that_looks_like_a_key_is_told(small: SmallHome, column: str, field: str) -> None:
    small.deliver("content", "c.jsonl", items(["a"] * 3, column))
    (file,) = small.ingest().files
    assert file.notes == [f'column "{column}" is kept in extra only; rename it to {field} if that is what it holds']


def test_a_home_whose_key_is_gone_is_refused(small: SmallHome) -> None:
    stated(small, "group_key").deliver("content", "c.jsonl", items(["a", "b"], "group_key"))
    small.ingest()
    for name in ("_side_by", "_eval_share"):
        (small.home.warehouse / name).unlink()
        with pytest.raises(UserError, match="_side_by is gone, and items of this home were divided by another key"):
            small.ingest()
        (problem,) = home_problems(small.home)
        assert str(problem).startswith("data/warehouse/_side_by: is gone, and items of this home")


def test_a_home_that_has_items_and_no_key_is_divided_by_text(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", items(["a", "b"], "group_key"))
    small.ingest()
    for name in ("_side_by", "_eval_share"):
        (small.home.warehouse / name).unlink()
    assert pinned_side_by(small.home) == "text"


@pytest.mark.parametrize(
    ("stated_as", "said"),
    [
        ("side_by:\n", "side_by must be one of: text, group_key"),
        ("side_by: [group_key]\n", "side_by must be one of: text, group_key"),
        ("side_by: groupkey\n", 'side_by "groupkey" is not known; did you mean "group_key"?'),
        ("side_by: xyzzyx quux\n", 'is not known; known: "text", "group_key"'),
    ],
)
def test_mistakes_of_the_key_say_what_it_may_be(small: SmallHome, stated_as: str, said: str) -> None:
    small.write("prompts/settings.yaml", stated_as)
    (problem,) = settings_problems(small.home, {})
    assert said in problem.message
    assert problem.line == 1
    small.write("prompts/settings.yaml", "\n")
    assert settings_problems(small.home, {}) == []


def test_an_item_on_another_side_than_its_key_says_is_told(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", items(["a"] * 20, "group_key"))
    small.ingest()
    assert keyed_items(small.warehouse, DAY, 0.5).wrong == []
    assert keyed_items(small.warehouse, DAY, 1.0).wrong[0].endswith("of 20 items are not on the side of their key")


def test_by_text_nothing_changes(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", items(["a", "b", "c"], "group_key"))
    small.ingest()
    rows = content(small)
    assert rows["side_key"].null_count() == 3
    assert rows["side"].to_list() == [side_of(h) for h in rows["text_sha256"]]
    assert small.warehouse.scan(SIDES).collect().is_empty()
    assert small.warehouse.scan(NEAR_DUPLICATE_CLUSTERS).collect().is_empty()


def test_the_key_is_fixed_at_first_use(small: SmallHome) -> None:
    stated(small, "group_key").ingest()
    assert pinned_side_by(small.home) == "group_key"
    stated(small, "author_key")
    with pytest.raises(UserError, match="divided by group_key when it was first used"):
        small.ingest()
    (problem,) = home_problems(small.home)
    assert (problem.file, problem.line) == ("prompts/settings.yaml", 1)
    (small.home.root / "prompts/settings.yaml").unlink()
    small.ingest()
    assert pinned_side_by(small.home) == "group_key"
    assert home_problems(small.home) == []


def test_a_home_of_before_is_divided_by_text(small: SmallHome) -> None:
    small.write("data/warehouse/_eval_share", "0.5\n")
    stated(small, "group_key")
    with pytest.raises(UserError, match="divided by text"):
        small.ingest()
    stated(small, "text").ingest()


@pytest.mark.parametrize("broken", ["side_by: groupkey\n", "side_by: [group_key]\n", "side_by: {\n", "- side_by\n"])
def test_a_file_with_mistakes_fixes_nothing(small: SmallHome, broken: str) -> None:
    small.write("prompts/settings.yaml", broken)
    if broken != "- side_by\n":
        with pytest.raises(UserError, match=r"settings\.yaml"):
            small.ingest()
        assert pinned_side_by(small.home) is None
    stated(small, "group_key").ingest()
    # Later it stops nothing: what is fixed stays.
    small.write("prompts/settings.yaml", broken)
    small.ingest()
    assert pinned_side_by(small.home) == "group_key"


def test_a_pin_that_cannot_be_read_is_no_guess(small: SmallHome) -> None:
    small.ingest()
    small.write("data/warehouse/_side_by", "nothing known\n")
    with pytest.raises(UserError, match="_side_by"):
        small.ingest()


def cluster_rows(small: SmallHome) -> pl.DataFrame:
    return small.warehouse.scan(NEAR_DUPLICATE_CLUSTERS).collect()


def texts(names: dict[str, str]) -> list[dict[str, str]]:
    return [{"item_id": i, "text": t} for i, t in names.items()]


A, B = "the first of the two long sentences of this test", "quite another matter that shares few letters"


def test_clusters_by_hand(small: SmallHome) -> None:
    stated(small, "near_duplicate_cluster")
    # a2 and a1 hang together: the least id begins the cluster. b1 is one of its own.
    small.deliver("content", "c.jsonl", texts({"a2": A + "!", "a1": A, "b1": B}))
    small.ingest()
    rows = {r["item_id"]: r for r in content(small).to_dicts()}
    assert rows["a1"]["side_key"] == rows["a2"]["side_key"] == text_sha256(A)
    assert rows["b1"]["side_key"] == text_sha256(B)
    assert rows["a2"]["side"] == side_of(text_sha256(A))
    # Later ones join, through a text of their own day too; the same text is where it was.
    chain = [A + "!? 0123456789 uvwxyz 9876543210 zyxwvu"[: 2 + 7 * k] for k in range(6)]
    assert plain_jaccard(A, chain[5]) < NEAR <= min(plain_jaccard(chain[k], chain[k + 1]) for k in range(5))
    small.deliver("content", "c.jsonl", texts({f"c{k}": t for k, t in enumerate(chain)} | {"same": B}), NEXT)
    small.ingest(NEXT)
    rows = {r["item_id"]: r for r in content(small).to_dicts()}
    assert {rows[f"c{k}"]["side_key"] for k in range(6)} == {text_sha256(A)}
    assert rows["same"]["side_key"] == text_sha256(B)
    assert small.warehouse.scan(SIDES, [NEXT]).collect().is_empty()
    assert not cluster_rows(small)["is_bridge"].any()


def bridge() -> tuple[str, str, str]:
    """Two texts on different sides that are not near, and one near to both."""
    for k in range(200):
        left, right = f"zyxwvutsrq{k:03d}", f"{k:03d}0123456789"
        one, other, between = f"{A} {right}", f"{left}p {A}", f"{left}p {A} {right}"
        near_both = min(plain_jaccard(one, between), plain_jaccard(other, between)) >= NEAR
        if side_of(text_sha256(one)) != side_of(text_sha256(other)) and near_both and plain_jaccard(one, other) < NEAR:
            return one, other, between
    raise AssertionError


def test_a_bridge_is_counted_and_nothing_moves(small: SmallHome) -> None:
    one, other, between = bridge()
    stated(small, "near_duplicate_cluster").deliver("content", "c.jsonl", texts({"a": one, "b": other}))
    small.ingest()
    before = content(small)
    small.deliver("content", "c.jsonl", texts({"c": between}), NEXT)
    small.ingest(NEXT)
    rows = {r["item_id"]: r for r in content(small).to_dicts()}
    nearest = max((plain_jaccard(t, between), i) for i, t in (("a", one), ("b", other)))[1]
    assert rows["c"]["side_key"] == rows[nearest]["side_key"]
    assert cluster_rows(small).filter(pl.col("is_bridge"))["text_sha256"].to_list() == [text_sha256(between)]
    assert small.warehouse.scan(CONTENT, [DAY]).sort("item_id").collect().equals(before)


def test_what_is_near_a_withdrawn_text_is_told_too(small: SmallHome) -> None:
    one, other, between = bridge()
    stated(small, "near_duplicate_cluster").deliver("content", "c.jsonl", texts({"a": one, "b": other}))
    small.ingest()
    withdrawn = small.home.drops / "content" / str(DAY) / "c.jsonl"
    kept = withdrawn.read_bytes()
    withdrawn.unlink()
    small.ingest()
    assert content(small).is_empty()
    small.deliver("content", "c.jsonl", texts({"c": between}), NEXT)
    small.ingest(NEXT)
    withdrawn.write_bytes(kept)
    small.ingest()
    assert content(small).filter(item_id="c")["side_key"][0] in (text_sha256(one), text_sha256(other))
    assert cluster_rows(small).filter(pl.col("is_bridge"))["text_sha256"].to_list() == [text_sha256(between)]


def test_days_run_again_late_files_and_days_out_of_order_move_nothing(small: SmallHome) -> None:
    stated(small, "near_duplicate_cluster")
    sentences = sorted(set(variants(120, 3)))
    days = [DAY + timedelta(days=k) for k in range(4)]
    for k, day in enumerate(days):
        small.deliver(
            "content", "c.jsonl", texts({f"i{j:03d}": sentences[j] for j in range(k, len(sentences), 4)}), day
        )
    for day in (days[1], days[0], days[2], days[3]):
        small.ingest(day)
    before, clusters = content(small), cluster_rows(small)
    for day in days:
        small.ingest(day)
    assert content(small).equals(before)
    assert cluster_rows(small).equals(clusters)
    # A late file whose items come first by id.
    small.deliver("content", "late.jsonl", texts({f"a{j:03d}": sentences[j] + " now" for j in range(40)}), days[0])
    small.ingest(days[0])
    again = content(small).filter(~pl.col("item_id").str.starts_with("a"))
    assert again.select(before.columns).equals(before)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.integers(1, 3))
def test_whatever_comes_a_cluster_is_on_one_side_and_bridges_are_what_is_near_across(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_days: int
) -> None:
    small = SmallHome(Home(tmp_path_factory.mktemp("sides")))
    small.write("prompts/harassment/policy.yaml", HARASSMENT)
    stated(small, "near_duplicate_cluster")
    sentences = sorted(set(variants(40, seed)))
    days = [DAY + timedelta(days=k) for k in range(n_days)]
    for k, day in enumerate(days):
        small.deliver(
            "content", "c.jsonl", texts({f"i{j:03d}": sentences[j] for j in range(k, len(sentences), n_days)}), day
        )
        small.ingest(day)
    rows = content(small).to_dicts()
    side = {r["item_id"]: r["side"] for r in rows}
    key = {r["item_id"]: r["side_key"] for r in rows}
    assert all(side_of(key[i]) == side[i] for i in side)
    marked = dict(cluster_rows(small).select("text_sha256", "is_bridge").iter_rows())
    for i, one in enumerate(rows):
        across, first = False, one["text_sha256"] == one["side_key"]
        for j, other in enumerate(rows):
            if i == j or plain_jaccard(one["text"], other["text"]) < NEAR:
                continue
            if other["drop_date"] <= one["drop_date"]:
                across |= side[one["item_id"]] != side[other["item_id"]]
            if other["drop_date"] == one["drop_date"] and first:
                # What begins a cluster has the least id of those near it that joined no earlier one.
                assert other["side_key"] != one["side_key"] or other["item_id"] > one["item_id"]
        assert marked[one["text_sha256"]] == across
    if n_days == 1:
        assert not any(marked.values())


def test_a_twin_is_found_in_a_crowd_of_one_template(small: SmallHome) -> None:
    rng = np.random.default_rng(1)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789"))

    def word(n: int) -> str:
        return "".join(rng.choice(letters, n))

    template = word(100)
    ends = [word(40) for _ in range(1_200)]
    crowd = [template + end for end in ends]
    twins = [template + end[:32] + word(8) for end in ends[:40]]
    # Strangers share half of their 3-grams, twins more than eight of ten.
    assert plain_jaccard(crowd[0], crowd[1]) < 0.6 < 0.8 < plain_jaccard(crowd[0], twins[0])
    stated(small, "near_duplicate_cluster")
    small.deliver("content", "c.jsonl", texts({f"i{k:04d}": t for k, t in enumerate(crowd)}))
    small.ingest()
    small.deliver("content", "c.jsonl", texts({f"t{k:04d}": t for k, t in enumerate(twins)}), NEXT)
    small.ingest(NEXT)
    key = {r["item_id"]: r["side_key"] for r in content(small).to_dicts()}
    assert [k for k in range(40) if key[f"t{k:04d}"] != key[f"i{k:04d}"]] == []


@pytest.fixture
def many(small: SmallHome) -> SmallHome:
    rows = [
        {"item_id": f"i{k}", "text": t, "group_key": f"g{k // 4}"} for k, t in enumerate(sorted(set(variants(300, 5))))
    ]
    small.deliver("content", "c.jsonl", rows)
    return small


def test_check_recommends_a_key_before_the_first_run_and_says_what_is_fixed_after(many: SmallHome) -> None:
    said = near_twins_note(many.home, Settings())
    assert said is not None
    assert "`side_by: group_key` in prompts/settings.yaml, before the first run" in said
    assert "100% a group_key in common" in said
    many.ingest()
    after = near_twins_note(many.home, Settings())
    assert after is not None
    assert after.split(";")[0] == said.split(";")[0]
    assert "stay divided by text" in after
    stated(many, "near_duplicate_cluster")
    assert near_twins_note(many.home, Settings()) is not None  # it is not what the items were divided by


def test_check_recommends_clusters_without_a_key_and_nothing_without_near_twins(small: SmallHome) -> None:
    small.deliver(
        "content", "c.jsonl", [{"item_id": f"i{k}", "text": t} for k, t in enumerate(sorted(set(variants(300, 5))))]
    )
    said = near_twins_note(small.home, Settings())
    assert said is not None
    assert "`side_by: near_duplicate_cluster`" in said
    stated(small, "near_duplicate_cluster")
    assert near_twins_note(small.home, Settings()) is None


def test_check_says_nothing_of_texts_that_are_unlike(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", items([None] * 200, "group_key"))
    small.deliver("content", "broken.jsonl.gz", b"\x1f\x8bnothing")
    assert near_twins_note(small.home, Settings()) is None
