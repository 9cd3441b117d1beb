"""Self-contained HTML pages: one style, one template environment, nothing loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup


def percent(value: float | None, digits: int = 1) -> str:
    return "–" if value is None else f"{value * 100:.{digits}f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value as people read it: never 0."""
    return "–" if value is None else "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def cell(text: str) -> str:
    """Text safe inside a Markdown table or list: one line, nothing that Markdown or HTML would take as its own."""
    flat = " ".join(text.split())
    for mark in "\\`*_[]<>|":
        flat = flat.replace(mark, f"\\{mark}" if mark not in "<>" else {"<": "&lt;", ">": "&gt;"}[mark])
    return flat


def span(low: float | None, high: float | None, digits: int = 3) -> str:
    """An interval as people read it, or a dash."""
    return "–" if low is None or high is None else f"{decimal(low, digits)} to {decimal(high, digits)}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("moderation_pipelines.rendering", "templates"),
        autoescape=jinja2.select_autoescape(["html"]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "decimal": decimal, "count": count, "cell": cell, "p_value": p_value}
    environment.globals["span"] = span
    style = files("moderation_pipelines.rendering").joinpath("templates/style.css").read_text()
    environment.globals["style"] = Markup(style)  # noqa: S704 - our own file
    return environment


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page from ``templates/``. Values are escaped."""
    return _environment().get_template(template).render(dict(values))
