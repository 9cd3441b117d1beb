"""What the fake endpoint shall do: one YAML file, or options of the command line."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError, field_validator, model_validator

from moderation_pipelines.foundation.errors import UserError, did_you_mean
from moderation_pipelines.foundation.located_yaml import model_problems, parse_yaml, read_text
from moderation_pipelines.policies.policy import Strict

# Faults of a call are drawn again for every attempt; those of an item hold for all its attempts.
CALL_FAULTS = (
    "rate_limited", "rate_limited_retry_after", "error_500", "error_503_retry_after", "reset", "reset_in_body", "stall",
    "slow_body", "garbage", "empty_body", "error_body", "truncated", "whitespace_loop", "prose", "unknown_label",
    "empty", "no_usage",
)  # fmt: skip
ITEM_FAULTS = ("refusal", "refusal_text", "content_filter", "finish_content_filter", "too_long")
FAULTS = CALL_FAULTS + ITEM_FAULTS


class Model(Strict):
    """A model in the list. ``confusion``: true label to what it answers, with shares; ``shutdown_date``: announced."""

    id: str
    confusion: dict[str, dict[str, float]] = Field(default_factory=dict)
    shutdown_date: str | None = None


class Plan(Strict):
    """Everything the fake endpoint does. Shares are of calls (or items) from 0 to 1."""

    seed: int = 0
    latency_ms: float = Field(default=0, ge=0, le=600_000, strict=False)
    latency_spread: float = Field(default=0, ge=0, le=3, strict=False)
    faults: dict[str, float] = Field(default_factory=dict)
    stall_seconds: float = Field(default=3600, ge=0, strict=False)
    slow_body_seconds: float = Field(default=2, ge=0, strict=False)
    retry_after_seconds: float = Field(default=1, ge=0, strict=False)
    requests_per_minute: float | None = Field(default=None, gt=0, strict=False)
    tokens_per_minute: float | None = Field(default=None, gt=0, strict=False)
    limit_headers: bool = True
    limit_retry_after: bool = True
    burst_seconds: float = Field(default=1, gt=0, le=60, strict=False)
    labels: tuple[str, ...] = Field(default=(), strict=False)
    violating: tuple[str, ...] = Field(default=(), strict=False)
    prevalence: float = Field(default=0.3, ge=0, le=1, strict=False)
    truth: dict[str, str] = Field(default_factory=dict)
    accuracy: float = Field(default=0.9, ge=0, le=1, strict=False)
    models: tuple[Model, ...] = Field(default=(), strict=False)
    obeys_injections: float = Field(default=0, ge=0, le=1, strict=False)
    unstable: float = Field(default=0, ge=0, le=1, strict=False)
    cached_tokens: bool = True
    key: str | None = None
    unsupported: tuple[str, ...] = Field(default=(), strict=False)
    batches: bool = True
    batch_polls: int = Field(default=1, ge=0)
    batch_ends: str = Field(default="completed", pattern="^(completed|expired|cancelled|failed)$")
    batch_share: float = Field(default=1, ge=0, le=1, strict=False)

    @field_validator("faults")
    @classmethod
    def _known_faults(cls, value: dict[str, float]) -> dict[str, float]:
        for name, share in value.items():
            if name not in FAULTS:
                raise ValueError(f'fault "{name}" is not known{did_you_mean(name, FAULTS)}')
            if not 0 <= share <= 1:
                raise ValueError(f'share of fault "{name}" must lie in 0 to 1')
        return value

    @model_validator(mode="after")
    def _shares_fit(self) -> Plan:
        for names in (CALL_FAULTS, ITEM_FAULTS):
            if sum(self.faults.get(n, 0) for n in names) > 1 + 1e-9:
                raise ValueError("the shares of faults add up to more than 1")
        return self


def load_plan(path: Path) -> Plan:
    """A plan from a YAML file. Raises :class:`UserError` with every mistake and its line."""
    located = parse_yaml(read_text(path, str(path)), str(path))
    try:
        return Plan.model_validate(located.value or {})
    except ValidationError as error:
        raise UserError(model_problems(error, located, Plan)) from None
