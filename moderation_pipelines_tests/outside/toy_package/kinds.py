"""One thing of each kind, as another package brings it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import orjson

from moderation_pipelines.agreement.coefficient import Coefficient, Computed, Given
from moderation_pipelines.consensus.method import Aggregate, Method
from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.ingest.feed import Feed
from moderation_pipelines.ingest.fields import Field, identifier, number
from moderation_pipelines.ingest.reading import RawRow, Reader, Source, batched, lines_of
from moderation_pipelines.judging.calls.transport import Reply, Transport
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.judges_file import Endpoint, Judge
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.tasks import Asked, JudgeKind, ScoringTask
from moderation_pipelines.metrics.metric import Metric
from moderation_pipelines.policies.policy import Policy
from moderation_pipelines.prompting.prompts import Prompt
from moderation_pipelines.stats.arrays import IntArray
from moderation_pipelines.tables.column import count, day, integer, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import DROP_FILE, EXTRA
from moderation_pipelines.votes.matrix import VoteMatrix

METRIC = Metric("half", 500, of_sums=lambda sums: np.full(len(sums["tp"]), 0.5), is_rate=True)


def share_rows(given: Given) -> Iterator[Computed]:
    """A coefficient that is 1 whatever the votes."""
    yield Computed("toy_share", samples=lambda m: np.ones(len(m.multiplicity)), minimum=0.0)


COEFFICIENT = Coefficient("toy_share", 500, share_rows)


def first_label(votes: VoteMatrix, gold: IntArray | None, ordinal: bool, restarts: int) -> Aggregate:
    """Every item gets the first label of the policy."""
    posterior = np.tile(np.eye(votes.n_labels)[0], (votes.n_items, 1))
    return Aggregate(posterior, np.zeros(votes.n_items, dtype=np.int64))


METHOD = Method("first_label", 500, first_label, learns=False)


class CoinTransport:
    """Every item is fine, says the coin."""

    async def post(self, path: str, body: bytes) -> Reply:
        said = {"label": "fine", "p_violating": 0.25, "rationale": "coin"}
        message = {"role": "assistant", "content": orjson.dumps(said).decode()}
        return Reply(200, {}, orjson.dumps({"choices": [{"index": 0, "finish_reason": "stop", "message": message}]}))

    async def close(self) -> None:
        return None


class Coin(JudgeKind):
    """A judge in process."""

    name = "coin"
    order = 500
    is_paid = False

    def tasks(self, asked: Asked, release: Release, policy: Policy) -> tuple[list[ScoringTask], list[str]]:
        endpoint = Endpoint(base_url="http://127.0.0.1/v1")
        judge, prompt = Judge(endpoint="coin", model="coin"), Prompt(policy.id, "coin", "Toss.\n")
        return [ScoringTask("coin", judge, endpoint, release, policy, prompt, self, profile_of(endpoint))], []

    def able(self, task: ScoringTask, ledger: Ledger) -> ScoringTask:
        return task

    def transport(self, task: ScoringTask, key: str) -> Transport:
        return CoinTransport()


JUDGE = Coin()


def bar_rows(source: Source, required: Sequence[str], batch_rows: int) -> Iterator[list[RawRow]]:
    """item|policy|label|rater, a line each."""
    names = ("item_id", "policy", "label", "rater_id")
    with source.text() as stream:
        lines = ((n, line.decode().strip().split("|")) for n, line, _ in lines_of(stream))
        yield from batched((RawRow(n, dict(zip(names, cells, strict=True))) for n, cells in lines), batch_rows)


READER = Reader("bars", 500, (".bars",), bar_rows)


class Toys(Feed):
    """Rows of a table of its own."""

    name = "toys"
    order = 500
    table = Table(
        "toys",
        "one toy",
        ("toy_id", "drop_date"),
        {"toy_id": text("toy id"), "n": count("how many"), "extra": EXTRA, "drop_date": day("the day"), "drop_file": DROP_FILE,
         "drop_line": integer("line in the file")},
    )  # fmt: skip
    required = ("toy_id", "n")
    key = "toy_id"
    fields = {"toy_id": Field(identifier), "n": Field(number(0, 100, whole=True))}  # noqa: RUF012 - never changed


FEED = Toys()
