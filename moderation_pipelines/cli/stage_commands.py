"""Commands that stages bring. A stage's code is imported when its command is used."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from moderation_pipelines.wiring.stage import Command, Stage


class LineGroup(TyperGroup):
    """The program's own commands, and those of every stage by name.

    The stages are looked through when a name is not the program's own, or when all of them are listed.
    """

    stage_commands: dict[str, Command] | None = None

    def _of_stages(self) -> dict[str, Command]:
        if self.stage_commands is None:
            from moderation_pipelines.orchestration.stages import all_stages

            self.stage_commands = commands_of(all_stages())
        return self.stage_commands

    def list_commands(self, ctx: Any) -> list[str]:
        return [*super().list_commands(ctx), *self._of_stages()]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        found = self._of_stages().get(cmd_name)
        return None if found is None else as_click(found)


def commands_of(stages: tuple[Stage, ...]) -> dict[str, Command]:
    """The commands of every stage, by name, in the order of the stages."""
    return {command.name: command for stage in stages for command in stage.commands}


def as_click(command: Command) -> Any:
    """What runs a stage's command: a Typer app as it is, a function as an app of its own."""
    run: Any = command.load()
    if isinstance(run, typer.Typer):
        made = typer.main.get_command(run)
    else:
        app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        app.command()(run)
        made = typer.main.get_command(app)
    made.name = command.name
    return made
