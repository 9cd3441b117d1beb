"""Real data homes reproduce values computed with reference implementations outside the project."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from moderation_pipelines.agreement.daily import agreement_table, voted_with_items
from moderation_pipelines.consensus.labels import consensus_labels, latest_consensus
from moderation_pipelines.consensus.tables import CONSENSUS
from moderation_pipelines.foundation.home import Home
from moderation_pipelines.foundation.settings import Settings
from moderation_pipelines.ingest.day import ingest_day
from moderation_pipelines.ingest.landing import landing_days
from moderation_pipelines.ingest.tables import CONTENT, QUARANTINE
from moderation_pipelines.policies.policy import Policies, load_policies
from moderation_pipelines.tables.warehouse import Warehouse
from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import modpipe, real_home

pytestmark = pytest.mark.homes


def ingested(home: Home) -> tuple[Warehouse, Policies]:
    warehouse, policies = Warehouse(home), load_policies(home)
    for day in landing_days(home):
        ingest_day(warehouse, policies, day, Settings())
    return warehouse, policies


def agreement_of(warehouse: Warehouse, policies: Policies) -> pl.DataFrame:
    days = warehouse.days(VOTES)
    voted = voted_with_items(warehouse.scan(VOTES), warehouse.scan(CONTENT), policies)
    return agreement_table(voted, policies, days[0], days[-1], 100)


def values(table: pl.DataFrame, coefficient: str, slice_name: str, policy: str) -> dict[str | None, float]:
    rows = table.filter(coefficient=coefficient, slice=slice_name, policy=policy)
    return dict(rows.select("slice_value", "value").iter_rows())


ALPHA = {
    "ar": 0.572555,
    "de": 0.597899,
    "es": 0.750516,
    "fr": 0.327864,
    "hi": 0.722327,
    "it": 0.80722,
    "nl": 0.619675,
    "pl": 0.793599,
    "pt": 0.743273,
    "zh": 0.505918,
}
AGREE = {
    "ar": 0.828721,
    "de": 0.818381,
    "es": 0.901736,
    "fr": 0.806527,
    "hi": 0.889481,
    "it": 0.92159,
    "nl": 0.828597,
    "pl": 0.912626,
    "pt": 0.896324,
    "zh": 0.764625,
}
RIGHT = {
    "ar": 0.931373,
    "de": 0.958025,
    "es": 0.975968,
    "fr": 0.787789,
    "hi": 0.951192,
    "it": 0.992683,
    "nl": 0.903851,
    "pl": 0.979554,
    "pt": 0.958819,
    "zh": 0.885435,
}


def test_hate_multilingual(tmp_path: Path) -> None:
    warehouse, policies = ingested(real_home("hate_multilingual", tmp_path / "home"))
    votes = warehouse.scan(VOTES).group_by("kind").len().collect()
    assert dict(votes.iter_rows()) == {"vote": 109_770, "gold": 36_582}
    table = agreement_of(warehouse, policies)
    assert values(table, "krippendorff_alpha", "locale", "hate") == pytest.approx(ALPHA, abs=1e-6)
    assert values(table, "percent_agreement", "locale", "hate") == pytest.approx(AGREE, abs=1e-6)
    assert values(table, "krippendorff_alpha", "all", "hate")[None] == pytest.approx(0.657193, abs=1e-6)
    assert values(table, "percent_agreement", "all", "hate")[None] == pytest.approx(0.857830, abs=1e-6)
    for day in warehouse.days(VOTES):
        past = [d for d in warehouse.days(VOTES) if d <= day]
        warehouse.write(CONSENSUS, consensus_labels(warehouse.scan(VOTES, past), policies, day), day)
    locales = warehouse.scan(CONTENT).select("item_id", "locale")
    labels = (
        latest_consensus(warehouse.scan(CONSENSUS))
        .join(locales, on="item_id")
        .filter(pl.col("gold_label").is_not_null())
    )
    right = labels.group_by("locale").agg((pl.col("majority_label") == pl.col("gold_label")).mean()).collect()
    assert dict(right.iter_rows()) == pytest.approx(RIGHT, abs=1e-6)


@pytest.mark.slow
def test_abuse_dialogue_end_to_end(tmp_path: Path) -> None:
    home = real_home("abuse_dialogue", tmp_path / "home")
    done = modpipe("run", "--home", str(home.root))
    assert done.returncode == 0, done.stderr[-3000:]
    warehouse = Warehouse(home)
    assert warehouse.scan(VOTES).select(pl.len(), pl.col("is_current").sum()).collect().row(0) == (12_768, 12_411)
    table = agreement_of(warehouse, load_policies(home))
    expected = {
        "krippendorff_alpha_nominal": 0.437374,
        "krippendorff_alpha_ordinal": 0.659766,
        "krippendorff_alpha_interval": 0.733922,
        "percent_agreement": 0.793528,
        "krippendorff_alpha_violating": 0.652337,
    }
    found = {name: values(table, name, "all", "abuse")[None] for name in expected}
    assert found == pytest.approx(expected, abs=1e-6)


def test_gendered_abuse(tmp_path: Path) -> None:
    warehouse, policies = ingested(real_home("gendered_abuse", tmp_path / "home"))
    quarantined = warehouse.scan(QUARANTINE).collect()
    assert (quarantined.height, set(quarantined["rule"])) == (7, {"unknown_label"})
    assert warehouse.scan(VOTES).select(pl.len(), pl.col("is_abstain").sum()).collect().row(0) == (98_120, 336)
    table = agreement_of(warehouse, policies)
    expected = {
        "gendered_abuse": {"uli-en": 0.402462, "uli-hi": 0.396546, "uli-ta": 0.490023},
        "gendered_abuse_directed": {"uli-en": 0.258251, "uli-hi": 0.314523, "uli-ta": 0.411443},
        "explicit_aggressive": {"uli-en": 0.351027, "uli-hi": 0.501290, "uli-ta": 0.721802},
    }
    for policy, alphas in expected.items():
        assert values(table, "krippendorff_alpha", "pool", policy) == pytest.approx(alphas, abs=1e-6)


def test_openai_moderation(tmp_path: Path) -> None:
    warehouse, policies = ingested(real_home("openai_moderation", tmp_path / "home"))
    gold = warehouse.scan(VOTES).group_by("policy").agg(yes=(pl.col("label") == "yes").sum(), known=pl.len()).collect()
    assert {p: (y, n) for p, y, n in gold.iter_rows()} == {
        "sexual": (152, 899), "hate": (161, 726), "violence": (92, 1405), "harassment": (75, 1399), "self_harm": (51, 1402),
        "hate_threatening": (41, 716), "violence_graphic": (22, 1402),
    }  # fmt: skip
    content = warehouse.scan(CONTENT).collect()
    assert content["text"].len() - content["text"].n_unique() == 9
    copies = content.filter(pl.col("duplicate_of").is_not_null()).join(
        content.select(duplicate_of="item_id", first="text"), on="duplicate_of"
    )
    assert copies.filter(pl.col("text") == pl.col("first")).height == 9
    assert content["locale_source"].unique().to_list() == ["detected"]
    table = agreement_of(warehouse, policies)
    assert table["value"].null_count() == table.height
    assert table["n_items"].sum() == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", ["hate_multilingual", "gendered_abuse", "openai_moderation"])
def test_the_other_homes_run_end_to_end(tmp_path: Path, name: str) -> None:
    home = real_home(name, tmp_path / "home")
    done = modpipe("run", "--home", str(home.root))
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(home.reports.rglob("report.html"))
