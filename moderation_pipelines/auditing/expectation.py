"""An expectation as data: id, severity, what is checked, and why it exists. Great Expectations runs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Severity = Literal["critical", "warning"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)


@dataclass(frozen=True)
class Expectation:
    """One expectation: ``type`` and ``kwargs`` are Great Expectations' own."""

    id: str
    severity: Severity
    why: str
    type: str
    kwargs: dict[str, Any] = field(default_factory=dict)


def expectation(id_: str, severity: Severity, type_: str, why: str, **kwargs: Any) -> Expectation:
    """An expectation, in one line."""
    return Expectation(id_, severity, why, type_, kwargs)
