"""Which releases a day is asked about: those in force when it was first scored, and those added while it was open."""

from __future__ import annotations

from datetime import date

from moderation_pipelines.eval_sets.release import Release, current_releases, find_release
from moderation_pipelines.foundation.errors import Problem, ReadFailure, UserError
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies
from moderation_pipelines.tables.in_force import IN_FORCE, RELEASE, Thing, add_releases, is_open, recorded
from moderation_pipelines.tables.warehouse import Warehouse


def asked_releases(home: Home, policies: Policies, warehouse: Warehouse, day: date) -> list[Release]:
    """Every release the day was asked about, oldest first. Today's are added while it is open. A day that is over and
    never was asked takes those the next day after it was: what was published since is not of its time."""
    before = _recorded(warehouse, day)
    if not before and not is_open(warehouse, day):
        later = (_recorded(warehouse, d) for d in warehouse.days(IN_FORCE) if d > day)
        before = add_releases(warehouse, day, next((things for things in later if things), []))
    if not before or is_open(warehouse, day):
        now = current_releases(home, policies)
        before = add_releases(
            warehouse, day, [Thing(RELEASE, r.name, r.version, r.manifest["content_sha256"]) for r in now]
        )
    return _there(home, before)


def _recorded(warehouse: Warehouse, day: date) -> list[Thing]:
    return [t for t in recorded(warehouse, day) if t.kind == RELEASE]


def releases_of(home: Home, warehouse: Warehouse, day: date) -> list[Release]:
    """Every release a day was asked about so far, oldest first; none if it never was."""
    return _there(home, _recorded(warehouse, day))


def in_force(releases: list[Release]) -> list[Release]:
    """Of several versions of one set the newest."""
    return list({r.name: r for r in sorted(releases, key=lambda r: (r.name, int(r.version[1:])))}.values())


def _there(home: Home, things: list[Thing]) -> list[Release]:
    found: list[Release] = []
    problems: list[Problem] = []
    for thing in things:
        place = f"data/warehouse/eval_sets/{thing.name}/{thing.version}"
        try:
            release = find_release(home, thing.name, thing.version)
        except UserError:
            problems.append(Problem(place, None, "is gone; the day was asked about it: restore it from a copy"))
            continue
        if release.manifest["content_sha256"] != thing.sha256:
            problems.append(Problem(place, None, "is another release than the day was asked about"))
            continue
        found.append(release)
    if problems:
        raise ReadFailure(problems)
    return sorted(found, key=lambda r: (r.name, int(r.version[1:])))
