"""Tables of consensus: the label the votes of an item add up to, and how good each method is."""

from __future__ import annotations

import polars as pl

from moderation_pipelines.consensus.basis import BASES, CALIBRATED
from moderation_pipelines.tables.column import Column, count, estimate, flag, integer, share, text
from moderation_pipelines.tables.table import Table
from moderation_pipelines.tables.vocabulary import (
    DROP_DATE,
    ITEM_ID,
    LABEL_PROBABILITIES,
    NOTE,
    POLICY,
    WINDOW_DAY,
    high_share,
    low_share,
    p_value,
)

BASIS = text(
    "what probability, posterior and entropy rest on: an authority's word, shares of votes or of weighted votes (no "
    "probabilities), the method's posterior, or a calibration of these on gold; null without a counted vote",
    nullable=True,
    one_of=BASES,
    added=True,
)
LABEL_SHIFTS = pl.List(pl.Struct({"label": pl.String(), "shift": pl.Float64()}))

CONSENSUS = Table(
    "consensus",
    "one item x policy voted on that day, from all its votes in the window",
    ("item_id", "policy", "drop_date"),
    {
        "item_id": ITEM_ID,
        "policy": POLICY,
        "label": text("label the votes add up to; null when they are tied or all abstain", nullable=True),
        "violating": flag("whether that label violates the policy; null with the label", nullable=True),
        "method": text(
            "what decided: gold, adjudication, or the aggregation method; null without a counted vote", nullable=True
        ),
        "probability": share(
            "probability of the label; 1 for gold and adjudication; null without a label, and where basis is a share"
        ),
        "posterior": Column(
            LABEL_PROBABILITIES,
            "probability of every label, in the policy's order; null without votes, and where basis is a share",
            nullable=True,
        ),
        "entropy": estimate(
            "Shannon entropy of the posterior, or of the shares where basis is a share; 0 means certain; null without votes",
            minimum=0,
            unit="bits",
        ),
        "basis": BASIS,
        "n_votes": count("counted votes: current, not abstaining"),
        "n_raters": count("different named raters among them; anonymous votes count one each"),
        "n_abstain": count("current votes that abstained"),
        "vote_share": share("share of counted votes for the label; null without votes"),
        "is_tie": flag("two or more labels share the most votes"),
        "majority_label": text("label with the most votes; null when tied or without votes", nullable=True),
        "gold_label": text("label from an authority; null without one", nullable=True),
        "drop_date": DROP_DATE,
    },
)

CONSENSUS_METHODS = Table(
    "consensus_methods",
    "one aggregation method x policy, measured on the window's gold",
    ("policy", "method", "drop_date"),
    {
        "policy": POLICY,
        "method": text("aggregation method"),
        "is_chosen": flag("labels the policy on this day"),
        "accuracy": share(
            "share of gold items with votes it labels right, their gold unseen; of the chosen method that of choosing, each fold by the best on the others; ties are wrong; null with too little gold"
        ),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "n_gold": count("gold items with votes", unit="items"),
        "n_right": count("gold items labelled right", unit="items"),
        "mean_rank_error": estimate(
            "mean distance to gold in labels, of labelled items; null for a nominal scale", minimum=0
        ),
        "purity": share("share of the items it calls violating that gold calls violating; null when there is none"),
        "purity_low": low_share("95 % Clopper-Pearson interval"),
        "purity_high": high_share("95 % Clopper-Pearson interval"),
        "n_called_violating": count("gold items it calls violating: the n of purity", unit="items"),
        "p_value": p_value("exact McNemar test against the chosen method; null for that one"),
        "n_votes": count("counted votes in the window", unit="votes"),
        "iterations": count("iterations of the fit that knows all gold; null for methods without", nullable=True),
        "is_converged": flag("whether that fit settled; null for methods without iterations", nullable=True),
        "considered_gold": count(
            "gold items when the chosen method was last compared with the others; null for the others",
            nullable=True,
            unit="items",
            added=True,
        ),
        "slope": estimate(
            "what log posteriors of the chosen method (of majority: logs of its shares with one vote more spread over the "
            "labels) are multiplied by to fit gold, below 1 where it was too sure; null without a calibration",
            added=True,
        ),
        "shifts": Column(
            LABEL_SHIFTS,
            "what is then added to each label's, above 0 for labels it gave too little; null without a calibration",
            nullable=True,
            added=True,
        ),
        "n_calibrated": count(
            "gold items the calibration was fitted on; null without one", nullable=True, unit="items", added=True
        ),
        "note": NOTE.with_(meaning="reason why it was chosen, or why nothing was measured; null otherwise"),
        "drop_date": WINDOW_DAY,
    },
)

RELIABILITY = Table(
    "reliability",
    "one bin of stated probability (or vote share) of a policy's labels, compared with gold the fit did not see",
    ("policy", "source", "bin", "drop_date"),
    {
        "policy": POLICY,
        "method": text("aggregation method that labels the policy on this day"),
        "source": text(
            f"basis of the numbers in the bin; {CALIBRATED}: each fold of gold by the calibration of the others",
            one_of=BASES[1:],
        ),
        "bin": integer("bin of width .1: 0 is 0 to .1, 9 is .9 to 1", minimum=0, maximum=9),
        "mean_p": share("mean stated probability or share of the given label", nullable=False),
        "observed": share("share of these labels that match gold", nullable=False),
        "ci_low": low_share("95 % Wilson interval"),
        "ci_high": high_share("95 % Wilson interval"),
        "n": count("gold items in the bin; ties are in none", unit="items"),
        "drop_date": WINDOW_DAY,
    },
)
