"""What a run would ask and cost, before anything is sent."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.money import Usage, picodollars, usd
from moderation_pipelines.judging.tasks import ScoringTask

Count = Callable[[str], int]


@dataclass(frozen=True)
class PlannedRun:
    """One judge on one release. Tokens and dollars are of the requests still to be sent.

    ``input_tokens`` are counted or estimated (``basis`` says how); ``output_tokens`` is what the judge wrote on average
    so far, or its ``max_tokens``. ``cost_usd`` is with these; ``most_usd`` the most the requests can cost, one call
    each. Dollars are None when no price is known. ``left_usd`` is what the day's budget leaves, None without one.
    """

    judge_id: str
    eval_set: str
    version: str
    items: int
    answered: int
    failed_before: int
    in_batch: int
    input_tokens: int
    output_tokens: int
    basis: str
    cost_usd: float | None
    most_usd: float | None
    left_usd: float | None

    @property
    def to_ask(self) -> int:
        return self.items - self.answered - self.in_batch


class Seen:
    """Keys met before, eight bytes each. Two of a million fall together once in forty million plans."""

    def __init__(self) -> None:
        self._sorted = np.empty(0, dtype=np.uint64)

    def new(self, keys: Collection[bytes]) -> set[bytes]:
        """Those of the keys that were not met before; they are from now on."""
        short = {int.from_bytes(k[:8], "big"): k for k in keys}
        given = np.array(sorted(short), dtype=np.uint64)
        at = np.searchsorted(self._sorted, given)
        there = np.zeros(len(given), dtype=bool)
        inside = at < len(self._sorted)
        there[inside] = self._sorted[at[inside]] == given[inside]
        self._sorted = np.insert(self._sorted, at[~there], given[~there])
        return {short[int(k)] for k in given[~there]}


def plan_run(
    task: ScoringTask, ledger: Ledger, day: date, retry_errors: bool = False, seen: Seen | None = None
) -> PlannedRun:
    """What scoring a task would ask. Sends nothing: an endpoint never probed is taken as declared.

    ``seen`` holds what is asked for already (an item may be in several releases); it counts as answered.
    """
    task = task.kind.known(task, ledger)
    job = task.job(day)
    template, count, basis = job.template, *_counter()
    constant = count(template.body(b'""').decode())
    seen = Seen() if seen is None else seen
    items = answered = failed = in_batch = read = most = 0
    rates = job.rates
    for chunk in task.items():
        bodies = {template.key(i): i for i in (template.item(text, context) for _, text, context in chunk)}
        unseen = seen.new(bodies)
        new = {k: b for k, b in bodies.items() if k in unseen}
        items += len(chunk)
        answered += len(chunk) - len(new)
        keys = list(new)
        known, failures, claims = ledger.known_keys(keys), ledger.failures(keys), ledger.claimed(keys)
        batched = {k for k, owner in claims.items() if owner.startswith("batch:")}
        todo = [k for k in keys if k not in known and k not in batched]
        if retry_errors:
            again = [k for k, a in ledger.known(keys).items() if a.outcome in ("parse_error", "truncated")]
            todo = list(dict.fromkeys([k for k in keys if k in failures] + again))
        answered += len(new) - len(todo) - len(batched)
        in_batch += len(batched)
        failed += len(failures)
        for k in todo:
            read += constant + count(new[k].decode())
            if rates is not None:
                most += rates.most(
                    template.constant_bytes + len(new[k]) + 100, job.max_tokens, task.judge.via == "batch"
                )
    to_ask = items - answered - in_batch
    history = ledger.usage_per_request(task.judge_id)
    each = history[2] if history else job.max_tokens
    wrote = f"{history[0]:,} answers" if history else "max_tokens"
    spend = ledger.spend(day.isoformat(), task.judge_id)
    expected = None if rates is None else rates.cost(Usage(read, 0, 0, round(each * to_ask)), task.judge.via == "batch")
    budget = task.judge.budget_usd
    return PlannedRun(
        task.judge_id, task.release.name, task.release.version, items, answered, failed, in_batch, read,
        round(each * to_ask), f"read: {basis}; written: {wrote}", usd(expected), None if rates is None else usd(most),
        None if budget is None else usd(max(0, picodollars(budget) - spend.total)),
    )  # fmt: skip


def plan_day(tasks: Sequence[ScoringTask], ledger: Ledger, day: date, retry_errors: bool = False) -> list[PlannedRun]:
    """The plan of every task but the baseline's, which costs nothing and asks nobody."""
    seen: dict[str, Seen] = defaultdict(Seen)
    asked = [t for t in tasks if t.kind.is_paid]
    return [plan_run(t, ledger, day, retry_errors, seen[t.judge_id]) for t in asked]


def _counter() -> tuple[Count, str]:
    """(how to count tokens of a text, in words): OpenAI's tokenizer where it is installed, else a third of the bytes.

    For models of others OpenAI's tokenizer is an estimate too; the ledger's history corrects what was written.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import bpe_openai

            encoding = bpe_openai.get_encoding("o200k_base")
    except ImportError:
        return (lambda text: -(-len(text.encode()) // 3)), "a third of the bytes"
    return (lambda text: len(encoding.encode_ordinary(text))), "o200k_base tokens"
