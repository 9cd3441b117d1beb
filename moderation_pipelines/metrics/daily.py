"""The metrics table: every judge on every release, by slice, with intervals, n and what is missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from moderation_pipelines.consensus.basis import (
    CALIBRATED,
    POSTERIOR,
    VOTE_SHARE,
    WEIGHTED_SHARE,
    decided_by_authority,
    with_basis,
)
from moderation_pipelines.consensus.purity import violating_probability
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.clustered import clustered_rows
from moderation_pipelines.metrics.scored import Scored
from moderation_pipelines.metrics.slice import slice_metrics
from moderation_pipelines.metrics.tables import CHOSEN_BY_LABEL, METRICS, SLICES, UNLIKE, unlike_name
from moderation_pipelines.metrics.unlike import Learners, too_few
from moderation_pipelines.policies.policy import Costs
from moderation_pipelines.stats.intervals import seed_from
from moderation_pipelines.stats.shrinkage import shrunk_values

_SURE = ("0.95 to 1", "0.80 to 0.95", "below 0.80")
_SAID = {CALIBRATED: "calibrated", POSTERIOR: "posterior", VOTE_SHARE: "vote share"}
_WEIGHTED = "weighted share"
CONFIDENCE_ORDER = ("gold", "adjudication", *(f"{said} {sure}" for said in _SAID.values() for sure in _SURE), _WEIGHTED)


def label_confidence() -> pl.Expr:
    """The slice of an item by what its reference label rests on and how sure it is by that: of rows of
    :func:`with_basis`."""
    basis = pl.col("basis")
    sure = pl.when(basis == VOTE_SHARE).then("vote_share").otherwise("probability")
    band = (
        pl.when(sure >= 0.95)
        .then(pl.lit(_SURE[0]))
        .when(sure >= 0.8)
        .then(pl.lit(_SURE[1]))
        .otherwise(pl.lit(_SURE[2]))
    )
    said = pl.concat_str(basis.replace_strict(_SAID, default=POSTERIOR), band, separator=" ")
    return (
        pl.when(decided_by_authority())
        .then("method")
        .when(basis == WEIGHTED_SHARE)
        .then(pl.lit(_WEIGHTED))
        .otherwise(said)
    )


def metrics_table(
    scores: pl.DataFrame,
    releases: Sequence[Release],
    day: date,
    replicates: int = 1000,
    invalid: Mapping[tuple[str, str, str], str] | None = None,
    weigh_missing: bool = False,
    costs: Mapping[str, Costs] | None = None,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """The ``metrics`` rows of ``day``: every judge x release x slice in ``scores``, sorted.

    Values are weighted to the sampling frame. Where all weights are equal rates have Wilson intervals, F1 and kappa
    a bootstrap by item; where they differ all of them have Beta draws. Probability metrics have their own intervals.
    Where items are clustered by side_key all intervals are widened by the design effect.
    Items without a verdict are in no denominator but prevalence's, which is of the labels; their number and the
    worst-case bounds stand beside. ``weigh_missing``: instead the verdicts of a stratum stand for its missing ones.
    ``invalid`` names runs (judge, eval set, version) with too many of them, and why: their values are null with that
    note, and only the bounds stand. ``costs``: of errors, per policy that states them. ``learners``: judges that learnt
    something; every slicing of theirs stands a second time, of the items unlike anything they learnt, null where fewer
    than 30 of those are left.
    """
    frames = []
    for release in releases:
        by_judge: dict[str, list[dict[str, object]]] = {}
        measured: tuple[Scored | None, list[dict[str, object]]] = (None, [])
        for part in scored_slices(scores, release, SLICES, learners):
            # Where a judge learnt nothing like the items of a slice, those unlike it are the same items.
            if part.scored is not measured[0]:
                found = slice_metrics(
                    part.scored, replicates, part.seed, part.slicing in CHOSEN_BY_LABEL, weigh_missing,
                    release.unlabelled_share if part.slicing == "all" else 0.0, (costs or {}).get(release.policy),
                )  # fmt: skip
                measured = part.scored, clustered_rows(found, part.scored, (costs or {}).get(release.policy))
            found = measured[1]
            if part.why_null is not None:
                found = [{**row, **dict.fromkeys(_NUMBERS), **_NO_BOUNDS, "note": part.why_null} for row in found]
            named = {"eval_set": release.name, "version": release.version, "policy": release.policy}
            which = {"judge_id": part.judge_id, "slice": part.name, "slice_value": part.value}
            by_judge.setdefault(part.judge_id, []).extend({**named, **which, **row, "shrunk": None} for row in found)
        for rows in by_judge.values():
            frames.append(_shrunk(pl.DataFrame(rows, schema={k: METRICS.schema[k] for k in rows[0]})))
    if not frames:
        return METRICS.empty()
    as_of = datetime.combine(day + timedelta(days=1), time(), UTC)
    table = _without_invalid(pl.concat(frames), invalid or {}).with_columns(as_of=pl.lit(as_of), drop_date=pl.lit(day))
    return METRICS.picked(table.lazy()).collect()


_NUMBERS = ("value", "ci_low", "ci_high", "relabelled_low", "relabelled_high", "shrunk", "interval", "design_effect")
_NO_BOUNDS = {"worst_low": None, "worst_high": None}


@dataclass(frozen=True)
class ScoredSlice:
    """One slice of a release with a judge's answers. ``name``: that of ``slicing``, or of its items unlike anything the
    judge learnt; ``why_null``: why nothing is measured on them."""

    judge_id: str
    slicing: str
    value: str | None
    scored: Scored
    seed: int
    is_unlike: bool = False

    @property
    def name(self) -> str:
        return unlike_name(self.slicing) if self.is_unlike else self.slicing

    @property
    def why_null(self) -> str | None:
        return too_few(len(self.scored.truth)) if self.is_unlike else None


def scored_slices(
    scores: pl.DataFrame,
    release: Release,
    columns: Sequence[str] = SLICES,
    learners: Learners | None = None,
) -> Iterator[ScoredSlice]:
    """All items of a release and those of each value of the columns, with the answers of every judge; of judges that
    learnt something first the items of each unlike anything they learnt."""
    items, strata = sliced_items(release), release.stratify_by
    mine = scores.filter((pl.col("eval_set") == release.name) & (pl.col("version") == release.version))
    for judge_id in sorted(mine["judge_id"].unique()):
        judged = mine.filter(pl.col("judge_id") == judge_id)
        joined = items.join(
            judged.select("item_id", "outcome", "p_violating", flagged="violating"), on="item_id", how="left"
        )
        seen = learners.seen([judge_id], release) if learners is not None else None
        for name, value, part in slices(joined, columns=columns):
            # Sizes of strata that hold labels are known for the set, and for slices that they follow; elsewhere how
            # many of each label a slice has is itself by chance.
            followed = name in ("all", *strata)
            scored = Scored.of(part, "label" in strata and followed, "label" not in strata or followed)
            seed = seed_from(release.name, judge_id, name, value)
            if seen is not None:
                unlike = part.filter(~pl.col("item_id").is_in(seen.implode()))
                # How many items of a stratum are left is by chance, but where all are.
                left = scored if unlike.height == part.height else Scored.of(unlike, False, "label" not in strata)
                yield ScoredSlice(judge_id, name, value, left, seed, is_unlike=True)
            yield ScoredSlice(judge_id, name, value, scored, seed)


def _shrunk(table: pl.DataFrame) -> pl.DataFrame:
    """The rows of one judge on one release with ``shrunk`` filled: each slicing's values drawn towards that of all."""
    whole = {
        name: dict(table.filter(pl.col("slice") == name).select("metric", "value").iter_rows())
        for name in ("all", UNLIKE)
    }
    out: list[float | None] = [None] * table.height
    half = table.select((pl.col("ci_high") - pl.col("ci_low")) / 2)["ci_high"].to_list()
    numbered = table.with_row_index().filter(~pl.col("slice").is_in(list(whole)))
    for (name, metric), part in numbered.group_by("slice", "metric", maintain_order=True):
        places = part["index"].to_list()
        overall = whole[UNLIKE if str(name).startswith(UNLIKE) else "all"]
        found = shrunk_values(part["value"].to_list(), [half[k] for k in places], overall.get(metric))
        for k, value in zip(places, found, strict=True):
            out[k] = value
    return table.with_columns(shrunk=pl.Series(out, dtype=pl.Float64))


def _without_invalid(table: pl.DataFrame, invalid: Mapping[tuple[str, str, str], str]) -> pl.DataFrame:
    """Values and intervals of runs that do not count become null, with the reason as their note."""
    for (judge_id, eval_set, version), why in invalid.items():
        theirs = (pl.col("judge_id") == judge_id) & (pl.col("eval_set") == eval_set) & (pl.col("version") == version)
        table = table.with_columns(
            *(pl.when(~theirs).then(pl.col(c)).alias(c) for c in _NUMBERS),
            note=pl.when(theirs).then(pl.lit(why)).otherwise(pl.col("note")),
        )
    return table


def sliced_items(release: Release) -> pl.DataFrame:
    """A release's items with what metrics need of them: item_id, violating, weight, p_label (probability that the item
    violates; null where nothing says it), stratum, cluster (:func:`clusters_of`) and the columns of SLICES."""
    items = with_basis(release.items().lazy()).collect()
    return items.select(
        "item_id",
        "violating",
        "weight",
        "locale",
        "surface",
        severity=pl.col("severity").cast(pl.String),
        label_confidence=label_confidence(),
        p_label=pl.when(pl.col("posterior").is_not_null() | decided_by_authority()).then(
            pl.Series(violating_probability(items, release.violating_labels))
        ),
        stratum="stratum",
        cluster=clusters_of(items),
    )


def clusters_of(items: pl.DataFrame) -> pl.Series:
    """What items of a release are clustered by: their side_key, else the text; null for all where none has a key."""
    keys = items["side_key"]
    return keys if keys.null_count() == items.height else keys.fill_null(items["text_sha256"])


def slices(
    joined: pl.DataFrame, least: int = 1, columns: Sequence[str] = SLICES
) -> Iterator[tuple[str, str | None, pl.DataFrame]]:
    """All rows, then those of each value of the columns; of a slicing with fewer than ``least`` values none."""
    yield "all", None, joined
    for column in columns:
        filled = joined.with_columns(pl.col(column).fill_null("unknown"))
        values = sorted(filled[column].unique())
        for value in values if len(values) >= least else []:
            yield column, value, filled.filter(pl.col(column) == value)
