"""``prompts/settings.yaml``: limits that differ from those of the stages, and the key items are divided by.

```yaml
side_by: group_key
thresholds:
  probes: {max_flips: 0.2}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean, shown
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import Located, model_problems, parse_yaml, read_text
from moderation_pipelines.foundation.text import SIDE_BY, SideBy

Limits = TypeVar("Limits", bound=BaseModel)
_KEYS = ("side_by", "thresholds")


def load_thresholds(home: Home, stage: str, model: type[Limits]) -> Limits:
    """The limits of a stage; its own where the file states none, or states them with mistakes."""
    located, _ = _located(home)
    stated = _thresholds(located).get(stage)
    try:
        return model.model_validate(stated if isinstance(stated, dict) else {})
    except ValidationError:
        return model()


def stated_side_by(home: Home) -> SideBy | None:
    """The key that ``prompts/settings.yaml`` divides items by; None where it states none.

    Raises :class:`UserError` where the file cannot be read or the key is not known: what is fixed at first use must not
    be guessed.
    """
    located, problems = _located(home)
    problems += _side_by_problems(located)
    if problems:
        raise UserError(problems)
    stated = located.value.get("side_by") if located is not None and isinstance(located.value, dict) else None
    return next((known for known in SIDE_BY if known == stated), None)


def side_by_line(home: Home) -> int | None:
    """The line of ``prompts/settings.yaml`` that states the key; None without one."""
    located, _ = _located(home)
    return None if located is None else located.line(("side_by",))


def _side_by_problems(located: Located | None) -> list[Problem]:
    if located is None or not isinstance(located.value, dict) or "side_by" not in located.value:
        return []
    stated = located.value["side_by"]
    if stated in SIDE_BY:
        return []
    known = ", ".join(SIDE_BY)
    if not isinstance(stated, str):
        return [located.problem(("side_by",), f"side_by must be one of: {known}")]
    said = f"side_by {shown(stated, SIDE_BY)} is not known{did_you_mean(stated, SIDE_BY)}"
    return [located.problem(("side_by",), said)]


def settings_problems(home: Home, models: Mapping[str, type[BaseModel] | None]) -> list[Problem]:
    """Every mistake in ``prompts/settings.yaml``. ``models``: the limits of every stage, by its name."""
    located, problems = _located(home)
    if located is None or located.value is None:
        return problems
    if not isinstance(located.value, dict):
        return [Problem(located.file, 1, f"must be a mapping; known: {', '.join(_KEYS)}")]
    problems += [
        located.problem((key,), f'key "{key}" is not known{did_you_mean(str(key), _KEYS)}')
        for key in located.value
        if key not in _KEYS
    ]
    problems += _side_by_problems(located)
    if not isinstance(located.value.get("thresholds", {}), dict):
        problems.append(located.problem(("thresholds",), '"thresholds" must be a mapping of stages to their limits'))
    with_limits = [name for name, model in models.items() if model is not None]
    for stage, stated in _thresholds(located).items():
        model = models.get(stage)
        if model is None:
            hint = did_you_mean(str(stage), with_limits)
            problems.append(located.problem(("thresholds", stage), f'"{stage}" is no stage with limits{hint}'))
            continue
        try:
            model.model_validate(stated)
        except ValidationError as error:
            problems += model_problems(error, located, model, ("thresholds", stage))
    return problems


def _located(home: Home) -> tuple[Located | None, list[Problem]]:
    path = home.prompts / "settings.yaml"
    if not path.exists():
        return None, []
    file = home.relative(path)
    try:
        return parse_yaml(read_text(path, file), file), []
    except UserError as error:
        return None, error.problems


def _thresholds(located: Located | None) -> dict[str, Any]:
    value = located.value if located is not None else None
    stated = value.get("thresholds") if isinstance(value, dict) else None
    return stated if isinstance(stated, dict) else {}
