"""What an endpoint can do with a model: declared in judges.yaml, or probed once and kept in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from moderation_pipelines.judging.judges_file import Endpoint

CAPABILITIES = ("json_schema", "logprobs", "seed", "temperature", "max_tokens_field", "batch")


@dataclass(frozen=True)
class Profile:
    """Capabilities in force for one endpoint and model. ``source`` says for each whether it was declared, probed or
    assumed."""

    json_schema: bool = False
    logprobs: bool = False
    seed: bool = False
    temperature: bool = True
    max_tokens_field: str = "max_tokens"
    batch: bool = False
    source: Mapping[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {k: v for k, v in asdict(self).items() if k != "source"}


def profile_of(endpoint: Endpoint, probed: Mapping[str, Any] | None = None) -> Profile:
    """Declared capabilities first, then what was probed, then what every endpoint can be taken to do."""
    values: dict[str, Any] = {}
    source: dict[str, str] = {}
    for name in CAPABILITIES:
        declared = getattr(endpoint, name)
        if declared is not None:
            values[name], source[name] = declared, "declared"
        elif probed is not None and name in probed:
            values[name], source[name] = probed[name], "probed"
        else:
            source[name] = "assumed"
    if endpoint.api != "chat" and "max_tokens_field" not in values:
        values["max_tokens_field"] = "max_output_tokens"
    return Profile(**values, source=source)
