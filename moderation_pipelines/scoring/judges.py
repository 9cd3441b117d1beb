"""Judges and endpoints: ``prompts/judges.yaml``. Keys come from the environment, never from the file."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlparse

from pydantic import Field, ValidationError, field_validator

from moderation_pipelines.errors import Problem, UserError, did_you_mean
from moderation_pipelines.home import Home
from moderation_pipelines.located_yaml import model_problems, parse_yaml, read_text
from moderation_pipelines.policies.policy import IDENTIFIER, Policies, Strict
from moderation_pipelines.prompting.prompts import COMPILED, LATEST, prompt_versions

BASELINE = "baseline-ngram"


class Endpoint(Strict):
    """An OpenAI-compatible endpoint and what it can do."""

    base_url: str
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    json_schema: bool = False
    logprobs: bool = False
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    seed: bool = False
    temperature: bool = True
    timeout_seconds: float = Field(default=60, gt=0, le=3600, strict=False)
    concurrency: int = Field(default=8, ge=1, le=512)
    max_attempts: int = Field(default=4, ge=1, le=20)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parsed = urlparse(value)
        if parsed.scheme not in ("http", "https") or not parsed.netloc:
            raise ValueError("not an address")
        if parsed.username or parsed.password or parsed.query:
            raise ValueError("an address holds no key or password")
        return value


class Price(Strict):
    """US dollars per million tokens."""

    input_usd_per_million: float = Field(ge=0, strict=False)
    cached_input_usd_per_million: float | None = Field(default=None, ge=0, strict=False)
    output_usd_per_million: float = Field(ge=0, strict=False)


class Judge(Strict):
    """What gets scored: an endpoint, a model, a prompt version and parameters."""

    endpoint: str
    model: str = Field(min_length=1)
    prompt: str = LATEST
    policies: tuple[str, ...] | None = Field(default=None, strict=False)
    temperature: float = Field(default=0.0, ge=0, le=2, strict=False)
    max_tokens: int = Field(default=400, ge=1)
    seed: int = 0
    price: Price | None = None
    budget_usd: float | None = Field(default=None, ge=0, strict=False)


class JudgesFile(Strict):
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)
    judges: dict[str, Judge] = Field(default_factory=dict)
    baseline: bool = True


def load_judges(home: Home, policies: Policies) -> JudgesFile:
    """The home's judges; without a file just the baseline. Raises :class:`UserError` with every mistake."""
    path = home.judges_file
    if not path.exists():
        return JudgesFile()
    file = home.relative(path)
    located = parse_yaml(read_text(path, file), file)
    try:
        loaded = JudgesFile.model_validate(located.value or {})
    except ValidationError as error:
        problems = model_problems(error, located, JudgesFile)
        for p in problems:
            if 'key "api_key"' in p.message:
                hint = "a key never stands in a file; put it in the environment and name the variable in api_key_env"
                problems[problems.index(p)] = Problem(p.file, p.line, hint)
        raise UserError(problems) from None
    problems = []
    for name, judge in loaded.judges.items():
        where = ("judges", name)
        if not IDENTIFIER.fullmatch(name.replace(".", "-")):
            problems.append(located.problem(where, f'judge "{name}": use lower-case letters, digits, ".", "_", "-"'))
        if name == BASELINE:
            problems.append(located.problem(where, f'judge name "{BASELINE}" belongs to the built-in baseline'))
        if judge.endpoint not in loaded.endpoints:
            hint = did_you_mean(judge.endpoint, list(loaded.endpoints))
            problems.append(located.problem((*where, "endpoint"), f'endpoint "{judge.endpoint}" is not defined{hint}'))
        for policy in judge.policies or ():
            if policy not in policies:
                hint = did_you_mean(policy, policies.ids)
                problems.append(located.problem((*where, "policies"), f'policy "{policy}" is not in prompts/{hint}'))
        if judge.prompt not in (LATEST, COMPILED):
            for policy in judge.policies or policies.ids:
                if policy in policies and judge.prompt not in prompt_versions(home, policies[policy]):
                    message = f'prompt "{judge.prompt}" is missing for policy "{policy}": no {judge.prompt}.md there'
                    problems.append(located.problem((*where, "prompt"), message))
        if judge.budget_usd is not None and judge.price is None:
            problems.append(located.problem((*where, "budget_usd"), "a budget needs a price to be kept"))
    if problems:
        raise UserError(problems)
    return loaded
