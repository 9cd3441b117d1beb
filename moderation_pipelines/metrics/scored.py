"""One slice of a scored release as arrays, and samples of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from moderation_pipelines.metrics.metric import Judged
from moderation_pipelines.stats.arrays import FloatArray, IntArray
from moderation_pipelines.stats.bootstrap import bootstrap_weights
from moderation_pipelines.stats.design import Labelled


@dataclass(frozen=True)
class Scored:
    """One slice as arrays, one entry per item. ``flagged`` and ``p`` are NaN where missing.

    ``stratum``: the stratum it was drawn from, None where strata are not known. ``strata_hold_labels``: whether they
    are of one label each, so that their sizes in the frame fix the share violating. ``cluster``: what items are
    clustered by, None where each stands alone.
    """

    truth: FloatArray
    flagged: FloatArray
    p: FloatArray
    weight: FloatArray
    p_label: FloatArray
    stratum: np.ndarray | None = None
    strata_hold_labels: bool = False
    cluster: IntArray | None = None

    @staticmethod
    def of(frame: pl.DataFrame, strata_hold_labels: bool, strata_are_known: bool = True) -> Scored:
        """Columns violating, outcome, flagged, p_violating, weight, p_label, stratum, cluster (null in all rows where
        items are not clustered)."""
        floats = frame.select(
            truth=pl.col("violating").cast(pl.Float64),
            flagged=pl.when(pl.col("outcome") == "verdict").then(pl.col("flagged").cast(pl.Float64)),
            p=pl.when(pl.col("outcome") == "verdict").then(pl.col("p_violating")),
            weight=pl.col("weight"),
            p_label=pl.col("p_label"),
        ).fill_null(float("nan"))
        truth, flagged, p, weight, p_label = (floats[c].to_numpy() for c in floats.columns)
        stratum = frame["stratum"].to_numpy() if strata_are_known else None
        cluster = None
        if "cluster" in frame.columns and frame["cluster"].null_count() < frame.height:
            codes = frame["cluster"].rank("dense").cast(pl.Int64).to_numpy() - 1
            cluster = codes.astype(np.int64) if codes.max(initial=-1) + 1 < len(codes) else None
        return Scored(truth, flagged, p, weight, p_label, stratum, strata_hold_labels, cluster)

    def where(self, mask: np.ndarray) -> Scored:
        """Some of the items."""
        return self._some(mask, self.weight)

    def _some(self, mask: np.ndarray, weight: FloatArray) -> Scored:
        return Scored(
            self.truth[mask],
            self.flagged[mask],
            self.p[mask],
            weight[mask],
            self.p_label[mask],
            None if self.stratum is None else self.stratum[mask],
            self.strata_hold_labels,
            None if self.cluster is None else self.cluster[mask],
        )

    def weighted_for_missing(self, there: np.ndarray) -> Scored:
        """The items ``there``, their weights raised by those of their stratum that are not.

        A stratum without any stays out: nothing stands for it. Source: Särndal, Swensson & Wretman (1992),
        Model Assisted Survey Sampling, section 15.6 (response homogeneity groups).
        """
        codes, n = self.codes, int(self.codes.max(initial=0)) + 1
        every = np.bincount(codes, weights=self.weight, minlength=n)
        answered = np.bincount(codes, weights=np.where(there, self.weight, 0.0), minlength=n)
        raised = self.weight * (every / np.where(answered > 0, answered, 1.0))[codes]
        return self._some(there, raised)

    @cached_property
    def codes(self) -> IntArray:
        """Code of each item's stratum; all 0 where strata are not known."""
        if self.stratum is None:
            return np.zeros(len(self.truth), np.int64)
        return np.unique(self.stratum, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def samples(self, replicates: int, seed: int) -> Iterator[FloatArray]:
        """Weights of bootstrap samples of items, samples x items; within strata that do not hold the label."""
        fixed = None if self.strata_hold_labels else self.stratum
        return bootstrap_weights(len(self.truth), replicates, seed, self.weight, fixed)

    def samples_with_labels(self, replicates: int, seed: int) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Bootstrap samples with the reference labels drawn again from their posterior: (weights, truth)."""
        generator = np.random.default_rng(seed + 7)
        for weights in self.samples(replicates, seed):
            yield weights, (generator.random(weights.shape) < self.p_label).astype(np.float64)

    @property
    def judged(self) -> Judged:
        """What metrics of labels see of it."""
        return Judged(self.truth, self.flagged, self.weight)

    @property
    def labelled(self) -> Labelled:
        """What metrics of probabilities see of it."""
        return Labelled(self.truth, self.p, self.weight, self.codes, self.strata_hold_labels)

    @property
    def labels_are_sure(self) -> bool:
        """Whether no label could be drawn another way."""
        return bool(np.isin(self.p_label, (0.0, 1.0)).all())

    @property
    def labels_are_unknown(self) -> bool:
        """Whether there is a label of which nothing says how sure it is."""
        return bool(np.isnan(self.p_label).any())
