"""Releases: candidate, audit, publication by one rename. A published release is never written again.

Same inputs give the same bytes: rows in canonical order, posteriors rounded to six digits, and ``created_at`` is the
day of the newest drop that fed the release, not the clock.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
import pyarrow.parquet as pq
import yaml

from moderation_pipelines.consensus.basis import with_basis
from moderation_pipelines.consensus.purity import label_purity, purity_text
from moderation_pipelines.eval_sets.selection import NO_LABEL, Frame
from moderation_pipelines.eval_sets.specs import EvalSetSpec, load_specs_leniently
from moderation_pipelines.eval_sets.tables import EVAL_SET_ITEMS
from moderation_pipelines.eval_sets.tree import canonical_lines, leaves, root, wrong_rows
from moderation_pipelines.foundation.errors import Problem, ReadFailure, UserError, did_you_mean
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.policies.policy import Policies, Policy
from moderation_pipelines.tables import store
from moderation_pipelines.tables.layout import as_today
from moderation_pipelines.tables.sql import Releases
from moderation_pipelines.tables.store import write_text
from moderation_pipelines.tables.warehouse import write_parquet

MANIFEST_VERSION = 2
_VERSION = re.compile(r"v(\d{4,})")
_DIGITS = 6


@dataclass(frozen=True)
class Release:
    """One published version of an eval set."""

    name: str
    version: str
    path: Path

    @cached_property
    def manifest(self) -> dict[str, Any]:
        try:
            value = store.read_json(self.path / "manifest.json")
        except ReadFailure as error:
            raise ReadFailure(f"release {self.name} {self.version}: manifest.json cannot be read") from error
        assert isinstance(value, dict)
        return value

    @property
    def manifest_version(self) -> int:
        """1: ``content_sha256`` is one hash over the rows; 2: the root of a tree over them."""
        return int(self.manifest.get("manifest_version", 1))

    @property
    def policy(self) -> str:
        return str(self.manifest["policy"])

    def verify(self) -> None:
        """Raises :class:`ReadFailure` when a row is not as published, naming the first."""
        items = self.items().select(self.columns)
        if self.manifest_version == 1:
            wrong = [] if rows_sha256(items) == self.manifest["content_sha256"] else ["*"]
        else:
            wrong = wrong_rows(items, pl.read_parquet(self.path / "leaves.parquet"), self.manifest["content_sha256"])
        if wrong:
            which = "its rows" if wrong == ["*"] else f"{len(wrong):,} of its rows, the first {wrong[0]},"
            raise ReadFailure(
                f"release {self.name} {self.version}: {which} are not what was published; restore it from a copy"
            )

    @cached_property
    def violating_labels(self) -> tuple[str, ...]:
        """The labels that violate, by the policy text pinned with the release."""
        pinned = yaml.safe_load((self.path / "policy.yaml").read_text(encoding="utf-8"))
        return tuple(label["id"] for label in pinned["labels"] if label["violating"])

    @property
    def stratify_by(self) -> tuple[str, ...]:
        """The columns its strata were made of."""
        return tuple(self.manifest["spec"]["stratify_by"])

    @property
    def unlabelled_share(self) -> float:
        """Share of the items voted on that have no label: ties, and votes that all abstain."""
        manifest = self.manifest
        return float(manifest.get("left_out", {}).get(NO_LABEL, 0) / max(manifest.get("n_judged", 0), 1))

    def items(self) -> pl.DataFrame:
        """The release's rows, in canonical order. Raises :class:`ReadFailure` if the file is not as published."""
        with self._as_published() as stream:
            return EVAL_SET_ITEMS.picked(as_today(EVAL_SET_ITEMS, pl.read_parquet(stream).lazy())).collect()

    @cached_property
    def columns(self) -> list[str]:
        """The columns it was published with: those that came later are null in :meth:`items`."""
        return [c for c in EVAL_SET_ITEMS.columns if c in self.manifest["schema"]]

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[list[tuple[Any, ...]]]:
        """Some columns of the rows, ``size`` rows at a time, in canonical order; memory does not grow with the rows.

        Raises :class:`ReadFailure` if the file is not as published, before the first chunk.
        """
        with self._as_published() as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            there = [c for c in columns if c in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=size, columns=there, use_threads=False):
                values = {c: batch.column(c).to_pylist() for c in there}
                nothing = [None] * batch.num_rows
                yield list(zip(*(values.get(c, nothing) for c in columns), strict=True))

    @contextmanager
    def _as_published(self) -> Iterator[BinaryIO]:
        """The open file of rows, once its hash was compared: what is read is what was hashed."""
        try:
            stream = (self.path / "items.parquet").open("rb")
        except OSError as error:
            raise ReadFailure(f"release {self.name} {self.version}: items.parquet cannot be read") from error
        with stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != self.manifest["items_sha256"]:
                raise ReadFailure(
                    f"release {self.name} {self.version}: items.parquet is not what was published (its hash differs "
                    "from manifest.json); restore it from a copy"
                )
            stream.seek(0)
            yield stream

    def validation(self) -> list[dict[str, Any]]:
        """The audit's result per expectation, as stored with the release."""
        value = store.read_json(self.path / "validation.json")
        assert isinstance(value, list)
        return value


def releases(home: Home, name: str) -> list[Release]:
    """Published versions of a set, oldest first."""
    folder = home.eval_sets / name
    versions = [(int(m.group(1)), folder / n) for n in store.names(folder) if (m := _VERSION.fullmatch(n))]
    found = [(number, path) for number, path in versions if store.is_folder(path)]
    return [Release(name, path.name, path) for _, path in sorted(found)]


def eval_set_names(home: Home) -> list[str]:
    """Names of sets with at least one release."""
    there = [n for n in store.names(home.eval_sets) if store.is_folder(home.eval_sets / n)]
    return [name for name in there if releases(home, name)]


def release_files(home: Home) -> Releases:
    """The files of items of every release, for SQL."""
    there = (r.path / "items.parquet" for name in eval_set_names(home) for r in releases(home, name))
    return Releases(EVAL_SET_ITEMS, list(there))


def current_release(home: Home, name: str) -> Release | None:
    found = releases(home, name)
    return found[-1] if found else None


def current_releases(home: Home, policies: Policies) -> list[Release]:
    """The release in force of every set the specs name, where there is one."""
    specs, _ = load_specs_leniently(home, policies)
    found = ((policy.id, current_release(home, spec.name)) for policy in policies for spec in specs[policy.id])
    return [release for policy, release in found if release is not None and release.policy == policy]


def find_release(home: Home, name: str, version: str) -> Release:
    """A release by set and version (``v0002``, ``v2`` or ``2``). Raises :class:`UserError` naming what is there."""
    there = releases(home, name)
    if not there:
        raise UserError(f'eval set "{name}" has no release{did_you_mean(name, eval_set_names(home))}')
    match = re.fullmatch(r"v?(\d+)", version)
    for release in there:
        if match and int(release.version[1:]) == int(match.group(1)):
            return release
    known = ", ".join(r.version for r in there)
    raise UserError(f'eval set "{name}" has no version "{version}"; known: {known}')


def canonical_rows(items: pl.DataFrame) -> pl.DataFrame:
    """Release rows as they are hashed and written: sorted by item, probabilities rounded to six digits."""
    struct = pl.struct(pl.element().struct.field("label"), pl.element().struct.field("probability").round(_DIGITS))
    return items.sort("item_id").with_columns(
        pl.col("posterior").list.eval(struct), pl.col("probability").round(_DIGITS)
    )


def rows_sha256(items: pl.DataFrame) -> str:
    """Hash of the rows in canonical order, independent of the file format: ``content_sha256`` of manifests of version
    1."""
    digest = hashlib.sha256()
    for line in canonical_lines(items):
        digest.update(line + b"\n")
    return digest.hexdigest()


@dataclass(frozen=True)
class Candidate:
    """A release before its audit."""

    spec: EvalSetSpec
    policy: Policy
    items: pl.DataFrame
    frame: Frame
    sources: list[dict[str, Any]]
    secret: bytes
    measured_purity: dict[str, Any] | None = None

    @cached_property
    def leaves(self) -> pl.DataFrame:
        """Salt and leaf of every row."""
        return leaves(self.items, self.spec.name, self.secret)

    @cached_property
    def content_sha256(self) -> str:
        """Root of the tree over the rows."""
        return root(self.leaves["leaf"].to_list())

    def same_as(self, release: Release | None) -> bool:
        """Whether publishing would give nothing new: same rows, spec and policy text."""
        if release is None:
            return False
        m = release.manifest
        if (m["policy_sha256"], m["spec"]) != (self.policy.sha256, json.loads(self.spec.model_dump_json())):
            return False
        rows = self.items.select(release.columns)
        if release.manifest_version == 1:
            return bool(m["content_sha256"] == rows_sha256(rows))
        # The rows, not the root of their tree: with another secret (lost, or a home copied without it) that differs.
        # What an earlier version called a probability and was a share is read as that: no new version for the word.
        before = with_basis(release.items().lazy()).select(release.columns).collect()
        return bool(m["rows"] == rows.height) and before.equals(rows)


def release_sources(
    items: pl.DataFrame, policy: str, content: pl.LazyFrame, votes: pl.LazyFrame, drops: pl.LazyFrame
) -> list[dict[str, Any]]:
    """Drop files that fed the rows: feed, drop_date, drop_file, sha256; sorted."""
    ids = items.lazy().select("item_id")
    place = ["feed", "drop_date", "drop_file"]
    fed = pl.concat(
        [
            content.join(ids, on="item_id", how="semi").select(
                feed=pl.lit("content"), drop_date="drop_date", drop_file="drop_file"
            ),
            votes.filter(pl.col("policy") == policy)
            .join(ids, on="item_id", how="semi")
            .select(feed=pl.lit("labels"), drop_date="drop_date", drop_file="drop_file"),
        ]
    ).unique()
    rows = fed.join(drops.select(*place, "sha256"), on=place, how="left").sort(place).collect()
    return [{**row, "drop_date": str(row["drop_date"])} for row in rows.iter_rows(named=True)]


@dataclass(frozen=True)
class Published:
    """What became of an eval set: ``status`` is published, unchanged, empty, failed (its audit), or broken (nothing
    could be built; ``reason`` says why)."""

    name: str
    status: str
    release: Release | None
    results: list[dict[str, Any]]
    candidate_path: Path | None = None
    reason: str | None = None

    @property
    def failed(self) -> list[dict[str, Any]]:
        return [r for r in self.results if not r["passed"] and r["severity"] == "critical"]


Audit = Callable[[Candidate], list[dict[str, Any]]]
Page = Callable[[Candidate, str, list[dict[str, Any]]], str]
RELEASE_FILES = (
    "items.parquet", "leaves.parquet", "manifest.json", "README.md", "policy.yaml",
    "validation.json", "validation.html",
)  # fmt: skip


def publish(home: Home, candidate: Candidate, audit: Audit, page: Page) -> Published:
    """Write, audit, publish. Nothing new: the current release stands. Audit failed: the candidate is kept aside.

    ``audit`` returns one result per expectation; ``page`` renders the validation page. Two processes may publish at
    once: each builds in a folder of its own, and the second finds what the first has published.
    """
    name = candidate.spec.name
    with store.lock(home.warehouse / "_locks" / f"eval_set-{name}"):
        current = current_release(home, name)
        if candidate.same_as(current):
            assert current is not None
            return Published(name, "unchanged", current, current.validation())
        if candidate.items.is_empty():
            return Published(name, "empty", current, [], reason=candidate.frame.why_empty)
        number = 1 if current is None else int(current.version[1:]) + 1
        version = f"v{number:04d}"
        results = audit(candidate)
        with store.staging(home.warehouse) as folder:
            building = store.make_folder(folder / name)
            _build(candidate, building, version, current, results, page)
            if any(not r["passed"] and r["severity"] == "critical" for r in results):
                kept = home.candidates / name / candidate.content_sha256[:12]
                store.move_folder(building, kept)
                return Published(name, "failed", current, results, kept)
            final = home.eval_sets / name / version
            store.publish(building, final, RELEASE_FILES)
        return Published(name, "published", Release(name, version, final), results)


def _build(
    candidate: Candidate,
    building: Path,
    version: str,
    parent: Release | None,
    results: list[dict[str, Any]],
    page: Page,
) -> None:
    """Write every file of a release into a folder."""
    write_parquet(candidate.items, building / "items.parquet")
    write_parquet(candidate.leaves, building / "leaves.parquet")
    manifest = release_manifest(candidate, version, parent, results, building / "items.parquet")
    write_text(building / "manifest.json", json.dumps(manifest, ensure_ascii=False, indent=2) + "\n")
    write_text(building / "README.md", dataset_card(manifest))
    write_text(building / "policy.yaml", candidate.policy.source)
    write_text(building / "validation.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
    write_text(building / "validation.html", page(candidate, version, results))


def release_manifest(
    candidate: Candidate,
    version: str,
    parent: Release | None,
    results: Sequence[dict[str, Any]],
    items_file: Path,
) -> dict[str, Any]:
    """The manifest: everything that made the release."""
    items, spec, policy = candidate.items, candidate.spec, candidate.policy
    drawn = dict(items.group_by("stratum").len().iter_rows())
    sizes = sorted(candidate.frame.items.group_by("stratum").len().iter_rows()) if items.height else []
    if drawn.keys() == {"all"}:
        sizes = [("all", candidate.frame.items.height)]
    newest = max((s["drop_date"] for s in candidate.sources), default=None)
    return {
        "manifest_version": MANIFEST_VERSION,
        "name": spec.name,
        "version": version,
        "policy": policy.id,
        "policy_title": policy.title,
        "policy_version": policy.version,
        "policy_sha256": policy.sha256,
        "content_sha256": candidate.content_sha256,
        "items_sha256": store.sha256(items_file),
        "rows": items.height,
        "rows_violating": int(items["violating"].sum()),
        "labels": {label: items.filter(pl.col("label") == label).height for label in policy.label_ids},
        "label_bases": dict(sorted(items.group_by("basis").len().iter_rows())),
        "label_methods": dict(sorted(items.group_by("method").len().iter_rows())),
        "gold_purity": label_purity(items, policy.violating_labels).as_dict(candidate.measured_purity),
        "schema": {name: str(dtype) for name, dtype in items.schema.items()},
        "spec": json.loads(spec.model_dump_json()),
        "seed": spec.seed,
        "frame": [{"stratum": s, "frame_size": n, "drawn": drawn.get(s, 0)} for s, n in sizes],
        "n_judged": candidate.frame.n_judged,
        "left_out": candidate.frame.left_out,
        "sources": candidate.sources,
        "parent_version": None if parent is None else parent.version,
        "created_at": None if newest is None else f"{newest}T00:00:00Z",
        "validation": {
            "passed": all(r["passed"] or r["severity"] != "critical" for r in results),
            "expectations": len(results),
            "failed_critical": [r["id"] for r in results if not r["passed"] and r["severity"] == "critical"],
            "failed_warning": [r["id"] for r in results if not r["passed"] and r["severity"] == "warning"],
        },
    }


def dataset_card(m: dict[str, Any]) -> str:
    """The release's README.md: what it is, where it comes from, how to use it."""
    share = m["rows_violating"] / m["rows"]
    labels = "\n".join(f"| {label} | {n:,} |" for label, n in m["labels"].items())
    strata = "\n".join(
        f"| {s['stratum'].replace('|', '·')} | {s['frame_size']:,} | {s['drawn']:,} |" for s in m["frame"]
    )
    left = "\n".join(f"- {n:,}: {reason}" for reason, n in m["left_out"].items() if n) or "- nothing"
    methods = ", ".join(f"{method} {n:,}" for method, n in m["label_methods"].items())
    sources = "\n".join(f"- {s['feed']}/{s['drop_date']}/{s['drop_file']}" for s in m["sources"])
    warned = ", ".join(m["validation"]["failed_warning"]) or "none"
    return f"""\
# Eval set {m["name"]}, {m["version"]}

{m["rows"]:,} items judged by policy "{m["policy_title"]}" (`{m["policy"]}`, version {m["policy_version"]}; its text is
pinned in `policy.yaml`). {m["rows_violating"]:,} violate it ({share:.1%} of the items drawn, unweighted).

## Labels

| label | items |
| --- | --- |
{labels}

Decided by: {methods}.

{purity_text(m["gold_purity"])}

## How the items were drawn

From the eval side only, by seeded hash (seed {m["seed"]}), by {", ".join(m["spec"]["stratify_by"]) or "nothing"}.
Every row has its `inclusion_probability` and `weight`: an estimate for the frame needs the weights. Rows that share a
`side_key` are clustered: intervals of independent items are too narrow for them.

| stratum | in the frame | drawn |
| --- | --- | --- |
{strata}

Left out of the frame:

{left}

## Audit

{m["validation"]["expectations"]} expectations; critical ones failed: 0; warnings: {warned}. See `validation.html`.

## Sources

As of {m["created_at"]}; parent version: {m["parent_version"] or "none"}; content hash `{m["content_sha256"]}`.

{sources}

## Do not

Train, tune, calibrate or pick few-shot examples on these items: use the development side.
"""


@dataclass(frozen=True)
class ReleaseDiff:
    """What changed from one release to another."""

    name: str
    old: str
    new: str
    added: list[str]
    removed: list[str]
    relabelled: list[tuple[str, str, str]]
    reweighted: list[str]
    edited: list[str]
    revised: list[str]
    settings: list[str]

    @property
    def is_empty(self) -> bool:
        changed = (self.added, self.removed, self.relabelled, self.reweighted, self.edited, self.revised, self.settings)
        return not any(changed)

    def summary(self) -> str:
        """One line, e.g. ``+12 items, -3 items, 2 labels changed``."""
        parts = [
            f"+{len(self.added):,} items" if self.added else "",
            f"-{len(self.removed):,} items" if self.removed else "",
            f"{len(self.relabelled):,} labels changed" if self.relabelled else "",
            f"{len(self.edited):,} texts changed" if self.edited else "",
            f"{len(self.reweighted):,} weights changed" if self.reweighted else "",
            f"votes or probability of {len(self.revised):,} items changed" if self.revised else "",
            *self.settings,
        ]
        return ", ".join(p for p in parts if p) or "no difference"


def release_diff(old: Release, new: Release) -> ReleaseDiff:
    """Items added, removed, relabelled, edited and reweighted between two releases of a set, by id."""
    a, b = old.items(), new.items()
    columns = ["item_id", "label", "weight", "text_sha256"]
    both = a.select(columns).join(b.select(columns), on="item_id", suffix="_new").sort("item_id")
    relabelled = both.filter(pl.col("label") != pl.col("label_new")).select("item_id", "label", "label_new")
    settings = [
        f"{what} changed"
        for what, key in (("policy text", "policy_sha256"), ("spec", "spec"))
        if old.manifest[key] != new.manifest[key]
    ]
    return ReleaseDiff(
        new.name,
        old.version,
        new.version,
        sorted(set(b["item_id"]) - set(a["item_id"])),
        sorted(set(a["item_id"]) - set(b["item_id"])),
        [(i, x, y) for i, x, y in relabelled.iter_rows()],
        both.filter((pl.col("weight") - pl.col("weight_new")).abs() > 1e-9)["item_id"].to_list(),
        both.filter(pl.col("text_sha256") != pl.col("text_sha256_new"))["item_id"].to_list(),
        _revised(a, b, [c for c in old.columns if c in new.columns]),
        settings,
    )


def _revised(a: pl.DataFrame, b: pl.DataFrame, columns: Sequence[str]) -> list[str]:
    """Items with the same label that rest on other votes, or are otherwise not the same row."""
    watched = ("text_sha256", "label", "weight", "inclusion_probability", "stratum")
    rest = [c for c in columns if c not in ("item_id", *watched)]
    both = a.select("item_id", "label", old=pl.struct(rest).struct.json_encode()).join(
        b.select("item_id", "label", new=pl.struct(rest).struct.json_encode()), on=["item_id", "label"]
    )
    return both.filter(pl.col("old") != pl.col("new"))["item_id"].sort().to_list()


def broken_releases(home: Home) -> list[Problem]:
    """Releases whose items are not as published."""
    problems = []
    for name in eval_set_names(home):
        for release in releases(home, name):
            try:
                release.verify()
            except ReadFailure as error:
                problems.append(Problem(home.relative(release.path), None, str(error)))
    return problems
