"""Eval-set specs: which items a named set draws. ``prompts/<policy>/eval_sets.yaml``; none = the default set."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Literal

from pydantic import Field, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import Located, model_problems, parse_yaml, read_text
from moderation_pipelines.ingest.fields import usual_locale
from moderation_pipelines.policies.policy import IDENTIFIER, Policies, Strict, usable_policies


class EvalSetSpec(Strict):
    """One set. Up to ``size`` labelled eval-side items, stratified, drawn by a seeded hash of the item id."""

    name: str
    size: int = Field(default=2000, ge=1, le=1_000_000)
    stratify_by: tuple[Literal["locale", "label", "surface", "source"], ...] = Field(
        default=("locale", "label"), strict=False
    )
    allocation: Literal["proportional", "equal"] = "proportional"
    min_per_stratum: int = Field(default=10, ge=1)
    seed: int = 0
    locales: tuple[str, ...] | None = Field(default=None, strict=False)
    surfaces: tuple[str, ...] | None = Field(default=None, strict=False)
    min_votes: int = Field(default=0, ge=0)
    min_probability: float = Field(default=0.0, ge=0.0, le=1.0, strict=False)


class EvalSetsFile(Strict):
    eval_sets: tuple[EvalSetSpec, ...] = Field(strict=False, min_length=1)


def _at_odds(located: Located, i: int, spec: EvalSetSpec) -> list[Problem]:
    """What in a spec cannot be met whatever the data."""
    found = []
    if spec.min_per_stratum > spec.size and "min_per_stratum" in spec.model_fields_set:
        message = (
            f"min_per_stratum {spec.min_per_stratum:,} is larger than size {spec.size:,}; no stratum can have so many"
        )
        found.append(located.problem(("eval_sets", i, "min_per_stratum"), message))
    for tag in spec.locales or ():
        usual = usual_locale(tag)
        if usual != tag:
            hint = f'; did you mean "{usual}"?' if usual else "; locales are BCP 47 tags, e.g. en, pt-BR"
            found.append(located.problem(("eval_sets", i, "locales"), f'locale "{tag}" matches nothing{hint}'))
    return found


def unmet_locales(specs: Iterable[EvalSetSpec], there: Collection[str]) -> list[str]:
    """Notes on locales that specs ask for and no item has."""
    notes = []
    for spec in specs:
        absent = [tag for tag in spec.locales or () if tag not in there]
        if absent:
            known = ", ".join(sorted(there)[:12])
            notes.append(f"eval set {spec.name}: no item has locale {', '.join(absent)}; there are {known}")
    return notes


def load_specs(home: Home, policies: Policies) -> dict[str, list[EvalSetSpec]]:
    """Specs by policy. Raises :class:`UserError` with every mistake of every file."""
    specs, problems = load_specs_leniently(home, policies)
    if problems:
        raise UserError(problems)
    return specs


def home_problems(home: Home) -> list[Problem]:
    """Every mistake in the home's eval-set specs."""
    return load_specs_leniently(home, usable_policies(home))[1]


def load_specs_leniently(home: Home, policies: Policies) -> tuple[dict[str, list[EvalSetSpec]], list[Problem]]:
    """Specs by policy, of the files that are sound, and every mistake in the others. A policy whose file has mistakes
    has no set."""
    specs: dict[str, list[EvalSetSpec]] = {}
    problems: list[Problem] = []
    taken: dict[str, str] = {}
    defaults: list[str] = []
    for policy in policies:
        path = home.prompts / policy.id / "eval_sets.yaml"
        file = home.relative(path)
        if not path.exists():
            specs[policy.id] = [EvalSetSpec(name=policy.id)]
            defaults.append(policy.id)
            continue
        try:
            located = parse_yaml(read_text(path, file), file)
            try:
                loaded = EvalSetsFile.model_validate(located.value or {})
            except ValidationError as error:
                raise UserError(model_problems(error, located, EvalSetsFile)) from None
        except UserError as error:
            problems += error.problems
            specs[policy.id] = []
            continue
        before = len(problems)
        for i, spec in enumerate(loaded.eval_sets):
            where = ("eval_sets", i, "name")
            if not IDENTIFIER.fullmatch(spec.name):
                hint = 'must be lower-case letters, digits, "_" or "-", at most 64'
                problems.append(located.problem(where, f'name "{spec.name}" {hint}'))
            elif spec.name in taken:
                problems.append(located.problem(where, f'name "{spec.name}" is taken by {taken[spec.name]}'))
            taken[spec.name] = file
            problems += _at_odds(located, i, spec)
        specs[policy.id] = list(loaded.eval_sets) if len(problems) == before else []
    for name in defaults:
        if name in taken:
            hint = (
                f'name "{name}" belongs to the default set of policy {name}; choose another, or give {name} a spec file'
            )
            problems.append(Problem(taken[name], None, hint))
            owner = next(p for p, sets in specs.items() if p != name and any(s.name == name for s in sets))
            specs[owner] = [s for s in specs[owner] if s.name != name]
    return specs, problems
