"""Kinds: things of one sort, one file each, and those other packages bring by entry point.

A registry looks through one folder: every module there that has the registry's attribute adds what it holds. Entry
points of the group ``moderation_pipelines.<kind>`` add theirs. What is valid in YAML and on the command line is asked
of the registry.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from moderation_pipelines.foundation.errors import UserError, did_you_mean


class Named(Protocol):
    """What a registry holds: it has a name, unique within its kind."""

    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Named)


class Registry(Generic[T]):
    """Everything of one kind, by name, in the order of :attr:`order` and then by name."""

    def __init__(self, kind: str, folder: str, attribute: str, of: type[Any], order: str = "") -> None:
        """``folder``: the package whose modules hold one each; ``attribute``: the name it has there; ``of``: its type.
        ``order``: an attribute of the things to sort by before their names."""
        self.kind, self.folder, self.attribute, self.of, self.order = kind, folder, attribute, of, order

    @property
    def group(self) -> str:
        """The entry-point group by which other packages add to it."""
        return f"moderation_pipelines.{self.kind}"

    @cached_property
    def _found(self) -> dict[str, T]:
        found: dict[str, tuple[T, str]] = {}
        for thing, source in self._offered():
            if not isinstance(thing, self.of):
                raise UserError(f"{source}: {self.attribute} is not a {self.kind}")
            if thing.name in found:
                raise UserError(f'{self.kind} "{thing.name}" stands twice: in {found[thing.name][1]} and in {source}')
            found[thing.name] = (thing, source)

        def place(thing: T) -> tuple[Any, str]:
            return (getattr(thing, self.order) if self.order else 0, thing.name)

        return {t.name: t for t in sorted((t for t, _ in found.values()), key=place)}

    def _offered(self) -> Iterator[tuple[Any, str]]:
        package = import_module(self.folder)
        for module in sorted(m.name for m in pkgutil.iter_modules(package.__path__)):
            offered = getattr(import_module(f"{self.folder}.{module}"), self.attribute, None)
            for thing in offered if isinstance(offered, tuple) else () if offered is None else (offered,):
                yield thing, f"{self.folder}.{module}"
        for point in entry_points(group=self.group):
            yield loaded(point, self.kind), f"package {point.dist.name if point.dist else point.value}"

    def __iter__(self) -> Iterator[T]:
        return iter(self._found.values())

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __getitem__(self, name: str) -> T:
        """The one of that name. Raises :class:`UserError` with the nearest name."""
        if name not in self._found:
            raise UserError(f'{self.kind} "{name}" is not known{did_you_mean(name, self.names)}')
        return self._found[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._found)

    def forget(self) -> None:
        """Look again at the next use: for tests that add a package."""
        self.__dict__.pop("_found", None)


def loaded(point: EntryPoint, kind: str) -> Any:
    """What another package offers by an entry point. Raises :class:`UserError` naming it when it cannot be loaded."""
    try:
        return point.load()
    except Exception as error:  # noqa: BLE001 - whatever a package of others raises is told as its own
        raise UserError(
            f'{kind} "{point.name}" ({point.value}) cannot be loaded: {type(error).__name__}: {error}'
        ) from None


def resolve(reference: str) -> Any:
    """What a reference ``package.module:name`` names. Raises ImportError or AttributeError: a defect of who wrote
    it."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)
