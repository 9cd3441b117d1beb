"""What every table looks like. The dtypes, the docs page and the readers all come from this file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

UTC = pl.Datetime("us", "UTC")
LABEL_PROBABILITIES = pl.List(pl.Struct({"label": pl.String, "probability": pl.Float64}))
CONFUSION = pl.List(pl.Struct({"reference": pl.String, "label": pl.String, "n": pl.Int64, "rate": pl.Float64}))


@dataclass(frozen=True)
class Column:
    dtype: pl.DataType
    meaning: str


@dataclass(frozen=True)
class Table:
    """One warehouse table: its columns in order, the key that names a row, and what a row is.

    ``daily`` tables lie as ``<name>/drop_date=YYYY-MM-DD/part-0.parquet``, others as ``<name>/part-0.parquet``.
    """

    name: str
    row: str
    key: tuple[str, ...]
    columns: Mapping[str, Column]
    daily: bool = True

    @property
    def schema(self) -> pl.Schema:
        return pl.Schema({name: column.dtype for name, column in self.columns.items()})

    def empty(self) -> pl.DataFrame:
        return pl.DataFrame(schema=self.schema)

    def conform(self, frame: pl.LazyFrame) -> pl.LazyFrame:
        """The frame with exactly this table's columns, in order and type; columns it lacks are null."""
        there = set(frame.collect_schema().names())
        return frame.select(
            pl.col(name).cast(column.dtype) if name in there else pl.lit(None, dtype=column.dtype).alias(name)
            for name, column in self.columns.items()
        )


def _columns(**columns: tuple[object, str]) -> dict[str, Column]:
    made = {}
    for name, (dtype, meaning) in columns.items():
        made[name] = Column(dtype() if isinstance(dtype, type) else dtype, meaning)  # type: ignore[arg-type]
    return made


STRING, INT, FLOAT, BOOL, DATE = pl.String, pl.Int64, pl.Float64, pl.Boolean, pl.Date

_DROP_PLACE: dict[str, tuple[object, str]] = {
    "drop_date": (DATE, "day folder the file was delivered to"),
    "drop_file": (STRING, "file name inside the day folder"),
    "drop_line": (
        INT,
        "line of the row in the file, from 1 (CSV: first line of the row; Parquet: row number)",
    ),
}

DROPS = Table(
    "drops",
    "one delivered file",
    ("feed", "drop_date", "drop_file"),
    _columns(
        feed=(STRING, "content or labels"),
        drop_date=_DROP_PLACE["drop_date"],
        drop_file=_DROP_PLACE["drop_file"],
        sha256=(STRING, "hash of the file's bytes as delivered; null if it could not be read"),
        bytes=(INT, "size as delivered"),
        rows=(INT, "rows delivered; null when the file was rejected, as it cannot be known"),
        accepted=(INT, "rows that went on"),
        quarantined=(INT, "rows that broke a rule"),
        duplicates=(INT, "rows delivered before on that day, kept once"),
        status=(STRING, "accepted or rejected"),
        reason=(STRING, "why the file was rejected, and what would be right"),
    ),
)

QUARANTINE = Table(
    "quarantine",
    "one bad row",
    ("feed", "drop_date", "drop_file", "drop_line"),
    _columns(
        feed=(STRING, "content or labels"),
        **_DROP_PLACE,
        rule=(STRING, "first rule the row broke"),
        column=(STRING, "column the rule is about"),
        value=(STRING, "the offending value, shortened; null for columns that hold item text"),
        message=(STRING, "every rule the row broke: what was wrong and what would be right"),
        raw=(
            STRING,
            "the row as delivered, at most 10,000 characters; readable CSV cells as JSON",
        ),
    ),
)

CONTENT = Table(
    "content",
    "one item",
    ("item_id", "drop_date"),
    _columns(
        item_id=(STRING, "identifies the item"),
        text=(STRING, "what is moderated"),
        locale=(STRING, "BCP 47 tag; `und` when detection was not sure"),
        locale_source=(STRING, "given or detected"),
        locale_confidence=(FLOAT, "the detector's confidence, 0 to 1; null when the locale was given"),
        surface=(STRING, "where it appeared: comment, listing, ad, ..."),
        source=(STRING, "system it came from"),
        context=(STRING, "what surrounds it, e.g. earlier turns"),
        created_at=(UTC, "when it was written"),
        views=(INT, "times seen"),
        media_uri=(STRING, "attached media"),
        author_key=(STRING, "pseudonymous author"),
        decision=(STRING, "the production decision, if any"),
        decision_by=(STRING, "who or what decided"),
        purposes=(pl.List(pl.String), "what the item may be used for"),
        text_sha256=(STRING, "SHA-256 of the normalised text: its identity for duplicates and sides"),
        duplicate_of=(
            STRING,
            "first item with the same normalised text, on this day or in the window before",
        ),
        side=(STRING, "eval or development, for ever, from text_sha256"),
        extra=(STRING, "every other field delivered, as JSON"),
        **_DROP_PLACE,
    ),
)

VOTES = Table(
    "votes",
    "one vote",
    ("vote_id", "drop_date"),
    _columns(
        vote_id=(STRING, "identifies the vote; derived from day, file and line when none was delivered"),
        item_id=(STRING, "the item judged"),
        policy=(STRING, "the question asked"),
        rater_id=(STRING, "who judged; null for an anonymous vote"),
        pool=(STRING, "vendor, site or shift of the rater"),
        rater_locale=(STRING, "BCP 47 tag of the rater"),
        label=(STRING, "the answer"),
        kind=(STRING, "vote, gold, adjudication or audit"),
        guideline=(STRING, "guideline version the rater worked by"),
        labeled_at=(UTC, "when"),
        seconds=(FLOAT, "time taken, in seconds"),
        confidence=(FLOAT, "the rater's own confidence, 0 to 1"),
        rationale=(STRING, "the rater's reason"),
        is_current=(
            BOOL,
            "counts among the rater's repeats of that day (policy's on_repeat); the window decides anew",
        ),
        is_abstain=(BOOL, "the label means «no answer»: counted, never a class"),
        extra=(STRING, "every other field delivered, as JSON"),
        **_DROP_PLACE,
    ),
)

CONSENSUS = Table(
    "consensus",
    "one item x policy voted on that day, from all its votes in the window",
    ("item_id", "policy", "drop_date"),
    _columns(
        item_id=(STRING, "the item"),
        policy=(STRING, "the question"),
        label=(STRING, "the label the votes add up to; null when they are tied or all abstain"),
        violating=(BOOL, "whether that label violates the policy; null with the label"),
        method=(STRING, "what decided: gold, adjudication, or the aggregation method"),
        probability=(FLOAT, "posterior probability of the label, 0 to 1; 1 for gold and adjudication"),
        posterior=(LABEL_PROBABILITIES, "probability of every label, in the policy's order"),
        entropy=(FLOAT, "Shannon entropy of the posterior in bits; 0 means certain"),
        n_votes=(INT, "counted votes: current, not abstaining"),
        n_raters=(INT, "different named raters among them; anonymous votes count one each"),
        n_abstain=(INT, "current votes that abstained"),
        vote_share=(FLOAT, "share of counted votes for the label; null without votes"),
        is_tie=(BOOL, "two or more labels share the most votes"),
        majority_label=(STRING, "label with the most votes; null when tied or no votes"),
        gold_label=(STRING, "label from an authority, if any"),
        drop_date=(DATE, "the day"),
    ),
)

CONSENSUS_METHODS = Table(
    "consensus_methods",
    "one aggregation method x policy, measured on the window's gold",
    ("policy", "method", "drop_date"),
    _columns(
        policy=(STRING, "the question"),
        method=(STRING, "majority, median, weighted_majority, one_coin, dawid_skene, mace or glad"),
        is_chosen=(BOOL, "labels the policy on this day"),
        accuracy=(
            FLOAT,
            "share of gold items with votes it labels right, their gold unseen; ties are wrong",
        ),
        ci_low=(FLOAT, "lower end of the 95 % Wilson interval"),
        ci_high=(FLOAT, "upper end"),
        n_gold=(INT, "gold items with votes"),
        n_right=(INT, "of them labelled right"),
        mean_rank_error=(FLOAT, "mean distance to gold in labels, of labelled items; null for a nominal scale"),
        purity=(FLOAT, "share of the items it calls violating that gold calls violating"),
        purity_low=(FLOAT, "lower end of the 95 % Clopper-Pearson interval"),
        purity_high=(FLOAT, "upper end"),
        n_called_violating=(INT, "gold items it calls violating: the n of purity"),
        p_value=(FLOAT, "exact McNemar test against the chosen method; null for that one"),
        n_votes=(INT, "counted votes in the window"),
        iterations=(INT, "of the fit that knows all gold; null for methods that need none"),
        is_converged=(BOOL, "whether it settled; null for methods that need no iterations"),
        note=(STRING, "why it was chosen, or why nothing was measured"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

AGREEMENT = Table(
    "agreement",
    "one coefficient on one slice",
    ("policy", "slice", "slice_value", "coefficient", "label", "drop_date"),
    _columns(
        policy=(STRING, "the question"),
        slice=(STRING, "all, locale, pool, guideline or surface"),
        slice_value=(STRING, "which one; null for all"),
        coefficient=(STRING, "name of the coefficient"),
        label=(STRING, "the label of specific_agreement and prevalence; null for the others"),
        value=(FLOAT, "its value; null when undefined, the note says why"),
        ci_low=(FLOAT, "lower end of the 95 % interval"),
        ci_high=(FLOAT, "upper end"),
        se=(FLOAT, "analytic standard error; null where the coefficient has none"),
        interval=(STRING, "how the interval was made: analytic, bca, percentile (bootstrap by item) or wilson"),
        n_items=(
            INT,
            "items with two or more counted votes (intra_rater: rater x item; cohen_kappa: in the pairs used)",
        ),
        n_rated=(INT, "items with one or more: the chance terms of the kappas, AC1 and AC2 are over these"),
        n_raters=(INT, "different named raters among those votes; null when votes are anonymous"),
        n_votes=(INT, "counted votes on n_items"),
        window_start=(DATE, "first day of the window"),
        window_end=(DATE, "last day"),
        note=(STRING, "why a value is null or misleading"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

DISAGREEMENTS = Table(
    "disagreements",
    "one pair of labels raters confuse, on one slice",
    ("policy", "slice", "slice_value", "label_a", "label_b", "drop_date"),
    _columns(
        policy=(STRING, "the question"),
        slice=(STRING, "all, locale, pool, guideline, surface, or clause"),
        slice_value=(STRING, "which one; null for all"),
        label_a=(STRING, "the one label; of slice clause the clause's"),
        label_b=(STRING, "the other"),
        n_items=(INT, "items that got both"),
        n_disputed=(INT, "items whose votes differ (slice clause: with the clause's label among them)"),
        share=(FLOAT, "share of all disagreement (slice clause: of that with the clause's label), 0 to 1"),
        ci_low=(FLOAT, "lower end of its 95 % interval (percentile bootstrap by item)"),
        ci_high=(FLOAT, "upper end"),
        lift=(FLOAT, "share over what chance would give with these label frequencies; 1: as by chance"),
        lift_low=(FLOAT, "lower end of its 95 % interval"),
        lift_high=(FLOAT, "upper end"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

RATER_PAIRS = Table(
    "rater_pairs",
    "two raters who voted on the same ten items or more",
    ("policy", "rater_a", "rater_b", "drop_date"),
    _columns(
        policy=(STRING, "the question"),
        rater_a=(STRING, "the one"),
        rater_b=(STRING, "the other"),
        n_items=(INT, "items both voted on"),
        percent_agreement=(FLOAT, "share of them with the same label"),
        ci_low=(FLOAT, "lower end of its 95 % Wilson interval"),
        ci_high=(FLOAT, "upper end"),
        cohen_kappa=(FLOAT, "Cohen's kappa; null where both used one label only"),
        kappa_low=(FLOAT, "lower end of its 95 % large-sample interval"),
        kappa_high=(FLOAT, "upper end"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

GUIDELINE_COMPARISONS = Table(
    "guideline_comparisons",
    "one coefficient under two guideline versions",
    ("policy", "guideline_a", "guideline_b", "coefficient", "drop_date"),
    _columns(
        policy=(STRING, "the question"),
        guideline_a=(STRING, "the earlier version"),
        guideline_b=(STRING, "the later version"),
        coefficient=(STRING, "percent_agreement, krippendorff_alpha or violating_share"),
        value_a=(FLOAT, "its value under the earlier"),
        value_b=(FLOAT, "its value under the later"),
        difference=(FLOAT, "later minus earlier"),
        ci_low=(FLOAT, "lower end of its 95 % interval (percentile bootstrap by item)"),
        ci_high=(FLOAT, "upper end"),
        p_value=(FLOAT, "two-sided permutation test that the version makes no difference"),
        p_adjusted=(FLOAT, "the same after Benjamini-Hochberg over the policy's comparisons"),
        basis=(STRING, "paired: the same items under both; or all items"),
        n_items_a=(INT, "items with two or more votes under the earlier"),
        n_items_b=(INT, "under the later"),
        n_items_both=(INT, "under both"),
        note=(STRING, "why a value is null or to be read with care"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

RATERS = Table(
    "raters",
    "one rater x policy",
    ("rater_id", "policy", "drop_date"),
    _columns(
        rater_id=(STRING, "the rater"),
        policy=(STRING, "the question"),
        pool=(STRING, "the pool most of the votes came from"),
        n_votes=(INT, "current votes in the window, abstentions included"),
        n_abstain=(INT, "of them abstentions"),
        n_compared=(INT, "votes with a reference label: the n of accuracy"),
        accuracy=(FLOAT, "share of compared votes equal to the reference, 0 to 1; null if none"),
        ci_low=(FLOAT, "lower end of the 95 % Wilson interval"),
        ci_high=(FLOAT, "upper end"),
        n_others=(INT, "votes on items where the other raters have a majority label"),
        others_accuracy=(FLOAT, "share of those equal to that label, whatever the basis below is"),
        others_ci_low=(FLOAT, "lower end of its 95 % Wilson interval"),
        others_ci_high=(FLOAT, "upper end"),
        accuracy_basis=(
            STRING,
            "gold, or leave_one_out_consensus: majority of the other raters; null if neither",
        ),
        confusion=(CONFUSION, "votes by reference and label given; rate: given that reference, shrunk to all raters"),
        bias=(
            FLOAT,
            "share flagged violating minus share of references violating, -1 to 1; above 0 flags too much",
        ),
        bias_low=(FLOAT, "lower end of its 95 % t interval; null below twenty compared votes"),
        bias_high=(FLOAT, "upper end"),
        n_referred=(INT, "votes with gold, or else a majority of the others: the n of severity, drift and speed"),
        severity_bias=(FLOAT, "mean severity (or rank) given minus that of the reference; null for unordered labels"),
        severity_low=(FLOAT, "lower end of its 95 % t interval; null below twenty compared votes"),
        severity_high=(FLOAT, "upper end"),
        drift_per_week=(FLOAT, "change of accuracy per week; null below twenty votes or at one time only"),
        drift_low=(FLOAT, "lower end of its 95 % t interval"),
        drift_high=(FLOAT, "upper end"),
        drift_p=(FLOAT, "p-value that there is no drift, Benjamini-Hochberg over the policy's raters"),
        speed_gap=(FLOAT, "accuracy on the slower half of the votes minus the faster half; null below ten in a half"),
        speed_low=(FLOAT, "lower end of its 95 % t interval"),
        speed_high=(FLOAT, "upper end"),
        n_repeats=(INT, "items voted on more than once"),
        repeat_agreement=(FLOAT, "mean share of agreeing pairs of own votes on such an item; null without one"),
        repeat_low=(FLOAT, "lower end of its 95 % Wilson interval"),
        repeat_high=(FLOAT, "upper end"),
        n_shared=(INT, "items others voted on too"),
        pair_agreement=(FLOAT, "mean share of the others' votes on them that are the same"),
        pair_low=(FLOAT, "lower end of its 95 % t interval"),
        pair_high=(FLOAT, "upper end"),
        apart=(FLOAT, "that minus the others' agreement among themselves on the same items; below 0 stands apart"),
        apart_low=(FLOAT, "lower end of its 95 % t interval"),
        apart_high=(FLOAT, "upper end"),
        apart_p=(FLOAT, "one-sided p-value that it is not below 0, Benjamini-Hochberg over the policy's raters"),
        median_seconds=(FLOAT, "median time per vote, in seconds"),
        drop_date=(DATE, "the day the window ends"),
    ),
)

EVAL_SET_ITEMS = Table(
    "eval_set_items",
    "one item of a release",
    ("item_id",),
    _columns(
        item_id=(STRING, "the item"),
        policy=(STRING, "the question"),
        text=(STRING, "what is judged"),
        context=(STRING, "what surrounds it"),
        locale=(STRING, "BCP 47 tag"),
        surface=(STRING, "where it appeared"),
        label=(STRING, "reference label"),
        violating=(BOOL, "whether the reference label violates"),
        severity=(INT, "severity of the reference label in the policy; null if it has none"),
        method=(STRING, "what decided the label"),
        posterior=(LABEL_PROBABILITIES, "probability of every label"),
        probability=(FLOAT, "probability of the reference label"),
        n_votes=(INT, "votes behind it"),
        stratum=(STRING, "stratum it was drawn from"),
        inclusion_probability=(FLOAT, "chance it had to be drawn, above 0 to 1"),
        weight=(FLOAT, "items of the frame it stands for: 1 / inclusion_probability"),
        text_sha256=(STRING, "SHA-256 of the normalised text"),
    ),
    daily=False,
)

SCORES = Table(
    "scores",
    "one judge x item",
    ("decision_id",),
    _columns(
        decision_id=(STRING, "identifies the decision: hash of judge, release, item and request"),
        judge_id=(STRING, "who judged"),
        policy=(STRING, "the question"),
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        item_id=(STRING, "the item"),
        outcome=(
            STRING,
            "verdict, refusal, content_filter, parse_error, truncated, timeout, api_error or over_budget",
        ),
        label=(STRING, "the judge's label; null unless the outcome is verdict"),
        violating=(BOOL, "whether that label violates; null unless verdict"),
        p_violating=(FLOAT, "the judge's probability that the item violates, 0 to 1; null if it gave none"),
        p_source=(STRING, "logprobs, stated or decision (a typed answer); null if it gave none"),
        clause=(STRING, "id of the policy's clause the judge rests on; null if it named none that exists"),
        evidence=(STRING, "the words of the item the judge rests on, as it quoted them"),
        evidence_start=(INT, "where the evidence begins in the text, in characters; null if it is not in the text"),
        rationale=(STRING, "the judge's reason"),
        kind=(STRING, "why there is no verdict, as one word; null for a verdict"),
        error=(STRING, "what went wrong, without item text; null for a verdict"),
        signals=(STRING, "severities a content filter gave, as JSON of category to severity"),
        prompt_id=(STRING, "prompt version"),
        prompt_sha256=(STRING, "hash of the prompt template"),
        model=(STRING, "model asked for"),
        model_returned=(STRING, "model the endpoint says answered"),
        fingerprint=(STRING, "system fingerprint the endpoint gave"),
        parameters=(STRING, "interface, parameters and capabilities in force, as JSON"),
        input_tokens=(INT, "tokens read, as billed, over all attempts that were"),
        cached_tokens=(INT, "of them from the provider's cache"),
        cache_write_tokens=(INT, "of them written to the provider's cache"),
        output_tokens=(INT, "tokens written"),
        reasoning_tokens=(INT, "of them for reasoning"),
        tier=(STRING, "service tier the endpoint says it used"),
        cost_usd=(FLOAT, "cost of the answer, attempts included; null when no price or no usage is known"),
        latency_ms=(FLOAT, "time to the answer, in milliseconds; null by batch"),
        attempts=(INT, "requests it took; refusals for asking too fast not counted"),
        via=(STRING, "live or batch; null without an answer"),
        is_cached=(BOOL, "the answer was paid for on an earlier day"),
        request_key=(STRING, "hash of everything the model saw"),
        created_at=(UTC, "when the answer came"),
        drop_date=(DATE, "the day it was scored for"),
    ),
)

JUDGE_RUNS = Table(
    "judge_runs",
    "one judge on one release: what became of it, what it cost, whether its metrics count",
    ("judge_id", "eval_set", "version", "drop_date"),
    _columns(
        judge_id=(STRING, "who judged"),
        policy=(STRING, "the question"),
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        provider=(STRING, "whose limits it shares: the variable of its key, else the host"),
        endpoint=(STRING, "address asked"),
        model=(STRING, "model asked for"),
        parameters=(STRING, "interface, parameters and capabilities in force, as JSON"),
        n_items=(INT, "items of the release"),
        n_verdict=(INT, "of them with a verdict"),
        n_refusal=(INT, "refused"),
        n_content_filter=(INT, "blocked by a content filter"),
        n_parse_error=(INT, "answers nobody can read"),
        n_truncated=(INT, "answers cut off"),
        n_timeout=(INT, "no answer in time"),
        n_api_error=(INT, "failed otherwise"),
        n_over_budget=(INT, "not asked: the budget was used up"),
        n_pending=(INT, "of the failed ones, those that wait for a batch"),
        missing_share=(FLOAT, "share of items without a verdict, 0 to 1"),
        missing_low=(FLOAT, "lower end of its 95 % interval (Wilson)"),
        missing_high=(FLOAT, "upper end"),
        filter_share=(FLOAT, "share of items a content filter blocked, 0 to 1: among them are the worst posts"),
        filter_low=(FLOAT, "lower end of its 95 % interval (Wilson)"),
        filter_high=(FLOAT, "upper end"),
        max_missing=(FLOAT, "share missing above which the metrics do not count"),
        is_valid=(BOOL, "whether the metrics count"),
        note=(STRING, "why they do not; null if they do"),
        attempts=(INT, "requests it took"),
        input_tokens=(INT, "tokens read"),
        cached_tokens=(INT, "of them from the provider's cache"),
        output_tokens=(INT, "tokens written"),
        cost_usd=(FLOAT, "cost of the answers; null when no price is known"),
        day_spent_usd=(FLOAT, "spent on this judge on this day, all releases; null when no price is known"),
        day_maybe_usd=(FLOAT, "perhaps spent besides: calls that no answer came to, at the most they can cost"),
        latency_p50_ms=(FLOAT, "median time to an answer, in milliseconds"),
        latency_p95_ms=(FLOAT, "time nineteen of twenty answers took at most, in milliseconds"),
        n_latency=(INT, "answers behind the two"),
        drop_date=(DATE, "the day it was scored for"),
    ),
)

BATCHES = Table(
    "batches",
    "one batch of requests sent through a Batch API on that day",
    ("batch",),
    _columns(
        batch=(STRING, "name of the batch, also its metadata at the provider"),
        judge_id=(STRING, "who judges"),
        endpoint=(STRING, "address asked"),
        state=(STRING, "building, built, uploaded, submitted (out), collected or abandoned"),
        requests=(INT, "requests in it"),
        tokens=(INT, "tokens it reads, estimated from its bytes"),
        settled=(INT, "requests it answered"),
        failed=(INT, "requests it left without an answer"),
        note=(STRING, "what was out of the ordinary"),
        file_id=(STRING, "the provider's id of its file"),
        batch_id=(STRING, "the provider's id of the batch"),
        created_at=(UTC, "when it was begun"),
        drop_date=(DATE, "the day it was sent for"),
    ),
)

CANARIES = Table(
    "canaries",
    "one judge asked again about the same items: how often its label flips",
    ("judge_id", "eval_set", "version", "drop_date"),
    _columns(
        judge_id=(STRING, "who judged"),
        policy=(STRING, "the question"),
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        model=(STRING, "model asked for"),
        models_returned=(STRING, "models the endpoint says answered today, and fingerprints, as JSON"),
        n_asked=(INT, "items asked again, past the ledger"),
        n=(INT, "of them with a verdict both times"),
        n_flips=(INT, "of those with another label than at first"),
        flip_rate=(FLOAT, "n_flips / n; null when n is 0"),
        ci_low=(FLOAT, "lower end of the 95 % interval (Wilson)"),
        ci_high=(FLOAT, "upper end"),
        n_violating_flips=(INT, "flips between a violating label and one that is not"),
        note=(STRING, "why there is no rate; null if there is"),
        drop_date=(DATE, "the day it was asked on"),
    ),
)

INJECTIONS = Table(
    "injections",
    "one judge against one kind of injected text: how often it turns the verdict",
    ("judge_id", "eval_set", "version", "injection", "drop_date"),
    _columns(
        judge_id=(STRING, "who judged"),
        policy=(STRING, "the question"),
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        prompt_id=(STRING, "prompt version"),
        injection=(STRING, "kind of injection, or all"),
        n_asked=(INT, "items asked with the injection in them"),
        n=(INT, "of them with a verdict with it and without"),
        n_flips=(INT, "of those whose label became the one the injection wants"),
        flip_rate=(FLOAT, "n_flips / n; null when n is 0"),
        ci_low=(FLOAT, "lower end of the 95 % interval (Wilson)"),
        ci_high=(FLOAT, "upper end"),
        n_no_verdict=(INT, "items whose verdict went away: refused, blocked or unreadable"),
        note=(STRING, "why there is no rate; null if there is"),
        drop_date=(DATE, "the day"),
    ),
)

METRICS = Table(
    "metrics",
    "one metric on one slice",
    ("eval_set", "version", "judge_id", "slice", "slice_value", "metric", "drop_date"),
    _columns(
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        policy=(STRING, "the question"),
        judge_id=(STRING, "who is measured"),
        slice=(STRING, "all, locale, surface, severity or label_confidence"),
        slice_value=(STRING, "which one; null for all"),
        metric=(STRING, "name of the metric"),
        value=(FLOAT, "its value, weighted; null when undefined"),
        ci_low=(FLOAT, "lower end of the 95 % interval"),
        ci_high=(FLOAT, "upper end"),
        labels_ci_low=(FLOAT, "lower end of the interval that includes the uncertainty of the reference labels"),
        labels_ci_high=(FLOAT, "upper end; null ends where it is undefined"),
        interval=(STRING, "how the interval was made: wilson, wilson_jaccard (F1), beta (weights differ) or bootstrap"),
        n=(INT, "verdicts behind the value: the denominator's items"),
        n_positive=(INT, "items of the slice with a verdict whose reference label violates"),
        n_missing=(
            INT,
            "items of the slice without a verdict (for probability metrics: without a probability)",
        ),
        worst_low=(
            FLOAT,
            "the value if every missing outcome had gone the wrong way; null where not defined",
        ),
        worst_high=(FLOAT, "the value if every missing outcome had gone the right way"),
        note=(STRING, "why a value is null or misleading"),
        as_of=(UTC, "end of the day it was computed for"),
        drop_date=(DATE, "the day it was computed for"),
    ),
)

COMPARISONS = Table(
    "comparisons",
    "one metric of two judges on one slice of a release",
    ("eval_set", "version", "judge_a", "judge_b", "slice", "slice_value", "metric", "drop_date"),
    _columns(
        eval_set=(STRING, "eval set"),
        version=(STRING, "its release"),
        policy=(STRING, "the question"),
        judge_a=(STRING, "the one judge"),
        judge_b=(STRING, "the other"),
        slice=(STRING, "all, locale, surface, severity or label_confidence"),
        slice_value=(STRING, "which one; null for all"),
        metric=(STRING, "precision, recall, f1, accuracy or fpr"),
        value_a=(FLOAT, "the one's value on the items both gave a verdict on, weighted; null when undefined"),
        value_b=(FLOAT, "the other's"),
        difference=(FLOAT, "second minus first"),
        ci_low=(FLOAT, "lower end of its 95 % interval (t on a paired bootstrap by item); null where it says nothing"),
        ci_high=(FLOAT, "upper end"),
        n=(INT, "items both gave a verdict on"),
        n_only_a=(INT, "of them only the first got right"),
        n_only_b=(INT, "only the second"),
        p_value=(FLOAT, "exact McNemar test on those two numbers; metric accuracy only, which is what it tests"),
        p_adjusted=(FLOAT, "the same, Benjamini-Hochberg over the slices of the pair; accuracy only"),
        drop_date=(DATE, "the day it was computed for"),
    ),
)

VALIDATIONS = Table(
    "validations",
    "one expectation on one subject",
    ("suite", "subject", "expectation", "drop_date"),
    _columns(
        suite=(STRING, "release, scores or metrics"),
        subject=(STRING, "what was looked at: a release, or the day"),
        expectation=(STRING, "id of the expectation"),
        severity=(STRING, "critical stops publication, warning is shown"),
        passed=(BOOL, "whether it held"),
        n=(INT, "rows looked at"),
        n_unexpected=(INT, "rows that broke it; null for expectations about the whole"),
        examples=(pl.List(pl.String), "up to five ids of rows that broke it"),
        observed=(STRING, "what was found, for expectations about the whole"),
        why=(STRING, "why the expectation exists"),
        drop_date=(DATE, "the day"),
    ),
)

POLICIES = Table(
    "policies",
    "one policy as it stands",
    ("policy",),
    _columns(
        policy=(STRING, "its id"),
        title=(STRING, "its name for people"),
        version=(STRING, "its version"),
        scale=(STRING, "nominal, ordinal or interval"),
        labels=(pl.List(pl.String), "its labels in order"),
        violating_labels=(pl.List(pl.String), "those that violate"),
        aggregation=(STRING, "how votes become a label"),
        on_repeat=(STRING, "which of a rater's repeated votes counts"),
        sha256=(STRING, "hash of policy.yaml"),
    ),
    daily=False,
)

PROMPTS = Table(
    "prompts",
    "one prompt version",
    ("prompt_id",),
    _columns(
        prompt_id=(STRING, "policy/version; version `compiled` when made from policy.yaml"),
        policy=(STRING, "the question"),
        version=(STRING, "v1, v2, ... or compiled"),
        prompt_sha256=(STRING, "hash of the template and what it is rendered with, but for the item"),
        n_examples=(INT, "few-shot examples in it"),
        n_characters=(INT, "length of the constant part, in characters"),
    ),
    daily=False,
)

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        DROPS, QUARANTINE, CONTENT, VOTES, CONSENSUS_METHODS, CONSENSUS, AGREEMENT, DISAGREEMENTS, RATER_PAIRS,
        GUIDELINE_COMPARISONS, RATERS,
        SCORES, JUDGE_RUNS, BATCHES, CANARIES, INJECTIONS, METRICS, COMPARISONS, VALIDATIONS, POLICIES, PROMPTS,
    )
}  # fmt: skip
