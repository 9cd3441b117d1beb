"""Every limit has one home, its stage; ``prompts/settings.yaml`` may state another value.

```yaml
thresholds:
  probes: {max_flips: 0.2}
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from moderation_pipelines.foundation.errors import Problem, UserError, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.located_yaml import Located, model_problems, parse_yaml, read_text

Limits = TypeVar("Limits", bound=BaseModel)


def load_thresholds(home: Home, stage: str, model: type[Limits]) -> Limits:
    """The limits of a stage; its own where the file states none, or states them with mistakes."""
    located, _ = _located(home)
    stated = _thresholds(located).get(stage)
    try:
        return model.model_validate(stated if isinstance(stated, dict) else {})
    except ValidationError:
        return model()


def thresholds_problems(home: Home, models: Mapping[str, type[BaseModel] | None]) -> list[Problem]:
    """Every mistake in ``prompts/settings.yaml``. ``models``: the limits of every stage, by its name."""
    located, problems = _located(home)
    if located is None:
        return problems
    if not isinstance(located.value, dict):
        return [Problem(located.file, 1, "must be a mapping; known: thresholds")]
    problems += [
        located.problem((key,), f'key "{key}" is not known{did_you_mean(str(key), ["thresholds"])}')
        for key in located.value
        if key != "thresholds"
    ]
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
