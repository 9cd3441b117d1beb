"""Near-duplicates against plain sets, near-twins of releases, and what judges learnt of them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moderation_pipelines.foundation.text import normalised_text
from moderation_pipelines.leakage import near_twins
from moderation_pipelines.leakage.near_twins import ENOUGH, ReleasedTexts, near_content, near_twins_table
from moderation_pipelines.similarity.grams import bands_of, grams_of
from moderation_pipelines.similarity.near import NEAR, TextIndex, near_pairs

DAY = date(2026, 3, 2)


def plain_set(text: str) -> set[str]:
    """The 3-grams of a text as the definition has them."""
    normal = normalised_text(text)
    return {normal[i : i + 3] for i in range(len(normal) - 2)} or ({normal} if normal else set())


def plain_jaccard(one: str, other: str) -> float:
    a, b = plain_set(one), plain_set(other)
    return len(a & b) / len(a | b) if a | b else 0.0


def plain_pairs(texts: list[str]) -> dict[tuple[int, int], float]:
    near = {}
    for j in range(len(texts)):
        for i in range(j):
            if (found := plain_jaccard(texts[i], texts[j])) >= NEAR:
                near[i, j] = found
    return near


def test_the_similarity_is_that_of_the_definition() -> None:
    # abcde: abc bcd cde; abcdf: abc bcd cdf: 2 of 4. abcdefghij has eight grams, abcdefghiX shares seven of nine.
    texts = [
        "abcdefghij",
        "abcdefghiX",
        "abcde",
        "abcdf",
        "ab",
        "AB ",
        "b",
        "\u200b",
        "",
        "\U0001f600ab",
        "\U0001f601ab",
    ]
    assert near_pairs(texts).rows() == [(0, 1, pytest.approx(7 / 9)), (4, 5, 1.0)]
    assert TextIndex(texts).near(["xbcdefghij"]).rows() == [(0, 0, pytest.approx(7 / 9))]
    assert TextIndex([]).near(texts).is_empty()
    assert TextIndex(texts).near([]).is_empty()
    assert near_pairs([]).is_empty()


_WORDS = st.text(st.sampled_from("abcd 好仇\U0001f600\ud800"), max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(_WORDS, max_size=12), st.lists(_WORDS, max_size=12))
def test_what_is_found_is_right_whatever_the_texts(texts: list[str], others: list[str]) -> None:
    assert {(i, j): s for i, j, s in near_pairs(texts).iter_rows()}.items() <= {
        k: pytest.approx(v) for k, v in plain_pairs(texts).items()
    }.items()
    for query, indexed, similarity in TextIndex(texts).near(others).iter_rows():
        assert similarity == pytest.approx(plain_jaccard(others[query], texts[indexed]))


def variants(n: int, seed: int) -> list[str]:
    """Sentences of a few templates: many pairs around the threshold."""
    rng = np.random.default_rng(seed)
    words = [
        "people",
        "from",
        "there",
        "never",
        "should",
        "come",
        "here",
        "again",
        "they",
        "are",
        "welcome",
        "to",
        "us",
    ]
    templates = [[words[k] for k in rng.integers(0, len(words), 8)] for _ in range(12)]
    out = []
    for _ in range(n):
        words_of = list(templates[int(rng.integers(0, 12))])
        for place in rng.integers(0, 8, int(rng.integers(0, 3))):
            words_of[place] = words[int(rng.integers(0, len(words)))]
        out.append(" ".join(words_of))
    return out


def test_hardly_a_pair_at_the_threshold_is_missed() -> None:
    texts = sorted(set(variants(500, 1)))
    plain = plain_pairs(texts)
    found = {(i, j) for i, j, _ in near_pairs(texts).iter_rows()}
    assert len(plain) > 1_000
    assert found <= plain.keys()
    # 32 bands of four at a similarity of .7: 1 - (1 - .7 ** 4) ** 32 = .9998.
    assert len(found) >= 0.998 * len(plain)
    half = TextIndex(texts[::2]).near(texts[1::2])
    assert {(2 * q + 1, 2 * i) for q, i, _ in half.iter_rows()} <= {(b, a) for a, b in plain} | plain.keys()
    assert half.height >= 0.998 * sum((a + b) % 2 for a, b in plain)


def test_thousands_of_nearly_equal_texts_cost_no_square_of_them() -> None:
    texts = [f"buy the cheapest watches of the whole world at this address today {k:05d}" for k in range(4_000)]
    pairs = near_pairs(texts)
    # Each with the first hundred that share a band with it: a band or more a text.
    assert pairs.height < 2_000_000 < 4_000 * 3_999 / 2
    from moderation_pipelines.similarity.near import components

    assert set(components(len(texts), pairs["first"].to_numpy(), pairs["second"].to_numpy())) == {0}


def test_bands_do_not_depend_on_what_else_is_hashed() -> None:
    one, many = bands_of(grams_of(["a text of some length"])), bands_of(grams_of(["x" * 9, "a text of some length"]))
    assert (one[0] == many[1]).all()


class Fake:
    """A release as near-twins see it."""

    def __init__(self, name: str, texts: dict[str, str]) -> None:
        from moderation_pipelines.foundation.text import text_sha256

        self.name, self.version, self.policy = name, "v0001", "p"
        self.frame = pl.DataFrame(
            {
                "item_id": list(texts), "text": list(texts.values()), "locale": ["en"] * len(texts),
                "text_sha256": [text_sha256(t) for t in texts.values()],
            }
        )  # fmt: skip

    def items(self) -> pl.DataFrame:
        return self.frame


def content(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    from moderation_pipelines.foundation.text import text_sha256

    return pl.DataFrame(
        {
            "item_id": [r[0] for r in rows], "text": [r[1] for r in rows],
            "text_sha256": [text_sha256(r[1]) for r in rows], "side": [r[2] for r in rows],
        }
    )  # fmt: skip


def test_near_twins_of_a_release_by_side_without_itself() -> None:
    released = ReleasedTexts([Fake("s", {"r1": "abcdefghij", "r2": "something else altogether"})])  # type: ignore[list-item]
    days = [
        content([("r1", "abcdefghij", "eval"), ("c1", "abcdefghij", "eval"), ("d1", "abcdefghiX", "development")]),
        content([("d2", "abcdefghij.", "development"), ("d3", "far away", "development")]),
    ]
    found = (
        near_twins_table(near_content(released, days), DAY)
        .select("item_id", "side", "similarity", "twin_id", "n_twins")
        .rows()
    )
    # abcdefghij. has nine grams and shares eight of nine.
    assert found == [
        ("r1", "development", pytest.approx(8 / 9), "d2", 2),
        ("r1", "eval", 1.0, "c1", 1),
    ]


def test_an_item_with_a_thousand_twins_is_no_longer_looked_for() -> None:
    released = ReleasedTexts([Fake("s", {"r1": "the same long advertisement for a thing, number 1"})])  # type: ignore[list-item]
    days = [
        content([(f"c{d}-{k}", f"the same long advertisement for a thing, number {d}{k}", "eval") for k in range(400)])
        for d in range(5)
    ]
    days.append(content([("late", "the same long advertisement for a thing, number one", "development")]))
    found = {r["side"]: r for r in near_twins_table(near_content(released, days), DAY).to_dicts()}
    assert ENOUGH <= found["eval"]["n_twins"] < 2_000
    assert found["development"]["n_twins"] == 1


def test_a_release_without_items_or_content_has_no_near_twins() -> None:
    assert near_twins_table(near_content(ReleasedTexts([]), [content([("a", "text", "eval")])]), DAY).is_empty()
    some = ReleasedTexts([Fake("s", {"r1": "abc"})])  # type: ignore[list-item]
    assert near_twins_table(near_content(some, []), DAY + timedelta(days=1)).is_empty()


def test_one_text_delivered_every_day_is_one_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near_twins, "ENOUGH", 20)
    released = ReleasedTexts([Fake("s", {"r1": "abcdefghij"})])  # type: ignore[list-item]
    days = [content([(f"c{k}", "abcdefghiX", "development")]) for k in range(25)]
    days.append(content([("exact", "ABCDEFGHIJ", "development")]))
    (found,) = near_twins_table(near_content(released, days), DAY).to_dicts()
    assert (found["n_twins"], found["similarity"], found["twin_id"]) == (2, 1.0, "exact")
