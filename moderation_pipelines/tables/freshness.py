"""Freshness by content: a partition records the versions of what it was made from, and is stale when any of them
changed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import date

from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.warehouse import Partition, Warehouse


class Versions:
    """Versions of partitions as they stand, each looked up once."""

    def __init__(self, warehouse: Warehouse, tables: Mapping[str, Table]) -> None:
        self._warehouse, self._tables = warehouse, tables
        self._known: dict[str, str | None] = {}

    def now(self, name: str) -> str | None:
        """Version of ``table/day`` or ``table``: empty when it was never written, None when it is no stored table."""
        if name not in self._known:
            table, _, day = name.partition("/")
            known = self._tables.get(table)
            if known is None or known.daily != bool(day):
                self._known[name] = None
            else:
                version = self._warehouse.version(known, date.fromisoformat(day) if day else None)
                self._known[name] = version or ""
        return self._known[name]

    def changed(self, partition: Partition) -> list[str]:
        """What a partition was made from and is another version now, by name; sorted."""
        return sorted(
            name
            for name, version in partition.made_from.items()
            if not name.startswith("in_force/") and self.now(name) not in (None, version)
        )


def stale_days(warehouse: Warehouse, tables: Mapping[str, Table], of: Iterable[Table]) -> dict[date, str]:
    """Days of the tables ``of`` whose rows rest on rows that were replaced since, with a digest of what changed to
    what.

    Equal digests mean that nothing changed since; they tell a run that was asked for from one that is still to be.
    """
    versions = Versions(warehouse, tables)
    found: dict[date, list[str]] = {}
    for table in of:
        for day in warehouse.days(table):
            partition = warehouse.partition(table, day)
            changed = [] if partition is None else versions.changed(partition)
            if changed:
                found.setdefault(day, []).extend(f"{table.name}<{name}={versions.now(name)}" for name in changed)
    return {
        day: hashlib.blake2b("\n".join(sorted(parts)).encode(), digest_size=8).hexdigest()
        for day, parts in sorted(found.items())
    }
