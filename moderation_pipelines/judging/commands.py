"""Commands of the stage."""

from typing import Annotated

import typer
from rich.markup import escape

from moderation_pipelines.foundation.errors import UserError
from moderation_pipelines.foundation.home import find_home
from moderation_pipelines.rendering.terminal import HomeOption, err, failed, out, print_table


def batches(
    home: HomeOption = None,
    collect_: Annotated[
        bool, typer.Option("--collect", help="Ask the endpoints and settle what has ended; then run again.")
    ] = False,
    give_up: Annotated[
        str | None, typer.Option(metavar="BATCH", help="Stop waiting for a batch the provider has lost.")
    ] = None,
) -> None:
    """List the batches that judges with `via: batch` sent, newest last."""
    from moderation_pipelines.foundation.errors import did_you_mean
    from moderation_pipelines.judging.batch import collect
    from moderation_pipelines.judging.judges_file import load_judges
    from moderation_pipelines.judging.ledger.batches import Batches
    from moderation_pipelines.judging.ledger.ledger import open_ledger
    from moderation_pipelines.policies.policy import load_policies

    place = find_home(home)
    judges = load_judges(place, load_policies(place))
    problems: list[str] = []
    with open_ledger(place.ledger) as ledger:
        if collect_:
            done = collect(ledger, list(judges.endpoints.values()), place.batch_files)
            problems = done.problems
            answers = sum(b.settled for b in done.batches)
            err.print(f"{len(done.batches)} batches collected with {answers:,} answers; {done.open} still out.")
            for day in sorted({b.day for b in done.batches}):
                err.print(escape(f"Score the day again: modpipe run --home {place.root} --date {day}"))
        if give_up is not None:
            waiting = {b.name: b for b in [*Batches(ledger).open(), *Batches(ledger).unfinished()]}
            if give_up not in waiting:
                raise UserError(f'no batch "{give_up}" is out{did_you_mean(give_up, list(waiting))}')
            Batches(ledger).give_up(waiting[give_up])
        rows = Batches(ledger).all()
    print_table(
        ["day", "judge", "batch", "state", "requests", "settled", "failed", "note"],
        [[b.day, b.account, b.name, b.state, f"{b.requests:,}", f"{b.settled:,}", f"{b.failed:,}", b.note]
         for b in rows],
        right=(4, 5, 6),
    )  # fmt: skip
    if problems:
        raise failed("\n".join(problems))


def probe(
    judge: Annotated[str, typer.Argument(help="The judge, as named in prompts/judges.yaml.")],
    home: HomeOption = None,
) -> None:
    """Find out what a judge's endpoint can do (a handful of tiny requests) and keep it for the runs."""
    from moderation_pipelines.foundation.errors import did_you_mean
    from moderation_pipelines.judging.capabilities import profile_of
    from moderation_pipelines.judging.judges_file import load_judges
    from moderation_pipelines.judging.ledger.ledger import open_ledger
    from moderation_pipelines.judging.probing import probe as ask
    from moderation_pipelines.policies.policy import load_policies

    place = find_home(home)
    judges = load_judges(place, load_policies(place))
    if judge not in judges.judges:
        raise UserError(f'judge "{judge}" is not in prompts/judges.yaml{did_you_mean(judge, list(judges.judges))}')
    chosen = judges.judges[judge]
    endpoint = judges.endpoints[chosen.endpoint]
    found = ask(endpoint, chosen.model)
    with open_ledger(place.ledger) as ledger:
        ledger.keep_profile(endpoint.base_url, chosen.model, found)
    in_force = profile_of(endpoint, found if endpoint.probe else None)
    source = in_force.source or {}
    print_table(
        ["capability", "found", "in force", "because"],
        [[k, str(found.get(k, "–")), str(v), source.get(k, "–")] for k, v in in_force.as_dict().items()],
    )
    if not endpoint.probe:
        out.print("\nKept, but not used: the endpoint says probe: false. Set probe: true, or declare what was found.")
