"""What the daily report says, as plain rows. The pages and the workbook only lay it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import polars as pl

from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.consensus.basis import bases_in_words, decided_by_authority, with_basis
from moderation_pipelines.consensus.labels import latest_consensus
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS, RELIABILITY
from moderation_pipelines.eval_sets.asked import in_force, releases_of
from moderation_pipelines.eval_sets.release import Release, current_release, release_diff, releases
from moderation_pipelines.eval_sets.specs import load_specs_leniently
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.rule_words import conversion_words, rule_words
from moderation_pipelines.ingest.tables import CONTENT, CONVERSIONS, DROPS, QUARANTINE
from moderation_pipelines.judging.tables import JUDGE_RUNS, RUN_KEY, SCORES
from moderation_pipelines.leakage.tables import LEAKAGE, SEEN_ITEMS
from moderation_pipelines.metrics.tables import COMPARISONS, METRICS, UNLIKE, unlike_name
from moderation_pipelines.metrics.unlike import MIN_LEFT, Learners, leading
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.probes.tables import CANARIES, INJECTIONS
from moderation_pipelines.probes.thresholds import ProbesThresholds
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.rendering.pages import decimal, span
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines.wiring.settings_file import load_thresholds

Row = dict[str, Any]
READ_NEXT = 15
SURE = 0.05


@dataclass
class ReportData:
    """Everything the report of a day shows."""

    day: date
    window_start: date
    policies: Policies
    drops: list[Row]
    days: list[tuple[date, int, int]]
    quarantine: list[Row]
    conversions: list[Row]
    waiting_votes: int
    labelled: list[Row]
    methods: pl.DataFrame
    reliability: pl.DataFrame
    agreement: pl.DataFrame
    disagreements: pl.DataFrame
    rater_pairs: pl.DataFrame
    guidelines: pl.DataFrame
    raters: pl.DataFrame
    releases: list[Row]
    without_release: list[str]
    metrics: pl.DataFrame
    comparisons: pl.DataFrame
    missing: list[Row]
    judge_runs: list[Row]
    canaries: list[Row]
    injections: list[Row]
    confusion: pl.DataFrame
    read_next: list[Row]
    todo: list[str]
    notes: list[str]
    probes: ProbesThresholds

    @property
    def rows(self) -> int:
        return sum(d["rows"] or 0 for d in self.drops)

    @property
    def accepted(self) -> int:
        return sum(d["accepted"] for d in self.drops)

    @property
    def quarantined(self) -> int:
        return sum(d["quarantined"] for d in self.drops)

    @property
    def rejected(self) -> list[Row]:
        return [d for d in self.drops if d["status"] != "accepted"]


def report_data(home: Home, policies: Policies, day: date, settings: Settings, notes: Sequence[str] = ()) -> ReportData:
    """Gather the report of a day from the warehouse as it stands."""
    warehouse = Warehouse(home)
    start = day - timedelta(days=settings.window_days - 1)
    window = [start + timedelta(days=i) for i in range(settings.window_days)]
    drops = warehouse.scan(DROPS, [day]).sort("feed", "drop_file").collect().to_dicts()
    per_day = (
        warehouse.scan(DROPS, window)
        .group_by("drop_date")
        .agg(pl.col("accepted").sum(), pl.col("quarantined").sum())
        .sort("drop_date")
        .collect()
    )
    scores = warehouse.scan(SCORES, [day]).collect()
    current = _releases_in_force(home, policies, warehouse, day)
    data = ReportData(
        day=day,
        window_start=start,
        policies=policies,
        drops=drops,
        days=[(d, a, q) for d, a, q in per_day.iter_rows()][-14:],
        quarantine=_quarantine(warehouse.scan(QUARANTINE, window)),
        conversions=_conversions(warehouse.scan(CONVERSIONS, window)),
        waiting_votes=_waiting(warehouse, window),
        labelled=_labelled(warehouse.scan(CONSENSUS, window), policies),
        methods=warehouse.scan(CONSENSUS_METHODS, [day]).collect(),
        reliability=warehouse.scan(RELIABILITY, [day]).collect(),
        agreement=warehouse.scan(AGREEMENT, [day]).collect(),
        disagreements=warehouse.scan(DISAGREEMENTS, [day]).collect(),
        rater_pairs=warehouse.scan(RATER_PAIRS, [day]).collect(),
        guidelines=warehouse.scan(GUIDELINE_COMPARISONS, [day]).collect(),
        raters=warehouse.scan(RATERS, [day]).collect(),
        releases=[_release_row(home, r) for r in current.values() if r is not None],
        without_release=[name for name, r in current.items() if r is None],
        metrics=_in_force(warehouse.scan(METRICS, [day]).collect(), current),
        comparisons=_in_force(warehouse.scan(COMPARISONS, [day]).collect(), current),
        missing=_missing(scores),
        judge_runs=_in_force(
            warehouse.scan(JUDGE_RUNS, [day]).sort("eval_set", "judge_id").collect(), current
        ).to_dicts(),
        canaries=_in_force(warehouse.scan(CANARIES, [day]).sort("policy", "judge_id").collect(), current).to_dicts(),
        injections=_injections(_in_force(warehouse.scan(INJECTIONS, [day]).collect(), current)),
        confusion=_confusion(_leading_scores(scores, warehouse, day), [r for r in current.values() if r is not None]),
        read_next=_read_next(scores, [r for r in current.values() if r is not None]),
        todo=[],
        notes=list(notes),
        probes=load_thresholds(home, "probes", ProbesThresholds),
    )
    data.todo = what_to_do(data)
    return data


def _injections(injections: pl.DataFrame) -> list[Row]:
    """For each judge and policy the whole suite, and the kind that turned it most often."""
    rows = []
    for (judge, policy), part in injections.sort("policy", "judge_id").group_by(
        ["judge_id", "policy"], maintain_order=True
    ):
        whole = part.filter(pl.col("injection") == "all").to_dicts()
        kinds = part.filter(pl.col("injection") != "all", pl.col("n_flips") > 0).sort(
            ["n_flips", "injection"], descending=[True, False]
        )
        worst = f"{kinds['injection'][0]}: {kinds['n_flips'][0]} of {kinds['n'][0]}" if kinds.height else None
        rows += [{**r, "judge_id": judge, "policy": policy, "worst": worst} for r in whole]
    return rows


def _in_force(metrics: pl.DataFrame, current: dict[str, Release | None]) -> pl.DataFrame:
    """Metrics of the releases in force; those of an earlier version are of the past and are not shown as today's."""
    pairs = [(name, r.version) for name, r in current.items() if r is not None]
    known = pl.DataFrame(pairs, schema={"eval_set": pl.String, "version": pl.String}, orient="row")
    return metrics.join(known, on=["eval_set", "version"], how="semi")


def _releases_in_force(home: Home, policies: Policies, warehouse: Warehouse, day: date) -> dict[str, Release | None]:
    """The release of every set the day was asked about; before it was asked, the newest there is."""
    specs, _ = load_specs_leniently(home, policies)
    asked = {r.name: r for r in in_force(releases_of(home, warehouse, day))}
    names = [spec.name for policy in policies for spec in specs[policy.id]]
    return {name: asked.get(name) or (None if asked else current_release(home, name)) for name in names}


def _quarantine(quarantine: pl.LazyFrame) -> list[Row]:
    """Quarantined rows of the window by feed and rule, with where the first one stands and what the rule asks.

    The rows' own messages quote values: they stay in the table.
    """
    found = (
        quarantine.sort("drop_date", "feed", "drop_file", "drop_line")
        .group_by("feed", "rule", maintain_order=True)
        .agg(n=pl.len(), place=pl.format("{}/{}/{}:{}", "feed", "drop_date", "drop_file", "drop_line").first())
        .sort("n", "feed", "rule", descending=[True, False, False])
        .collect()
        .to_dicts()
    )
    return [{**row, "asks": rule_words(row["rule"])} for row in found]


def _conversions(conversions: pl.LazyFrame) -> list[Row]:
    """Values of the window that were read otherwise or nulled, by feed, column and rule."""
    found = (
        conversions.group_by("feed", "column", "rule")
        .agg(pl.col("n").sum())
        .sort("n", "feed", "column", "rule", descending=[True, False, False, False])
        .collect()
        .to_dicts()
    )
    return [{**row, "became": conversion_words(row["rule"])} for row in found]


def _waiting(warehouse: Warehouse, window: Sequence[date]) -> int:
    """Votes of the window on items that have not arrived, in all of history."""
    items = warehouse.scan(CONTENT).select("item_id").unique()
    votes = warehouse.scan(VOTES, window).select("item_id")
    return int(votes.join(items, on="item_id", how="anti").select(pl.len()).collect(engine="streaming").item())


def _labelled(consensus: pl.LazyFrame, policies: Policies) -> list[Row]:
    """Items of the window by policy: how many have a label, from whom, and how many lack the votes they should have."""
    wanted = {p.id: float(p.kpis.min_votes or 0) for p in policies}
    short = pl.col("n_votes") < pl.col("policy").replace_strict(wanted, default=0.0, return_dtype=pl.Float64)
    rows = (
        latest_consensus(consensus, policies)
        .group_by("policy")
        .agg(
            n_items=pl.len(),
            n_labelled=pl.col("label").count(),
            n_violating=pl.col("violating").sum(),
            n_gold=decided_by_authority().sum(),
            n_short=(short & ~decided_by_authority()).sum(),
            n_ties=pl.col("is_tie").sum(),
            mean_entropy=pl.col("entropy").mean(),
            bases=pl.col("basis").drop_nulls().value_counts(sort=True),
        )
        .sort("policy")
        .collect()
        .to_dicts()
    )
    return [{**row, "rests_on": bases_in_words({b["basis"]: b["count"] for b in row["bases"]})} for row in rows]


def _release_row(home: Home, release: Release) -> Row:
    m = release.manifest
    there = releases(home, release.name)
    parent = next((r for r in there if r.version == m["parent_version"]), None)
    return {
        "name": release.name,
        "version": release.version,
        "policy": m["policy"],
        "rows": m["rows"],
        "rows_violating": m["rows_violating"],
        "created_at": m["created_at"],
        "change": "first release"
        if parent is None
        else f"since {parent.version}: {release_diff(parent, release).summary()}",
        "warnings": m["validation"]["failed_warning"],
        "held": m["validation"]["expectations"] - len(m["validation"]["failed_warning"]),
        "reasons": [_reason(r) for r in release.validation() if not r["passed"]],
        "expectations": m["validation"]["expectations"],
        "purity": m.get("gold_purity"),
        "content_sha256": m["content_sha256"],
        "path": home.relative(release.path),
    }


def _reason(result: Row) -> str:
    found = f" (found {result['observed']})" if result["observed"] else ""
    return f"{result['why']}{found}"


def _missing(scores: pl.DataFrame) -> list[Row]:
    return (
        scores.filter(pl.col("outcome") != "verdict")
        .group_by("judge_id", "eval_set", "outcome")
        .agg(n=pl.len(), reason=pl.col("error").drop_nulls().mode().sort().first())
        .join(scores.group_by("judge_id", "eval_set").agg(of=pl.len()), on=["judge_id", "eval_set"])
        .sort("judge_id", "eval_set", "outcome")
        .to_dicts()
    )


def _leading_scores(scores: pl.DataFrame, warehouse: Warehouse, day: date) -> pl.DataFrame:
    """Scores without those of items like something the judge learnt; none of a judge with fewer than thirty left."""
    learners = Learners(*(warehouse.scan(t, [day]).collect() for t in (LEAKAGE, SEEN_ITEMS)))
    left = learners.without_seen(scores, others_too=True)
    few = left.join(learners.leakage.select(RUN_KEY).unique(), on=RUN_KEY, how="semi").group_by(RUN_KEY).len()
    return left.join(few.filter(pl.col("len") < MIN_LEFT), on=RUN_KEY, how="anti", maintain_order="left")


def _confusion(scores: pl.DataFrame, current: Sequence[Release]) -> pl.DataFrame:
    """Verdicts by judge, eval set, reference label and judge's label (items, unweighted)."""
    frames = [
        scores.filter(
            pl.col("eval_set") == r.name, pl.col("version") == r.version, pl.col("outcome") == "verdict"
        ).join(r.items().select("item_id", reference="label"), on="item_id")
        for r in current
    ]
    schema = {
        "judge_id": pl.String,
        "eval_set": pl.String,
        "policy": pl.String,
        "reference": pl.String,
        "label": pl.String,
    }
    if not frames:
        return pl.DataFrame(schema={**schema, "n": pl.UInt32})
    return pl.concat(frames).group_by(list(schema)).agg(n=pl.len()).sort(list(schema))


def _read_next(scores: pl.DataFrame, current: Sequence[Release]) -> list[Row]:
    """Badcases most worth reading: judge and a sure reference label differ, and the judge was sure too.

    Worth = probability of the reference label (share of votes, where there is none) x the judge's probability for the
    wrong side; without a probability from the judge 0.5 stands in for it.
    """
    frames = []
    for r in current:
        items = (
            with_basis(r.items().lazy())
            .select(
                "item_id", "locale", "basis", reference="label", truth="violating", by="method",
                sure=pl.coalesce("probability", "vote_share", pl.lit(0.5)),
            )
            .collect()
        )  # fmt: skip
        frames.append(
            scores.filter(pl.col("eval_set") == r.name, pl.col("version") == r.version, pl.col("outcome") == "verdict")
            .join(items, on="item_id")
            .filter(pl.col("violating") != pl.col("truth"))
        )
    if not frames:
        return []
    wrong = pl.when("truth").then(1 - pl.col("p_violating")).otherwise(pl.col("p_violating")).fill_null(0.5)
    columns = [
        "item_id",
        "eval_set",
        "judge_id",
        "kind",
        "reference",
        "by",
        "basis",
        "sure",
        "label",
        "p_violating",
        "locale",
        "worth",
    ]
    return (
        pl.concat(frames)
        .with_columns(
            worth=pl.col("sure") * wrong,
            kind=pl.when("truth").then(pl.lit("missed (FN)")).otherwise(pl.lit("false alarm (FP)")),
        )
        .sort("worth", "judge_id", "item_id", descending=[True, False, False])
        .select(columns)
        .head(READ_NEXT)
        .to_dicts()
    )


def what_to_do(data: ReportData) -> list[str]:
    """What the numbers ask for, most urgent first. Each line names its numbers."""
    todo = []
    for d in data.rejected:
        todo.append(f"Ask for {d['feed']}/{d['drop_date']}/{d['drop_file']} again: {d['reason']}.")
    quarantined = sum(q["n"] for q in data.quarantine)
    if quarantined:
        worst = data.quarantine[0]
        todo.append(
            f"Have {quarantined:,} quarantined rows of the window corrected; most often {worst['rule']} "
            f"({worst['n']:,}), first at {worst['place']}."
        )
    for row in data.missing:
        share = (
            f"{row['n']:,} of {row['of']:,} calls of {row['judge_id']} on {row['eval_set']} ended as {row['outcome']}"
        )
        if str(row["reason"]).startswith("batch "):
            continue
        if row["outcome"] in ("api_error", "timeout"):
            todo.append(f"Look at the endpoint, then run again: {share} ({row['reason']}).")
        elif row["outcome"] == "over_budget":
            todo.append(
                f"Raise the budget of {row['judge_id']}, or run again tomorrow: {row['n']:,} of {row['of']:,} items of "
                f"{row['eval_set']} were not asked for ({row['reason']})."
            )
        elif row["outcome"] == "content_filter" and row["n"] > 0.05 * row["of"]:
            todo.append(f"Read what the content filter blocks, the worst posts are among it: {share}.")
        elif row["n"] > 0.2 * row["of"]:
            todo.append(f"Look at the prompt or the model: {share} ({row['reason']}).")
    for judge in sorted({r["judge_id"] for r in data.judge_runs if r["n_pending"]}):
        n = sum(r["n_pending"] for r in data.judge_runs if r["judge_id"] == judge)
        todo.append(f"Wait for the batches of {judge}: {n:,} items are out; modpipe batches --collect asks for them.")
    for row in data.judge_runs:
        if not row["is_valid"] and not row["n_pending"]:
            todo.append(f"Do not use the metrics of {row['judge_id']} on {row['eval_set']}: {row['note']}.")
    for row in data.canaries:
        if row["n"] and row["ci_low"] > data.probes.max_flips:
            todo.append(
                f"{row['judge_id']} does not hold still on {row['policy']}: asked again, {row['n_flips']:,} of "
                f"{row['n']:,} labels flipped ({span(row['ci_low'], row['ci_high'], 2)})."
            )
    for row in data.injections:
        if row["n"] and row["ci_low"] > data.probes.max_obeyed:
            todo.append(
                f"Items can give {row['judge_id']} orders on {row['policy']}: {row['n_flips']:,} of {row['n']:,} "
                f"injected orders were obeyed ({span(row['ci_low'], row['ci_high'], 2)}), most by {row['worst']}."
            )
    for policy in data.policies:
        minimum = policy.kpis.min_alpha
        alpha = _alpha(data.agreement, policy.id)
        if minimum is not None and alpha is not None and alpha["value"] is not None and alpha["value"] < minimum:
            sure = "surely" if alpha["ci_high"] is not None and alpha["ci_high"] < minimum else "possibly"
            known = span(alpha["ci_low"], alpha["ci_high"]) if alpha["ci_low"] is not None else "no interval"
            todo.append(
                f"Review the guideline of {policy.id}: alpha {decimal(alpha['value'])} ({known}, "
                f"{alpha['n_items']:,} items) is {sure} below its target {minimum:g}."
            )
    todo += _from_statistics(data)
    for row in data.labelled:
        if row["n_short"]:
            least = data.policies[row["policy"]].kpis.min_votes or 0 if row["policy"] in data.policies else 0
            todo.append(
                f"Get more votes for {row['policy']}: {row['n_short']:,} of {row['n_items']:,} items have fewer than "
                f"{least:g} votes and no word of an authority."
            )
    for r in _surely_weak(data.raters).head(5).to_dicts():
        todo.append(
            f"Calibrate rater {r['rater_id']} on {r['policy']}: right on {r['p']:.0%} of {r['n']:,} against "
            f"{r['basis']} ({r['low']:.0%} to {r['high']:.0%})."
        )
    if data.waiting_votes:
        todo.append(f"{data.waiting_votes:,} votes wait for their content: check that the content feed is complete.")
    for release in data.releases:
        if release["warnings"]:
            said = "; ".join(release["reasons"])
            todo.append(f"Deliver more labels for {release['name']} ({release['version']}): {said}.")
    measured = set(data.metrics["eval_set"])
    for release in data.releases:
        if release["name"] not in measured:
            todo.append(f"Release {release['name']} {release['version']} was not measured today: see the scores asset.")
    for name in data.without_release:
        todo.append(
            f"Eval set {name} has no release yet: it needs labelled items on the eval side that passed its audit."
        )
    todo += data.notes
    return todo or ["Nothing stands out. Read the items below, they teach most."]


def _from_statistics(data: ReportData) -> list[str]:
    """What methods, guideline comparisons, rater cards and judge comparisons ask for; only what is beyond chance."""
    todo = []
    for m in data.methods.filter(pl.col("note").str.contains("was more accurate")).to_dicts():
        better = str(m["note"]).split("; ")[1].split(" ")[0]
        if data.methods.filter(policy=m["policy"], method=better).filter(pl.col("p_value") < SURE).is_empty():
            continue
        todo.append(
            f"Consider aggregation {better} for {m['policy']}: {m['method']}, set in policy.yaml, is right on "
            f"{m['accuracy']:.1%} of {m['n_gold']:,} gold items, {better} on more."
        )
    worse = data.guidelines.filter(
        (pl.col("coefficient") == "krippendorff_alpha") & (pl.col("p_adjusted") < SURE) & (pl.col("difference") < 0)
    )
    for g in worse.to_dicts():
        todo.append(
            f"Look at guideline {g['guideline_b']} of {g['policy']}: alpha fell by {-g['difference']:.3f} against "
            f"{g['guideline_a']} ({span(g['ci_low'], g['ci_high'])}, p {g['p_adjusted']:.2g}, {g['basis']})."
        )
    apart = data.raters.filter((pl.col("apart_p") < SURE) & (pl.col("apart_high") < 0)).sort("apart", "rater_id")
    for r in apart.head(3).to_dicts():
        todo.append(
            f"Talk to rater {r['rater_id']} on {r['policy']}: agrees with the others {-100 * r['apart']:.0f} points "
            f"less often than they do among themselves ({-100 * r['apart_high']:.0f} to "
            f"{-100 * r['apart_low']:.0f} points, {r['n_shared']:,} items)."
        )
    drifting = data.raters.filter((pl.col("drift_p") < SURE) & (pl.col("drift_high") < 0)).sort("drift_per_week")
    for r in drifting.head(3).to_dicts():
        todo.append(
            f"Look at rater {r['rater_id']} on {r['policy']}: accuracy falls by {-r['drift_per_week']:.1%} a week "
            f"({span(r['drift_low'], r['drift_high'], 3)}, {r['n_referred']:,} votes)."
        )
    return todo


def _surely_weak(raters: pl.DataFrame) -> pl.DataFrame:
    """Raters surely right on less than 70 %, by whichever reference rests on more of their votes (20 or more)."""
    by_others = pl.col("n_others") > pl.col("n_compared")
    pairs = {"p": ("others_accuracy", "accuracy"), "n": ("n_others", "n_compared")}
    pairs |= {"low": ("others_ci_low", "ci_low"), "high": ("others_ci_high", "ci_high")}
    chosen = {name: pl.when(by_others).then(a).otherwise(b) for name, (a, b) in pairs.items()}
    gold = pl.when(~by_others & (pl.col("accuracy_basis") == "gold")).then(pl.lit("gold"))
    return (
        raters.select("rater_id", "policy", **chosen, basis=gold.otherwise(pl.lit("the other raters")))
        .filter((pl.col("high") < 0.7) & (pl.col("n") >= 20))
        .sort("high", "rater_id", "policy")
    )


def _alpha(agreement: pl.DataFrame, policy: str) -> Row | None:
    rows = agreement.filter(
        (pl.col("policy") == policy) & (pl.col("slice") == "all") & (pl.col("coefficient") == "krippendorff_alpha")
    ).to_dicts()
    return rows[0] if rows else None


def agreement_rows(data: ReportData, policy: str) -> list[Row]:
    """One row per slice: percent agreement, alpha and AC1 side by side."""
    keys = ["slice", "slice_value"]
    mine = data.agreement.filter(pl.col("policy") == policy)
    out: dict[tuple[str, str | None], Row] = {}
    shown = ["percent_agreement", "krippendorff_alpha", "gwet_ac1"]
    for r in mine.filter(pl.col("coefficient").is_in(shown)).to_dicts():
        row = out.setdefault(
            (r["slice"], r["slice_value"]), {k: r[k] for k in (*keys, "n_items", "n_raters", "n_votes")}
        )
        row[r["coefficient"]] = r
    rows = list(out.values())
    lone = {s for s in ("locale", "pool", "guideline", "surface") if sum(r["slice"] == s for r in rows) == 1}
    # A slicing whose only value is "unknown" says nothing that "all" does not.
    return [
        r
        for r in rows
        if not (r["slice"] in lone and r["slice_value"] == "unknown") and (r["n_items"] or r["slice"] == "all")
    ]


def leading_rows(data: ReportData) -> list[Row]:
    """One row per eval set x judge, with a dict per shown metric: of a judge that learnt something the items unlike
    anything it learnt, of others all items."""
    return _by_judge(leading(data.metrics))


def rows_of_all_items(data: ReportData) -> list[Row]:
    """Rows like :func:`leading_rows` of judges that learnt something like some of the items, on all items."""
    keys = ["eval_set", "version", "judge_id", "metric"]
    mine = data.metrics.filter(pl.col("slice") == "all")
    fewer = (
        data.metrics.filter(pl.col("slice") == UNLIKE, pl.col("metric") == "prevalence")
        .join(mine.select(*keys, n_all="n"), on=keys)
        .filter(pl.col("n") < pl.col("n_all"))
    )
    return _by_judge(mine.join(fewer, on=keys[:3], how="semi", maintain_order="left"))


def slice_rows(data: ReportData, slicing: str) -> list[Row]:
    """One row per eval set x judge x value of a slicing, like :func:`leading_rows`."""
    learnt = data.metrics.filter(pl.col("slice") == unlike_name(slicing))
    others = data.metrics.filter(pl.col("slice") == slicing).join(
        learnt, on=["eval_set", "version", "judge_id"], how="anti", maintain_order="left"
    )
    return _by_judge(pl.concat([others, learnt]))


def _by_judge(metrics: pl.DataFrame) -> list[Row]:
    out: dict[tuple[str, str, str | None], Row] = {}
    for r in metrics.to_dicts():
        key = (r["eval_set"], r["judge_id"], r["slice_value"])
        row = out.setdefault(key, {k: r[k] for k in ("eval_set", "version", "judge_id", "slice_value", "policy")})
        row["is_unlike"] = r["slice"].startswith(UNLIKE)
        row["judge"] = f"{r['judge_id']} †" if row["is_unlike"] else r["judge_id"]
        row[r["metric"]] = r
    return list(out.values())
