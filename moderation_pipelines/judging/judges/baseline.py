"""The baseline judge: character n-grams and logistic regression, trained on the development side, asked in process.

It is no language model and says so in its name. It is there so that numbers mean something before an endpoint is
configured, and so that every LLM has something to beat.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import orjson
import polars as pl

from moderation_pipelines.eval_sets.release import Release
from moderation_pipelines.eval_sets.selection import labelled_items
from moderation_pipelines.foundation.text import DEVELOPMENT, EVAL
from moderation_pipelines.judging.calls.transport import Reply, Transport
from moderation_pipelines.judging.capabilities import profile_of
from moderation_pipelines.judging.judges_file import BASELINE, Endpoint, Judge
from moderation_pipelines.judging.ledger.ledger import Ledger
from moderation_pipelines.judging.tasks import Asked, JudgeKind, Learnt, ScoringTask
from moderation_pipelines.policies.policy import Policy
from moderation_pipelines.prompting.prompts import Prompt

MAX_TRAINING_ITEMS = 20_000
MIN_PER_CLASS = 5
FOLDS = 3
RECIPE = "char_wb 2-4, tf-idf sublinear, logistic regression C=10, 1"


@dataclass(frozen=True)
class TrainingSet:
    """Development-side texts with their labels; ``item_ids``: of all items that have them. ``digest`` identifies it
    together with the recipe."""

    policy: Policy
    texts: tuple[str, ...]
    labels: tuple[str, ...]
    hashes: tuple[str, ...]
    item_ids: tuple[str, ...]
    digest: str

    @property
    def model(self) -> str:
        """The model's name: what it is, the policy, and the hash of what it was trained on."""
        return f"{BASELINE}:{self.policy.id}:{self.digest}"

    @property
    def why_not(self) -> str | None:
        """Why no judge can be trained, or None if one can."""
        violating = sum(label in self.policy.violating_labels for label in self.labels)
        others = len(self.labels) - violating
        if min(violating, others) < MIN_PER_CLASS:
            return (
                f"{BASELINE} cannot be trained for policy {self.policy.id}: development side has {violating} violating "
                f"and {others} other labelled items; {MIN_PER_CLASS} of each are needed"
            )
        return None


def training_set(items: pl.DataFrame, policy: Policy) -> TrainingSet:
    """From development-side labelled items (text, text_sha256, label): one row per text, at most 20,000 by hash."""
    rows = (
        items.select("text_sha256", "text", "label", "item_id")
        .sort("text_sha256", "item_id")
        .unique("text_sha256", keep="first", maintain_order=True)
        .head(MAX_TRAINING_ITEMS)
    )
    digest = hashlib.blake2b(digest_size=6)
    for part in (RECIPE, *policy.label_ids, "|", *policy.violating_labels):
        digest.update(part.encode() + b"\x00")
    for text_hash, label in rows.select("text_sha256", "label").iter_rows():
        digest.update(f"{text_hash}\x1f{label}\x1e".encode())
    ids = items.join(rows, on="text_sha256", how="semi")["item_id"].unique().sort()
    texts, labels, hashes = (tuple(rows[c]) for c in ("text", "label", "text_sha256"))
    return TrainingSet(policy, texts, labels, hashes, tuple(ids), digest.hexdigest())


class BaselineModel:
    """A trained baseline. ``threshold`` is the probability from which an item is called violating."""

    def __init__(self, training: TrainingSet) -> None:
        """Fit. Deterministic. Raises ValueError where ``why_not`` names a reason."""
        if training.why_not is not None:
            raise ValueError(training.why_not)
        from sklearn.feature_extraction.text import TfidfVectorizer

        policy = training.policy
        self.model = training.model
        self._vectorizer = TfidfVectorizer(
            analyzer="char_wb",
            ngram_range=(2, 4),
            min_df=2,
            sublinear_tf=True,
            max_features=100_000,
            dtype=np.float64,
        )
        features = self._vectorizer.fit_transform([t[:5000] for t in training.texts])
        flags = np.array([label in policy.violating_labels for label in training.labels])
        self._flagger = _fitted(features, flags)
        self.threshold = _best_threshold(features, flags)
        labels = np.array(training.labels)
        self._within: dict[bool, tuple[tuple[str, ...], Any]] = {}
        for side in (True, False):
            ids = tuple(label.id for label in policy.labels if label.violating == side)
            seen = [i for i in ids if (labels == i).any()]
            rows = np.flatnonzero(flags == side)
            chooser = _fitted(features[rows], labels[rows]) if len(seen) > 1 else None
            self._within[side] = (tuple(seen) or ids, chooser)

    def answer(self, text: str) -> tuple[str, float]:
        """(label, probability that the item violates)."""
        features = self._vectorizer.transform([text[:5000]])
        p = float(self._flagger.predict_proba(features)[0, 1])
        seen, chooser = self._within[p >= self.threshold]
        label = seen[0] if chooser is None else str(chooser.predict(features)[0])
        return label, p


def _fitted(features: Any, target: Any) -> Any:
    from sklearn.linear_model import LogisticRegression

    solver = "liblinear" if len(np.unique(target)) == 2 else "lbfgs"
    return LogisticRegression(C=10.0, solver=solver, max_iter=300, random_state=0).fit(features, target)


def _best_threshold(features: Any, flags: Any) -> float:
    """The threshold with the best F1 on held-out folds of the development side."""
    held_out = np.zeros(len(flags))
    order = np.argsort(flags, kind="stable")
    fold = np.empty(len(flags), dtype=int)
    fold[order] = np.arange(len(flags)) % FOLDS
    for k in range(FOLDS):
        inside = fold != k
        held_out[~inside] = _fitted(features[np.flatnonzero(inside)], flags[inside]).predict_proba(
            features[np.flatnonzero(~inside)]
        )[:, 1]
    ranked = np.argsort(-held_out, kind="stable")
    hits = np.cumsum(flags[ranked])
    f1 = 2 * hits / (np.arange(1, len(flags) + 1) + flags.sum())
    p = held_out[ranked]
    ends = np.append(p[1:] < p[:-1], True)
    best = int(np.flatnonzero(ends)[np.argmax(f1[ends])])
    below = p[best + 1] if best + 1 < len(p) else 0.0
    return float((p[best] + below) / 2)


_ITEM = re.compile(r"<item ([0-9a-f]+)>\n(.*)\n</item \1>", re.DOTALL)
_CONTEXT = re.compile(r"\A\[context\]\n.*?\n\[/context\]\n", re.DOTALL)


class BaselineTransport:
    """Chat completions answered in process by a model that is trained at the first request."""

    def __init__(self, training: TrainingSet) -> None:
        self._training = training

    @cached_property
    def _model(self) -> BaselineModel:
        return BaselineModel(self._training)

    async def post(self, path: str, body: bytes) -> Reply:
        """The answer to one chat completion. ValueError for a body without an item: a defect of the caller."""
        match = _ITEM.search(orjson.loads(body)["messages"][-1]["content"])
        if match is None:
            raise ValueError("the last message holds no item")
        label, p = self._model.answer(_CONTEXT.sub("", match.group(2)))
        said = {"label": label, "p_violating": round(p, 6), "rationale": "character n-grams"}
        message = {"role": "assistant", "content": json.dumps(said)}
        answer = {
            "object": "chat.completion",
            "model": self._model.model,
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
        }
        return Reply(200, {}, orjson.dumps(answer))

    async def close(self) -> None:
        return None


@dataclass(frozen=True)
class BaselineTask(ScoringTask):
    """A task of the baseline, with what it is trained on."""

    training: TrainingSet | None = None


class Baseline(JudgeKind):
    """The built-in baseline: free, in process, trained again when the development side changed."""

    name = "baseline"
    order = 0
    is_paid = False

    def tasks(self, asked: Asked, release: Release, policy: Policy) -> tuple[list[ScoringTask], list[str]]:
        if not asked.judges.baseline:
            return [], []
        training = asked.once(
            ("baseline", policy.id),
            lambda: training_set(development_items(asked, policy), policy),
        )
        if training.why_not is not None:
            return [], [training.why_not]
        judge = Judge(endpoint=BASELINE, model=training.model, prompt="compiled", max_tokens=64)
        endpoint = Endpoint(base_url="http://127.0.0.1/v1", concurrency=4, timeout_seconds=120, temperature=True)
        prompt = Prompt(policy.id, BASELINE, "Judge the item.\n")
        task = BaselineTask(BASELINE, judge, endpoint, release, policy, prompt, self, profile_of(endpoint), training)
        return [task], []

    def learnt(self, task: ScoringTask) -> list[Learnt]:
        assert isinstance(task, BaselineTask)
        assert task.training is not None
        return [Learnt("trained", task.training.texts, task.training.hashes, task.training.item_ids)]

    def asked(self, task: ScoringTask) -> str:
        return BASELINE

    def place(self, task: ScoringTask) -> str:
        return task.judge_id

    def provider(self, task: ScoringTask) -> str:
        return task.judge_id

    def able(self, task: ScoringTask, ledger: Ledger) -> ScoringTask:
        return task

    def known(self, task: ScoringTask, ledger: Ledger) -> ScoringTask:
        return task

    def transport(self, task: ScoringTask, key: str) -> Transport:
        assert isinstance(task, BaselineTask)
        assert task.training is not None
        return BaselineTransport(task.training)


def development_items(asked: Asked, policy: Policy) -> pl.DataFrame:
    """Labelled items of the development side, without texts that also stand on the eval side: by another key than the
    text copies may stand on both."""
    mine, measured = (labelled_items(asked.consensus, asked.content, policy, s).collect() for s in (DEVELOPMENT, EVAL))
    return mine.join(measured.select("text_sha256"), on="text_sha256", how="anti", maintain_order="left")


KIND = Baseline()
