"""Tables of judging: one row per decision, per run of a judge, per batch."""

from __future__ import annotations

from moderation_pipelines.judging.requests.outcomes import OUTCOMES
from moderation_pipelines.tables.column import count, flag, integer, moment, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    EVAL_SET,
    ITEM_ID,
    JUDGE_ID,
    NOTE,
    POLICY,
    SCORED_DAY,
    VERSION,
    high_share,
    low_share,
    milliseconds,
    tokens,
    usd,
)

# What names one judge on one release.
RUN_KEY = ("judge_id", "eval_set", "version")

_PARAMETERS = text("interface, parameters and capabilities in force, as JSON")
_MODEL = text("model asked for")

SCORES = Table(
    "scores",
    "one judge x item",
    ("decision_id",),
    {
        "decision_id": text("decision id: hash of judge, release, item and request", unique=True),
        "judge_id": JUDGE_ID,
        "policy": POLICY,
        "eval_set": EVAL_SET,
        "version": VERSION,
        "item_id": ITEM_ID,
        "outcome": text("what became of the request", one_of=OUTCOMES),
        "label": text("the judge's label; null unless the outcome is verdict", nullable=True),
        "violating": flag("whether that label violates; null unless verdict", nullable=True),
        "p_violating": share("the judge's probability that the item violates; null if it gave none"),
        "p_source": text(
            "source of that probability; null if it gave none",
            nullable=True,
            one_of=("logprobs", "stated", "decision"),
        ),
        "clause": text("clause id the judge rests on; null if it named none that exists", nullable=True),
        "evidence": text(
            "words of the item the judge rests on, as it quoted them; null if none", nullable=True, holds_text=True
        ),
        "evidence_start": count(
            "place in the text where the evidence begins; null if it is not in the text",
            nullable=True,
            unit="characters",
        ),
        "rationale": text("the judge's reason; null if it gave none", nullable=True, holds_text=True),
        "kind": text("reason why there is no verdict, as one word; null for a verdict", nullable=True),
        "error": text("what went wrong, without item text; null for a verdict", nullable=True),
        "signals": text(
            "severities a content filter gave, as JSON of category to severity; null if none", nullable=True
        ),
        "prompt_id": text("prompt version"),
        "prompt_sha256": text("SHA-256 of the prompt template"),
        "model": _MODEL,
        "model_returned": text("model the endpoint says answered; null without an answer", nullable=True),
        "fingerprint": text("system fingerprint the endpoint gave; null if none", nullable=True),
        "parameters": _PARAMETERS,
        "input_tokens": tokens("tokens read, as billed, over all attempts that were; null when not told"),
        "cached_tokens": tokens("input tokens from the provider's cache; null when not told"),
        "cache_write_tokens": tokens("input tokens written to the provider's cache; null when not told"),
        "output_tokens": tokens("tokens written; null when not told"),
        "reasoning_tokens": tokens("output tokens for reasoning; null when not told"),
        "tier": text("service tier the endpoint says it used; null when not told", nullable=True),
        "cost_usd": usd("cost of the answer, attempts included; null when no price or no usage is known"),
        "latency_ms": milliseconds("time to the answer; null by batch and without an answer"),
        "attempts": count("requests it took; refusals for asking too fast not counted", unit="requests"),
        "via": text("way the answer came; null without an answer", nullable=True, one_of=("live", "batch")),
        "is_cached": flag("the answer was paid for on an earlier day"),
        "request_key": text("hash of everything the model saw"),
        "created_at": moment("time the answer came; the start of the day for what was not asked"),
        "drop_date": SCORED_DAY,
    },
)

JUDGE_RUNS = Table(
    "judge_runs",
    "one judge on one release: what became of it, what it cost, whether its metrics count",
    ("judge_id", "eval_set", "version", "drop_date"),
    {
        "judge_id": JUDGE_ID,
        "policy": POLICY,
        "eval_set": EVAL_SET,
        "version": VERSION,
        "provider": text("name under which limits are shared: the variable of its key, else the host"),
        "endpoint": text("address asked"),
        "model": _MODEL,
        "parameters": _PARAMETERS,
        "n_items": count("items of the release", unit="items"),
        "n_verdict": count("items with a verdict", unit="items"),
        "n_refusal": count("items refused", unit="items"),
        "n_content_filter": count("items blocked by a content filter", unit="items"),
        "n_parse_error": count("items with an answer nobody can read", unit="items"),
        "n_truncated": count("items whose answer was cut off", unit="items"),
        "n_timeout": count("items without an answer in time", unit="items"),
        "n_api_error": count("items that failed otherwise", unit="items"),
        "n_over_budget": count("items not asked: the budget was used up", unit="items"),
        "n_pending": count("failed items that wait for a batch", unit="items"),
        "missing_share": share("share of items without a verdict; null without items"),
        "missing_low": low_share("95 % Wilson interval"),
        "missing_high": high_share("95 % Wilson interval"),
        "filter_share": share(
            "share of items a content filter blocked; the worst items are among them; null without items"
        ),
        "filter_low": low_share("95 % Wilson interval"),
        "filter_high": high_share("95 % Wilson interval"),
        "max_missing": share("share missing above which the metrics do not count", nullable=False),
        "is_valid": flag("whether the metrics count"),
        "note": NOTE.with_(meaning="reason why the metrics do not count; null if they do"),
        "attempts": count("requests it took", unit="requests"),
        "input_tokens": tokens("tokens read; null when not told"),
        "cached_tokens": tokens("input tokens from the provider's cache; null when not told"),
        "output_tokens": tokens("tokens written; null when not told"),
        "cost_usd": usd("cost of the answers; null when no price is known"),
        "day_spent_usd": usd("spent on this judge on this day, all releases; null when no price is known").with_(
            volatile=True
        ),
        "day_maybe_usd": usd(
            "possible further spend: calls that no answer came to, at the most they can cost; null without a price"
        ).with_(volatile=True),
        "latency_p50_ms": milliseconds("median latency; null without answers"),
        "latency_p95_ms": milliseconds("95th-percentile latency; null without answers"),
        "n_latency": count("answers behind the two latencies", unit="answers"),
        "drop_date": SCORED_DAY,
    },
)

BATCHES = Table(
    "batches",
    "one batch of requests sent through a Batch API on that day",
    ("batch",),
    {
        "batch": text("name of the batch, also its metadata at the provider", unique=True),
        "judge_id": JUDGE_ID,
        "endpoint": text("address asked"),
        "state": text("building, built, uploaded, submitted (out), collected or abandoned", volatile=True),
        "requests": count("requests in it", unit="requests"),
        "tokens": integer("tokens it reads, estimated from its bytes", minimum=0, unit="tokens"),
        "settled": count("requests it answered", unit="requests", volatile=True),
        "failed": count("requests it left without an answer", unit="requests", volatile=True),
        "note": NOTE.with_(meaning="anything out of the ordinary; null otherwise", volatile=True),
        "file_id": text("the provider's id of its file; null before the upload", nullable=True, volatile=True),
        "batch_id": text("the provider's id of the batch; null before submission", nullable=True, volatile=True),
        "created_at": moment("time it was begun"),
        "drop_date": SCORED_DAY.with_(meaning="day it was sent for"),
    },
)
