"""Commands of the stage."""

from typing import Annotated

import typer
from rich.markup import escape

from moderation_pipelines.foundation.home import find_home
from moderation_pipelines.rendering.terminal import HomeOption, out, print_table

app = typer.Typer(
    help="Eval-set releases: list, show, diff.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@app.command("list")
def sets_list(home: HomeOption = None) -> None:
    """Every release of every set."""
    from moderation_pipelines.eval_sets.release import eval_set_names, releases

    place = find_home(home)
    rows = []
    for name in eval_set_names(place):
        for r in releases(place, name):
            m = r.manifest
            warned = ", ".join(m["validation"]["failed_warning"]) or "none"
            rows.append(
                [
                    name,
                    r.version,
                    m["policy"],
                    f"{m['rows']:,}",
                    f"{m['rows_violating']:,}",
                    (m["created_at"] or "–")[:10],
                    m["content_sha256"][:12],
                    warned,
                ]
            )
    if not rows:
        out.print("no release yet; `modpipe run` makes them")
        return
    print_table(["set", "version", "policy", "items", "violating", "as of", "content", "warnings"], rows, right=(3, 4))


@app.command("show")
def sets_show(
    name: str,
    version: Annotated[str | None, typer.Argument(help="e.g. v0002. Default: the newest.")] = None,
    home: HomeOption = None,
) -> None:
    """A release's dataset card."""
    from moderation_pipelines.eval_sets.release import find_release, releases

    place = find_home(home)
    there = releases(place, name)
    release = find_release(place, name, version or (there[-1].version if there else "1"))
    out.print(escape((release.path / "README.md").read_text(encoding="utf-8")))
    out.print(f"Files: {escape(str(release.path))}")


@app.command("diff")
def sets_diff(name: str, old: str, new: str, home: HomeOption = None) -> None:
    """What changed between two releases: items added, removed, relabelled, by id."""
    from moderation_pipelines.eval_sets.release import find_release, release_diff

    place = find_home(home)
    diff = release_diff(find_release(place, name, old), find_release(place, name, new))
    out.print(f"{escape(diff.name)} {diff.old} → {diff.new}: {escape(diff.summary())}")
    for item in diff.added:
        out.print(f"+ {escape(item)}", style="green")
    for item in diff.removed:
        out.print(f"- {escape(item)}", style="red")
    for item, before, after in diff.relabelled:
        out.print(f"~ {escape(item)}: {escape(before)} → {escape(after)}", style="yellow")
    for item in diff.edited:
        out.print(f"~ {escape(item)}: text changed", style="yellow")
    for item in diff.revised:
        out.print(f"~ {escape(item)}: votes or probability changed", style="dim")
