"""The one resource assets take: the home, the settings, and where progress is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.policies.policy import Policies, load_policies
from moderation_pipelines.tables.warehouse import Warehouse

Tell = Callable[[str], None]


def _silent(_: str) -> None:
    return None


@dataclass(frozen=True)
class Pipeline:
    """What every asset works on. ``tell`` shows a line of progress to whoever watches; it never sees item text.
    ``retry_errors``: judges are asked only for what failed before."""

    home: Home
    settings: Settings
    tell: Tell = _silent
    retry_errors: bool = False

    @property
    def warehouse(self) -> Warehouse:
        return Warehouse(self.home)

    def policies(self) -> Policies:
        return load_policies(self.home)


def day_of(partition_key: str) -> date:
    return date.fromisoformat(partition_key)
