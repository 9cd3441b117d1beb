"""The list of stages, in the order data flows."""

from __future__ import annotations

from moderation_pipelines.agreement.tables import AGREEMENT, DISAGREEMENTS, GUIDELINE_COMPARISONS, RATER_PAIRS
from moderation_pipelines.consensus.tables import CONSENSUS, CONSENSUS_METHODS
from moderation_pipelines.ingest.tables import CONTENT, DROPS, QUARANTINE, VOTES
from moderation_pipelines.judging.tables import BATCHES, JUDGE_RUNS, SCORES
from moderation_pipelines.metrics.tables import COMPARISONS, METRICS
from moderation_pipelines.policies.tables import POLICIES
from moderation_pipelines.probes.tables import CANARIES, INJECTIONS
from moderation_pipelines.prompting.tables import PROMPTS
from moderation_pipelines.raters.tables import RATERS
from moderation_pipelines.tables.table import Table
from moderation_pipelines.validations.tables import VALIDATIONS

TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        DROPS, QUARANTINE, CONTENT, VOTES, CONSENSUS_METHODS, CONSENSUS, AGREEMENT, DISAGREEMENTS, RATER_PAIRS,
        GUIDELINE_COMPARISONS, RATERS,
        SCORES, JUDGE_RUNS, BATCHES, CANARIES, INJECTIONS, METRICS, COMPARISONS, VALIDATIONS, POLICIES, PROMPTS,
    )
}  # fmt: skip
