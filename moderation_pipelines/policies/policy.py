"""A policy: one question asked of an item, with its label set. Loaded from ``prompts/<policy>/policy.yaml``."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from moderation_pipelines.errors import Problem, UserError
from moderation_pipelines.home import Home
from moderation_pipelines.located_yaml import Located, model_problems, parse_yaml, read_text

IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
AGGREGATIONS = ("dawid_skene", "majority")


class Strict(BaseModel):
    """Base of everything read from a home's YAML: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Label(Strict):
    id: str = Field(min_length=1, max_length=256)
    title: str | None = None
    violating: bool
    severity: int | None = None
    definition: str | None = None


class Clause(Strict):
    id: str = Field(min_length=1)
    text: str
    label: str | None = None


class Policy(Strict):
    """One policy. ``labels`` are in order; for ordinal and interval scales the order is the scale."""

    id: str
    title: str
    version: str
    scale: Literal["nominal", "ordinal", "interval"] = "nominal"
    labels: tuple[Label, ...] = Field(strict=False, min_length=2)
    abstain: tuple[str, ...] = Field(default=(), strict=False)
    on_repeat: Literal["last", "first"] = "last"
    definition: str
    clauses: tuple[Clause, ...] = Field(default=(), strict=False)
    aggregation: Literal["dawid_skene", "majority"] = "dawid_skene"
    kpis: dict[str, float] = Field(default_factory=dict, strict=False)
    sha256: str = Field(default="", exclude=True)
    source: str = Field(default="", exclude=True, repr=False)

    @field_validator("version", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        return value if isinstance(value, str) else str(value) if value is not None else value

    @model_validator(mode="after")
    def _consistent(self) -> Policy:
        mistakes = []
        ids = [label.id for label in self.labels]
        for i in sorted({i for i in ids if ids.count(i) > 1}):
            mistakes.append(f'label "{i}" stands twice')
        for i in sorted({i for i in self.abstain if self.abstain.count(i) > 1}):
            mistakes.append(f'abstention "{i}" stands twice')
        for i in sorted(set(self.abstain) & set(ids)):
            mistakes.append(f'"{i}" is both a label and an abstention; keep one')
        if not any(label.violating for label in self.labels):
            mistakes.append("no label is violating; mark at least one with violating: true")
        if all(label.violating for label in self.labels):
            mistakes.append("every label is violating; at least one must have violating: false")
        for clause in self.clauses:
            if clause.label is not None and clause.label not in ids:
                mistakes.append(f'clause "{clause.id}" names label "{clause.label}", which is not in the label set')
        if self.scale == "interval":
            for i in ids:
                try:
                    float(i)
                except ValueError:
                    mistakes.append(f'label "{i}" is not a number, but the scale is interval')
        if mistakes:
            raise ValueError("; ".join(mistakes))
        return self

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


def load_policies_leniently(home: Home) -> tuple[Policies, list[Problem]]:
    """The policies that are sound, and every mistake in the others, by file and line."""
    policies: list[Policy] = []
    problems: list[Problem] = []
    if not home.prompts.is_dir():
        missing = Problem("prompts", None, "folder is missing; a policy is a folder with a policy.yaml in it")
        return Policies([]), [missing]
    for folder in sorted(p for p in home.prompts.iterdir() if p.is_dir() and not p.name.startswith((".", "_"))):
        path = folder / "policy.yaml"
        file = home.relative(path)
        if not path.is_file():
            hint = "; rename policy.yml to policy.yaml" if (folder / "policy.yml").exists() else ""
            problems.append(Problem(file, None, f"is missing; every folder in prompts/ is one policy{hint}"))
            continue
        try:
            text = read_text(path, file)
            policies.append(policy_from_yaml(parse_yaml(text, file), text, folder.name))
        except UserError as error:
            problems += error.problems
    if not policies and not problems:
        problems.append(Problem("prompts", None, "no policy there; add prompts/<policy>/policy.yaml"))
    return Policies(policies), sorted(problems, key=lambda p: (p.file, p.line or 0))
