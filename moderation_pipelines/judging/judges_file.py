"""Judges and endpoints: ``prompts/judges.yaml``. Keys come from the environment, never from the file."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import urlparse

from pydantic import Field, ValidationError, field_validator

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import Located, model_problems, parse_yaml, read_text
from moderation_pipelines.judging.money import Price
from moderation_pipelines.policies.policy import IDENTIFIER, Policies, Strict, usable_policies
from moderation_pipelines.prompting.prompts import COMPILED, LATEST, prompt_versions

BASELINE = "baseline-ngram"
Api = Literal["chat", "responses", "decisions"]


class Endpoint(Strict):
    """An OpenAI-compatible endpoint: where it is, what it can do, how hard it may be pressed.

    A capability that is not declared (None) is probed once where ``probe`` is on, else taken as not there.
    """

    base_url: str
    api_key_env: str | None = Field(default=None, pattern=r"^[A-Z][A-Z0-9_]*$")
    api: Api = "chat"
    transport: Literal["sdk", "direct"] = "sdk"
    probe: bool = False
    json_schema: bool | None = None
    logprobs: bool | None = None
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    seed: bool | None = None
    temperature: bool | None = None
    batch: bool | None = None
    timeout_seconds: float = Field(default=60, gt=0, le=3600, strict=False)
    concurrency: int = Field(default=8, ge=1, le=2048)
    max_attempts: int = Field(default=4, ge=1, le=20)
    requests_per_minute: float | None = Field(default=None, gt=0, strict=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, strict=False)
    cool_down_seconds: float = Field(default=5, gt=0, le=600, strict=False)
    patience_seconds: float = Field(default=120, ge=0, le=86400, strict=False)
    batch_requests: int = Field(default=50_000, ge=1, le=50_000)
    batch_megabytes: float = Field(default=190, gt=0, le=200, strict=False)
    batch_enqueued_tokens: int | None = Field(default=None, ge=1)

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, value: str) -> str:
        parsed = urlparse(value)
        if parsed.scheme not in ("http", "https") or not parsed.netloc:
            raise ValueError("not an address")
        if parsed.username or parsed.password or parsed.query:
            raise ValueError("an address holds no key or password")
        return value.rstrip("/")

    @property
    def provider(self) -> str:
        """Whose limits it shares: the variable its key is in, else the host."""
        return (self.api_key_env or urlparse(self.base_url).netloc).lower()


class Judge(Strict):
    """What gets scored: an endpoint, a model, a prompt version and parameters."""

    endpoint: str
    model: str = Field(min_length=1)
    prompt: str = LATEST
    policies: tuple[str, ...] | None = Field(default=None, strict=False)
    temperature: float = Field(default=0.0, ge=0, le=2, strict=False)
    max_tokens: int = Field(default=400, ge=1)
    seed: int = 0
    price: Price | list[Price] | None = None
    budget_usd: float | None = Field(default=None, ge=0, strict=False)
    budget_usd_per_run: float | None = Field(default=None, ge=0, strict=False)
    via: Literal["live", "batch"] = "live"
    repair: bool = True
    max_item_characters: int = Field(default=60_000, ge=100)
    max_missing: float = Field(default=0.2, ge=0, le=1, strict=False)
    canary: int = Field(default=20, ge=0, le=1000)
    injections: int = Field(default=4, ge=0, le=100)

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every price it has, whatever the form in the file."""
        return () if self.price is None else tuple(self.price) if isinstance(self.price, list) else (self.price,)


class JudgesFile(Strict):
    endpoints: dict[str, Endpoint] = Field(default_factory=dict)
    judges: dict[str, Judge] = Field(default_factory=dict)
    baseline: bool = True

    @property
    def sends_batches(self) -> bool:
        return any(j.via == "batch" for j in self.judges.values())


def load_judges(home: Home, policies: Policies) -> JudgesFile:
    """The home's judges; without a file just the baseline. Raises :class:`UserError` with every mistake."""
    loaded, problems = load_judges_leniently(home, policies)
    if problems:
        raise UserError(problems)
    return loaded


def home_problems(home: Home) -> list[Problem]:
    """Every mistake in the home's judges.yaml. None while there is no policy to judge by: that is told first."""
    policies = usable_policies(home)
    return load_judges_leniently(home, policies)[1] if len(policies) else []


def load_judges_leniently(home: Home, policies: Policies) -> tuple[JudgesFile, list[Problem]]:
    """The judges that are sound, and every mistake in the others. A file that is no YAML leaves just the baseline."""
    path = home.judges_file
    if not path.exists():
        return JudgesFile(), []
    file = home.relative(path)
    try:
        located = parse_yaml(read_text(path, file), file)
    except UserError as error:
        return JudgesFile(), error.problems
    problems: list[Problem] = []
    try:
        loaded = JudgesFile.model_validate(located.value or {})
    except ValidationError as error:
        hint = "a key never stands in a file; put it in the environment and name the variable in api_key_env"
        for p in model_problems(error, located, JudgesFile):
            problems.append(Problem(p.file, p.line, hint) if 'key "api_key"' in p.message else p)
        loaded = _sound_parts(located.value)
    unfit = _inconsistencies(home, policies, located)
    judges = {n: j for n, j in loaded.judges.items() if n not in unfit and j.endpoint in loaded.endpoints}
    problems += [p for found in unfit.values() for p in found]
    return loaded.model_copy(update={"judges": judges}), problems


def _sound_parts(value: Any) -> JudgesFile:
    """Those endpoints and judges of a file with mistakes that are valid by themselves."""
    value = value if isinstance(value, dict) else {}

    def sound(key: str, model: type[Strict]) -> dict[str, Any]:
        found = {}
        for name, part in (value[key] if isinstance(value.get(key), dict) else {}).items():
            with suppress(ValidationError):
                found[str(name)] = model.model_validate(part)
        return found

    baseline = value["baseline"] if isinstance(value.get("baseline"), bool) else True
    return JudgesFile(endpoints=sound("endpoints", Endpoint), judges=sound("judges", Judge), baseline=baseline)


def pool_name(home: Home) -> str:
    """The Dagster pool of scoring: the provider's, where all judges share one; ``judges`` otherwise.

    Never fails: mistakes in the file are told when it is used, not when definitions are loaded.
    """
    try:
        value = parse_yaml(read_text(home.judges_file, "judges.yaml"), "judges.yaml").value
        found = {Endpoint.model_validate(e).provider for e in value["endpoints"].values()}
    except (UserError, ValidationError, TypeError, KeyError, AttributeError):
        return "judges"
    return re.sub(r"[^a-z0-9_]", "_", found.pop()) if len(found) == 1 else "judges"


def _inconsistencies(home: Home, policies: Policies, located: Located) -> dict[str, list[Problem]]:
    """What does not fit together in judges.yaml, by judge, as far as its parts can be read."""
    by_judge: dict[str, list[Problem]] = {}
    value = located.value if isinstance(located.value, dict) else {}
    parts: list[dict[str, Any]] = [v if isinstance(v := value.get(k), dict) else {} for k in ("endpoints", "judges")]
    endpoints, judges = parts
    for name, judge in judges.items():
        if not isinstance(judge, dict):
            continue
        where = ("judges", name)
        found = by_judge.setdefault(name, [])
        if not IDENTIFIER.fullmatch(name.replace(".", "-")):
            found.append(located.problem(where, f'judge "{name}": use lower-case letters, digits, ".", "_", "-"'))
        if name == BASELINE:
            found.append(located.problem(where, f'judge name "{BASELINE}" belongs to the built-in baseline'))
        endpoint = judge.get("endpoint")
        if isinstance(endpoint, str) and endpoint not in endpoints:
            hint = did_you_mean(endpoint, list(endpoints))
            found.append(located.problem((*where, "endpoint"), f'endpoint "{endpoint}" is not defined{hint}'))
        given = judge.get("policies")
        asked = [p for p in given if isinstance(p, str)] if isinstance(given, list) else policies.ids
        for policy in asked:
            if policy not in policies:
                hint = did_you_mean(policy, policies.ids)
                found.append(located.problem((*where, "policies"), f'policy "{policy}" is not in prompts/{hint}'))
        prompt = judge.get("prompt", LATEST)
        if prompt not in (LATEST, COMPILED):
            for policy in asked:
                if policy in policies and prompt not in prompt_versions(home, policies[policy]):
                    message = f'prompt "{prompt}" is missing for policy "{policy}": no {prompt}.md there'
                    found.append(located.problem((*where, "prompt"), message))
        for budget in ("budget_usd", "budget_usd_per_run"):
            if judge.get(budget) is not None and judge.get("price") is None:
                found.append(located.problem((*where, budget), "a budget needs a price to be kept"))
        where_asked = endpoints.get(endpoint) if isinstance(endpoint, str) else None
        if judge.get("via") == "batch" and isinstance(where_asked, dict):
            if where_asked.get("api", "chat") == "decisions":
                found.append(located.problem((*where, "via"), "decisions cannot be asked for by batch"))
            elif where_asked.get("batch") is False:
                message = f'via: batch, but endpoint "{endpoint}" says batch: false'
                found.append(located.problem((*where, "via"), message))
    return {name: found for name, found in by_judge.items() if found}
