"""A policy: one question asked of an item, with its label set. Loaded from ``prompts/<policy>/policy.yaml``."""

from __future__ import annotations

import hashlib
import math
import re
from functools import cached_property, lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import Located, model_problems, parse_yaml, read_text
from moderation_pipelines.foundation.registry import Named, Registry
from moderation_pipelines.tables import store

IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


MEASURED = "measured"
# Looked up by name when a policy names one: the methods stand on a floor above this one.
AGGREGATION_METHODS: Registry[Named] = Registry(
    "consensus_method", "moderation_pipelines.consensus.methods", "METHOD", object, "order"
)


class Strict(BaseModel):
    """Base of everything read from a home's YAML: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Label(Strict):
    id: str = Field(min_length=1, max_length=256)
    title: str | None = None
    violating: bool
    severity: int | None = None
    definition: str | None = None
    renamed_from: tuple[str, ...] = Field(default=(), strict=False)


class Clause(Strict):
    id: str = Field(min_length=1)
    text: str
    label: str | None = None


class Costs(Strict):
    """What errors cost, in one unit of the organisation's own: ``fn`` a violating item that passes, ``fp`` a fine one
    that is flagged, ``review`` an item that a person has to look at because the judge gave no verdict."""

    fn: float = Field(ge=0, strict=False)
    fp: float = Field(ge=0, strict=False)
    review: float | None = Field(default=None, ge=0, strict=False)


class Kpis(Strict):
    """Targets of a policy: votes an item should have, and alpha (-1 to 1) raters should reach. None: no target.
    ``costs``: of errors."""

    min_votes: int | None = Field(default=None, ge=0)
    min_alpha: float | None = Field(default=None, ge=-1, le=1, strict=False)
    costs: Costs | None = None


class Policy(Strict):
    """One policy. ``labels`` are in order; for other scales than nominal the order is the scale."""

    id: str
    title: str
    version: str
    scale: Literal["nominal", "ordinal", "interval", "ratio"] = "nominal"
    labels: tuple[Label, ...] = Field(strict=False, min_length=2)
    abstain: tuple[str, ...] = Field(default=(), strict=False)
    on_repeat: Literal["last", "first"] = "last"
    definition: str
    clauses: tuple[Clause, ...] = Field(default=(), strict=False)
    aggregation: str = MEASURED
    kpis: Kpis = Field(default_factory=Kpis)
    sha256: str = Field(default="", exclude=True)
    source: str = Field(default="", exclude=True, repr=False)

    @cached_property
    def label_ids(self) -> tuple[str, ...]:
        return tuple(label.id for label in self.labels)

    @cached_property
    def violating_labels(self) -> tuple[str, ...]:
        return tuple(label.id for label in self.labels if label.violating)

    @cached_property
    def severity(self) -> dict[str, int | None]:
        return {label.id: label.severity for label in self.labels}


class Policies:
    """All policies of a home, by id, in order of id."""

    def __init__(self, policies: list[Policy]) -> None:
        self._by_id = {p.id: p for p in sorted(policies, key=lambda p: p.id)}

    def __iter__(self) -> Any:
        return iter(self._by_id.values())

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, policy_id: object) -> bool:
        return policy_id in self._by_id

    def __getitem__(self, policy_id: str) -> Policy:
        return self._by_id[policy_id]

    @property
    def ids(self) -> list[str]:
        return list(self._by_id)


_LISTS = ("labels", "abstain", "clauses")


def inconsistencies(located: Located) -> list[Problem]:
    """What does not fit together in a policy.yaml, as far as its parts can be read: told beside any other mistake."""
    found: list[Problem] = []
    value = located.value
    labels, abstain, clauses = (v if isinstance(v := value.get(k), list) else [] for k in _LISTS)
    labels = [x for x in labels if isinstance(x, dict)]
    ids = [x.get("id") for x in labels]

    for i, label in enumerate(ids):
        if label is not None and label in ids[:i]:
            found.append(located.problem(("labels", i), f'label "{label}" stands twice'))
        scale = value.get("scale")
        if scale in ("interval", "ratio") and not _is_number(label):
            found.append(located.problem(("labels", i), f'label "{label}" is not a number, but the scale is {scale}'))
        elif scale == "ratio" and float(str(label)) < 0:
            found.append(located.problem(("labels", i), f'label "{label}" is below 0, but the scale is ratio'))
        elif scale in ("interval", "ratio") and label not in ids[:i] and float(str(label)) in _numbers(ids[:i]):
            found.append(located.problem(("labels", i), f'label "{label}" is the same number as one before it'))
    found += _twins(located, ids, abstain) + _blank(located) + _against_the_order(located, labels)
    for i, label in enumerate(abstain):
        if label in abstain[:i]:
            found.append(located.problem(("abstain", i), f'abstention "{label}" stands twice'))
        if label in ids:
            found.append(located.problem(("abstain", i), f'"{label}" is both a label and an abstention; keep one'))
    for i, label in enumerate(labels):
        former = label.get("renamed_from")
        for old in former if isinstance(former, list) else []:
            if old in ids or old in abstain:
                message = f'renamed_from "{old}" is a label of the policy; a label that is still there was not renamed'
                found.append(located.problem(("labels", i, "renamed_from"), message))
    flags = [x.get("violating") for x in labels]
    if len(flags) > 1 and all(isinstance(f, bool) for f in flags):
        if not any(flags):
            found.append(located.problem(("labels",), "no label is violating; mark at least one with violating: true"))
        if all(flags):
            found.append(located.problem(("labels",), "every label is violating; one must have violating: false"))
    method = value.get("aggregation", MEASURED)
    if isinstance(method, str) and method != MEASURED and method not in AGGREGATION_METHODS:
        hint = did_you_mean(method, [MEASURED, *AGGREGATION_METHODS.names])
        found.append(located.problem(("aggregation",), f'aggregation "{method}" is not known{hint}'))
    if method == "median" and value.get("scale", "nominal") == "nominal":
        message = "aggregation median needs ordered labels; give scale: ordinal, interval or ratio"
        found.append(located.problem(("aggregation",), message))
    for i, clause in enumerate(clauses):
        label = clause.get("label") if isinstance(clause, dict) else None
        if label is not None and label not in ids:
            hint = did_you_mean(str(label), [str(x) for x in ids if x is not None])
            message = f'clause "{clause.get("id")}" names label "{label}", which is not in the label set{hint}'
            found.append(located.problem(("clauses", i, "label"), message))
    return found


def _twins(located: Located, ids: list[Any], abstain: list[Any]) -> list[Problem]:
    """Labels and abstentions that differ only in case or spaces, and those with spaces around them."""
    found = []
    places = [("labels", i, x) for i, x in enumerate(ids)] + [("abstain", i, x) for i, x in enumerate(abstain)]
    seen: dict[str, str] = {}
    for where, i, name in places:
        if not isinstance(name, str):
            continue
        if name != name.strip():
            found.append(located.problem((where, i), f'label "{name}" has spaces around it; remove them'))
        first = seen.setdefault(" ".join(name.casefold().split()), name)
        if first != name:
            message = f'label "{name}" differs from "{first}" only in case or spaces; raters cannot tell them apart'
            found.append(located.problem((where, i), message))
    return found


def _blank(located: Located) -> list[Problem]:
    """Definitions and clauses that say nothing."""
    value = located.value
    texts: list[tuple[tuple[str | int, ...], Any]] = [(("definition",), value.get("definition"))]
    for key, name in (("labels", "definition"), ("clauses", "text")):
        parts = value.get(key)
        for i, part in enumerate(parts if isinstance(parts, list) else []):
            if isinstance(part, dict):
                texts.append(((key, i, name), part.get(name)))
    return [
        located.problem(where, f'"{".".join(str(s) for s in where)}" is blank; write it, or leave it out')
        for where, text in texts
        if isinstance(text, str) and not text.strip()
    ]


def _against_the_order(located: Located, labels: list[Any]) -> list[Problem]:
    """Severities that fall along labels whose order is a scale."""
    if located.value.get("scale", "nominal") == "nominal":
        return []
    found = []
    known = [(i, x.get("id"), s) for i, x in enumerate(labels) if type(s := x.get("severity")) is int]
    for (_, before, high), (i, label, low) in pairwise(known):
        if low < high:
            message = (
                f'severity falls from {high} ("{before}") to {low} ("{label}"), but the scale is ordered; list '
                "labels from least to most severe, or correct the severities"
            )
            found.append(located.problem(("labels", i), message))
    return found


def _numbers(values: list[Any]) -> set[float]:
    return {float(str(x)) for x in values if _is_number(x)}


def _is_number(text: object) -> bool:
    try:
        return math.isfinite(float(str(text)))
    except ValueError:
        return False


def policy_from_yaml(located: Located, text: str, folder: str) -> Policy:
    """One checked policy. Raises :class:`UserError` with every mistake of the file."""
    if not isinstance(located.value, dict):
        raise UserError([Problem(located.file, 1, "must be a mapping with id, title, version, labels, definition")])
    problems: list[Problem] = []
    policy = None
    try:
        policy = Policy.model_validate(
            {**located.value, "sha256": hashlib.sha256(text.encode()).hexdigest(), "source": text}
        )
    except ValidationError as error:
        problems += model_problems(error, located, Policy)
    problems += inconsistencies(located)
    given = located.value.get("id")
    if isinstance(given, str):
        if given != folder:
            problems.append(located.problem(("id",), f'id "{given}" must equal its folder\'s name "{folder}"'))
        if not IDENTIFIER.fullmatch(given):
            problems.append(
                located.problem(("id",), f'id "{given}" must be lower-case letters, digits, "_" or "-", at most 64')
            )
    for name in ("sha256", "source"):
        if name in located.value:
            problems.append(located.problem((name,), f'key "{name}" is not known'))
    if problems:
        raise UserError(sorted(problems))
    assert policy is not None
    return policy


def load_policies(home: Home) -> Policies:
    """Every policy of the home. Raises :class:`UserError` with all mistakes of all files at once."""
    policies, problems = load_policies_leniently(home)
    if problems:
        raise UserError(problems)
    return policies


def usable_policies(home: Home) -> Policies:
    """The policies that are sound: what a day works on while another policy has mistakes."""
    return load_policies_leniently(home)[0]


def home_problems(home: Home) -> list[Problem]:
    """Every mistake in the home's policies."""
    return load_policies_leniently(home)[1]


def policy_folders(home: Home) -> list[Path]:
    """The folders of ``prompts/`` that are a policy each, by name."""
    names = [n for n in store.names(home.prompts) if not n.startswith((".", "_"))]
    return [home.prompts / n for n in names if store.is_folder(home.prompts / n)]


@lru_cache(256)
def _policy_in(text: str, file: str, folder: str) -> Policy | tuple[Problem, ...]:
    """The policy a text states, or its mistakes. Remembered: every asset of a day asks for the same few texts."""
    try:
        return policy_from_yaml(parse_yaml(text, file), text, folder)
    except UserError as error:
        return tuple(error.problems)


def load_policies_leniently(home: Home) -> tuple[Policies, list[Problem]]:
    """The policies that are sound, and every mistake in the others, by file and line."""
    policies: list[Policy] = []
    problems: list[Problem] = []
    if not home.prompts.is_dir():
        missing = Problem("prompts", None, "folder is missing; a policy is a folder with a policy.yaml in it")
        return Policies([]), [missing]
    for folder in policy_folders(home):
        path = folder / "policy.yaml"
        file = home.relative(path)
        if not path.is_file():
            hint = "; rename policy.yml to policy.yaml" if (folder / "policy.yml").exists() else ""
            problems.append(Problem(file, None, f"is missing; every folder in prompts/ is one policy{hint}"))
            continue
        try:
            found = _policy_in(read_text(path, file), file, folder.name)
        except UserError as error:
            problems += error.problems
            continue
        if isinstance(found, Policy):
            policies.append(found)
        else:
            problems += found
    if not policies and not problems:
        problems.append(Problem("prompts", None, "no policy there; add prompts/<policy>/policy.yaml"))
    return Policies(policies), sorted(problems, key=lambda p: (p.file, p.line or 0))
