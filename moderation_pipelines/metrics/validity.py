"""May a judge replace a rater? Each rater is left out, and the judge has to agree with the others about as well."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.metrics.daily import clusters_of
from moderation_pipelines.metrics.tables import JUDGE_VALIDITY, UNLIKE
from moderation_pipelines.metrics.unlike import Learners, too_few
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.clusters import MIN_CLUSTERS, cluster_mean
from moderation_pipelines.stats.intervals import UNDEFINED, Interval, clopper_pearson_interval, t_interval
from moderation_pipelines.stats.multiplicity import benjamini_yekutieli
from moderation_pipelines.votes.window import counted_votes, window_votes

MIN_ITEMS, MIN_RATERS, MIN_OTHERS = 30, 3, 2
LEVEL, HALF = 0.05, 0.5


@dataclass(frozen=True)
class Validity:
    """What the test gives. ``winning_rate``: share of raters the judge does as well as, to within the margin; null with
    fewer than three raters tested. ``advantage``: mean over them of how often the judge agrees with the others at least
    as well as the rater does.

    ``n_items``: items the judge labelled with at least three votes, one of a tested rater. ``agreement``: mean share of
    an item's votes that are the judge's label, over ``n_agreement`` items; ``rater_agreement``: mean share of pairs of
    votes on them that agree.
    """

    winning_rate: float | None
    interval: Interval
    n_raters: int
    n_won: int
    n_items: int
    advantage: float | None
    advantage_interval: Interval
    agreement: float | None
    agreement_interval: Interval
    rater_agreement: float | None
    rater_agreement_interval: Interval
    n_agreement: int

    @property
    def may_replace(self) -> bool | None:
        """Whether the judge does as well as half of the raters or more; null where that was not tested."""
        return None if self.winning_rate is None else self.winning_rate >= HALF


def replacement_test(
    item: IntArray,
    rater: IntArray,
    label: IntArray,
    judged: IntArray,
    ordered: bool,
    n_labels: int,
    margin: float,
    cluster: IntArray | None = None,
) -> Validity:
    """The alternative-annotator test of one judge.

    ``item``, ``rater`` (-1: anonymous) and ``label`` of every vote; ``judged``: the judge's label per item, -1 without.
    Of every vote by a named rater with two other votes or more: how well do the rater's label and the judge's agree
    with the others (share equal; of ordered labels minus the root mean square distance in ranks)? A rater with 30
    such items is tested: is the share of items on which the judge does at least as well, minus the share on which the
    rater does, above minus ``margin`` (one-sided t), at a false discovery rate of .05 (Benjamini-Yekutieli)?
    ``cluster``: what items are clustered by; standard errors are by it, and thirty clusters are needed.
    Source: Calderon, Reichart & Dror (2025), The Alternative Annotator Test for LLM-as-a-Judge, ACL.
    """
    cluster = np.arange(len(judged)) if cluster is None else cluster
    counts = np.zeros((len(judged), n_labels))
    np.add.at(counts, (item, label), 1)
    votes = counts.sum(axis=1)
    usable = (judged[item] >= 0) & (votes[item] - 1 >= MIN_OTHERS) & (rater >= 0)
    item, rater, label = item[usable], rater[usable], label[usable]
    others = counts[item].copy()
    others[np.arange(len(item)), label] -= 1
    ours = _closeness(others, judged[item], ordered)
    theirs = _closeness(others, label, ordered)
    judge_wins, rater_wins = ours >= theirs - 1e-12, theirs >= ours - 1e-12
    difference = judge_wins.astype(np.float64) - rater_wins
    tested, p_values, wins = [], [], []
    for one in np.unique(rater):
        mine = rater == one
        if len(np.unique(cluster[item[mine]])) >= MIN_ITEMS:
            tested.append(one)
            p_values.append(_p_value(difference[mine] + margin, cluster[item[mine]]))
            wins.append(float(judge_wins[mine].mean()))
    n_won = sum(p is not None and p <= LEVEL for p in benjamini_yekutieli(p_values))
    enough = len(tested) >= MIN_RATERS
    share = n_won / len(tested) if enough else None
    of_items = _agreements(counts, votes, judged, cluster)
    return Validity(
        share, clopper_pearson_interval(n_won, len(tested)) if enough else UNDEFINED, len(tested), n_won,
        len(np.unique(item[np.isin(rater, tested)])),
        float(np.mean(wins)) if enough else None,
        _around_mean(np.array(wins), np.arange(len(wins))) if enough else UNDEFINED,
        *of_items,
    )  # fmt: skip


def _closeness(others: FloatArray, label: IntArray, ordered: bool) -> FloatArray:
    """How near a label is to the other votes of its item; more is nearer."""
    n = others.sum(axis=1)
    if not ordered:
        return np.asarray(others[np.arange(len(label)), label] / n)
    distance = (np.arange(others.shape[1])[None, :] - label[:, None]) ** 2
    return np.asarray(-np.sqrt((others * distance).sum(axis=1) / n))


def _p_value(x: FloatArray, cluster: IntArray) -> float:
    """One-sided t test that the mean of ``x`` is above 0."""
    from scipy.special import stdtr

    mean = cluster_mean(x, cluster)
    if not mean.se > 0:
        return 0.0 if mean.value > 0 and mean.degrees else 1.0
    return float(stdtr(mean.degrees, -mean.value / mean.se))


def _agreements(
    counts: FloatArray, votes: FloatArray, judged: IntArray, cluster: IntArray
) -> tuple[float | None, Interval, float | None, Interval, int]:
    here = (judged >= 0) & (votes >= 2)
    if not here.any():
        return None, UNDEFINED, None, UNDEFINED, 0
    c, n = counts[here], votes[here]
    with_judge = c[np.arange(len(c)), judged[here]] / n
    among = (c * (c - 1)).sum(axis=1) / (n * (n - 1))
    return (
        float(with_judge.mean()), _around_mean(with_judge, cluster[here]),
        float(among.mean()), _around_mean(among, cluster[here]), len(c),
    )  # fmt: skip


def _around_mean(x: FloatArray, cluster: IntArray) -> Interval:
    """t interval of a mean; none of items in fewer than ten clusters."""
    mean = cluster_mean(x, cluster)
    if not mean.degrees or (mean.n_clusters < len(x) and mean.n_clusters < MIN_CLUSTERS):
        return UNDEFINED
    return t_interval(mean.value, mean.se, mean.degrees, low=0.0, high=1.0)


def judge_validity_table(
    scores: pl.DataFrame,
    votes: pl.LazyFrame,
    releases: Sequence[Release],
    policies: Policies,
    day: date,
    margin: float,
    learners: Learners | None = None,
) -> pl.DataFrame:
    """The ``judge_validity`` rows of ``day``: per policy and judge over all items of its releases, and by locale.

    ``votes``: the window's rows of ``votes``. Verdicts only; the items of several releases of a policy count once.
    Judges that learnt something are also compared on the items unlike anything they learnt.
    """
    rows: list[dict[str, object]] = []
    of_items = {"all": scores} if learners is None else {"all": scores, UNLIKE: learners.without_seen(scores)}
    for policy in policies:
        mine = [r for r in releases if r.policy == policy.id]
        for which, some in of_items.items() if mine else ():
            judges = sorted(scores.filter(pl.col("policy") == policy.id)["judge_id"].unique())
            if which == UNLIKE and learners is not None:
                judges = [j for j in judges if any(learners.seen([j], r) is not None for r in mine)]
            rows += [
                {**row, "items": which}
                for row in _of_policy(policy, some, votes, mine, margin, judges, which == UNLIKE)
            ]
    table = pl.LazyFrame(rows, schema={k: v for k, v in JUDGE_VALIDITY.schema.items() if k != "drop_date"})
    return JUDGE_VALIDITY.picked(table.with_columns(drop_date=pl.lit(day))).collect()


def _of_policy(
    policy: Policy,
    scores: pl.DataFrame,
    votes: pl.LazyFrame,
    releases: Sequence[Release],
    margin: float,
    judges: Sequence[str],
    is_unlike: bool,
) -> list[dict[str, object]]:
    columns = ("item_id", "locale", "side_key", "text_sha256")
    items = pl.concat([r.items().select(columns) for r in releases]).unique("item_id").sort("item_id")
    items = items.with_row_index("item")
    clusters = clusters_of(items)
    keys = items["item_id"] if clusters.null_count() else clusters
    cluster = keys.rank("dense").cast(pl.Int64).to_numpy() - 1
    counted = counted_votes(window_votes(votes.filter(pl.col("policy") == policy.id), Policies([policy])))
    code = {label: k for k, label in enumerate(policy.label_ids)}
    cast = (
        counted.join(items.lazy().select("item_id", "item"), on="item_id")
        .select("item", "rater_id", label=pl.col("label").replace_strict(code, return_dtype=pl.Int64))
        .sort("item", "rater_id", "label")
        .collect()
    )
    named = {rater: k for k, rater in enumerate(cast["rater_id"].drop_nulls().unique().sort())}
    rater = cast["rater_id"].replace_strict(named, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
    item, label = cast["item"].to_numpy().astype(np.int64), cast["label"].to_numpy()
    names = pl.DataFrame([(r.name, r.version) for r in releases], ["eval_set", "version"], orient="row")
    asked = scores.filter(
        (pl.col("policy") == policy.id) & (pl.col("outcome") == "verdict") & pl.col("label").is_in(policy.label_ids)
    ).join(names, on=["eval_set", "version"], how="semi", maintain_order="left")
    locales = sorted(items["locale"].drop_nulls().unique())
    rows = []
    for judge_id in judges:
        said = asked.filter(pl.col("judge_id") == judge_id).unique("item_id", keep="first", maintain_order=True)
        joined = items.join(said.select("item_id", "label"), on="item_id", how="left", maintain_order="left")
        judged = joined["label"].replace_strict(code, default=-1, return_dtype=pl.Int64).fill_null(-1).to_numpy()
        for locale in (None, *locales) if len(locales) > 1 else (None,):
            here = (
                np.ones(len(judged), bool)
                if locale is None
                else (items["locale"] == locale).fill_null(False).to_numpy()
            )
            found = replacement_test(
                item, rater, label, np.where(here, judged, -1), policy.scale != "nominal", len(code), margin,
                cluster,
            )  # fmt: skip
            row = {"policy": policy.id, "locale": locale, "judge_id": judge_id, "margin": margin, **_row(found)}
            if is_unlike and (why_null := too_few(int((here & (judged >= 0)).sum()))) is not None:
                row |= dict.fromkeys(_NUMBERS) | {"note": why_null}
            rows.append(row)
    return rows


def _row(v: Validity) -> dict[str, object]:
    note = None
    if v.winning_rate is None:
        note = (
            f"not tested: raters with {MIN_ITEMS} items (or clusters of them) that have a verdict and {MIN_OTHERS} "
            f"other votes: {v.n_raters} of the {MIN_RATERS} needed"
        )
    return {
        "winning_rate": v.winning_rate, "ci_low": v.interval.low, "ci_high": v.interval.high,
        "may_replace": v.may_replace, "n_raters": v.n_raters, "n_won": v.n_won, "n_items": v.n_items,
        **_interval("advantage", v.advantage, v.advantage_interval),
        **_interval("agreement", v.agreement, v.agreement_interval),
        **_interval("rater_agreement", v.rater_agreement, v.rater_agreement_interval),
        "n_agreement": v.n_agreement, "note": note,
    }  # fmt: skip


_NUMBERS = (
    "winning_rate", "ci_low", "ci_high", "may_replace",
    *(f"{name}{end}" for name in ("advantage", "agreement", "rater_agreement") for end in ("", "_low", "_high")),
)  # fmt: skip


def _interval(name: str, value: float | None, interval: Interval) -> dict[str, object]:
    return {name: value, f"{name}_low": interval.low, f"{name}_high": interval.high}
