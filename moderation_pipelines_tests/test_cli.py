"""The command line with bad input: a message, an exit code, never a traceback."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from moderation_pipelines.votes.tables import VOTES
from moderation_pipelines_tests.conftest import DAY, SmallHome, modpipe

VOTE = '{"item_id": "i%d", "policy": "harassment", "label": "%s", "rater_id": "r%d"}\n'


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run"], 1, "no drops under"),
        (["run", "--since", "2026-03-02", "--until", "2026-03-01"], 1, "is after --until"),
        (["run", "--date", "yesterday"], 2, "not a day like"),
        (["run", "--date", "2026-03-02", "--since", "2026-03-01"], 2, "--date stands alone"),
        (["eval-sets", "show", "nothing"], 1, 'eval set "nothing" has no release'),
        (["eval-sets", "show", "../../etc"], 1, "has no release"),
        (["sql", "selec 1"], 1, "SQL: Parser Error"),
        (["sql", "select * from '/etc/passwd'"], 1, "SQL:"),
        (["sql", "copy (select 1) to '/tmp/modpipe-never.csv'"], 1, "one SELECT"),
        (["sql", ""], 1, "one SELECT at a time"),
        (["sql", "select 1; select 2"], 1, "one SELECT at a time"),
        (["sql", "copy (select 1) to 'data/warehouse/x.parquet'"], 1, "one SELECT at a time"),
        (["drop", "/no/such/file.csv", "--feed", "labels"], 1, "no such file"),
    ],
)
def test_mistakes_on_the_command_line(small: SmallHome, arguments: list[str], code: int, said: str) -> None:
    done = modpipe(*arguments, "--home", str(small.home.root))
    assert done.returncode == code
    assert said in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not Path("/tmp/modpipe-never.csv").exists()


def test_a_home_that_is_not_there() -> None:
    done = modpipe("check", "--home", "/no/such/home")
    assert (done.returncode, "is not a folder" in done.stderr) == (1, True)


def test_check_lists_every_mistake_and_fails(small: SmallHome) -> None:
    small.write("prompts/harassment/policy.yaml", "id: harassment\ntitel: x\n")
    small.write("prompts/levels/examples.jsonl", "nonsense\n")
    done = modpipe("check", "--home", str(small.home.root))
    assert done.returncode == 1
    assert 'prompts/harassment/policy.yaml:2: key "titel" is not known; did you mean "title"?' in done.stderr
    assert "prompts/levels/examples.jsonl:1: not valid JSON" in done.stderr
    # The same mistakes stop a run before it starts.
    small.deliver("labels", "f.jsonl", VOTE % (1, "fine", 1))
    done = modpipe("run", "--home", str(small.home.root))
    assert (done.returncode, "titel" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_drop_checks_places_and_says_what_would_be_quarantined(small: SmallHome, tmp_path: Path) -> None:
    file = tmp_path / "votes.jsonl"
    file.write_text(VOTE % (1, "fine", 1) + VOTE % (2, "finne", 1) + "{\n")
    arguments = ["drop", str(file), "--feed", "labels", "--date", str(DAY), "--home", str(small.home.root)]
    done = modpipe(*arguments, "--check-only")
    placed = small.home.drops / "labels" / str(DAY) / "votes.jsonl"
    assert (done.returncode, placed.exists()) == (0, False)
    done = modpipe(*arguments)
    assert done.returncode == 0
    assert 'votes.jsonl:2: label "finne" is not in policy "harassment"; did you mean "fine"?' in done.stdout
    assert "votes.jsonl:3: not valid JSON" in done.stdout
    assert "3 rows: 1 good, 2 to quarantine, 0 duplicates" in done.stdout
    assert placed.read_bytes() == file.read_bytes()
    assert "unchanged:" in modpipe(*arguments).stdout
    file.write_text(VOTE % (1, "bad", 1))
    assert "replaced:" in modpipe(*arguments).stdout
    assert [p.name for p in placed.parent.iterdir()] == ["votes.jsonl"]


def test_drop_rejects_what_cannot_be_read_and_places_nothing(small: SmallHome, tmp_path: Path) -> None:
    file = tmp_path / "votes.csv.gz"
    file.write_bytes(b"not gzip")
    done = modpipe("drop", str(file), "--feed", "labels", "--date", str(DAY), "--home", str(small.home.root))
    assert (done.returncode, "rejected: not a valid gzip file" in done.stderr) == (1, True)
    assert not (small.home.drops / "labels").exists()


@pytest.mark.slow
def test_a_rejected_drop_fails_the_run_but_the_rest_goes_on(small: SmallHome) -> None:
    small.deliver("content", "c.jsonl", '{"item_id": "i1", "text": "hello", "locale": "en"}\n')
    small.deliver("labels", "a.jsonl", "".join(VOTE % (1, "fine", k) for k in range(3)))
    small.deliver("labels", "b.parquet", b"PAR1 but broken")
    done = modpipe("run", "--home", str(small.home.root))
    assert done.returncode == 1
    assert f"labels/{DAY}/b.parquet: rejected: not a valid Parquet file" in done.stderr
    assert "Traceback" not in done.stderr
    assert (small.home.reports / str(DAY) / "report.html").exists()
    assert (small.home.dagster_home / "dagster.yaml").exists()


@pytest.mark.slow
def test_gold_only_votes_only_and_empty_days_run_through(small: SmallHome) -> None:
    gold = '{"item_id": "i%d", "policy": "levels", "label": "mild", "kind": "gold"}\n'
    small.deliver("labels", "gold.jsonl", "".join(gold % k for k in range(5)))
    done = modpipe("run", "--home", str(small.home.root))
    assert done.returncode == 0, done.stderr
    report = (small.home.reports / str(DAY) / "report.html").read_text()
    assert "votes wait for their content" in report
    assert "No rater cards" in report


def test_demo_never_overwrites_what_people_wrote(tmp_path: Path) -> None:
    mine = tmp_path / "prompts" / "scams" / "policy.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    done = modpipe("demo", "--home", str(tmp_path))
    assert (done.returncode, mine.read_text()) == (1, "mine")
    assert "would be overwritten" in done.stderr
    assert modpipe("demo", "--home", "/dev/null/x").returncode == 1


@pytest.mark.slow
def test_a_judge_that_cannot_be_asked_stops_no_other_and_fails_the_run(small: SmallHome) -> None:
    judges = "endpoints:\n  far: {base_url: 'http://127.0.0.1:9/v1', api_key_env: NO_SUCH_KEY}\njudges:\n  llm: {endpoint: far, model: m}\n"
    small.write("prompts/judges.yaml", judges)
    items = [(k, "you awful pest %d" % k if k % 2 else "a lovely garden %d" % k) for k in range(80)]
    small.deliver(
        "content", "c.jsonl", "".join('{"item_id": "i%d", "text": "%s", "locale": "en"}\n' % i for i in items)
    )
    votes = "".join(VOTE % (k, "bad" if k % 2 else "fine", r) for k, _ in items for r in range(2))
    small.deliver("labels", "l.jsonl", votes)
    done = modpipe("run", "--home", str(small.home.root))
    assert done.returncode == 1
    assert "items have no answer: http://127.0.0.1:9/v1: the environment variable NO_SUCH_KEY is not set" in done.stderr
    assert "Traceback" not in done.stderr
    assert "baseline-ngram" in done.stdout
    report = (small.home.reports / str(DAY) / "report.html").read_text()
    assert "of llm on harassment ended as api_error" in report


@pytest.mark.slow
def test_a_withdrawn_drop_goes_with_the_next_run(small: SmallHome) -> None:
    kept = small.deliver("labels", "a.jsonl", VOTE % (1, "fine", 1))
    gone = small.deliver("labels", "b.jsonl", VOTE % (1, "bad", 2), DAY + timedelta(days=1))
    assert modpipe("run", "--home", str(small.home.root)).returncode == 0
    gone.unlink()
    done = modpipe("run", "--home", str(small.home.root))
    assert done.returncode == 0, done.stderr
    votes = small.warehouse.scan(VOTES).collect()
    assert votes["drop_file"].to_list() == [kept.name]
    assert "DEBUG" not in done.stderr
