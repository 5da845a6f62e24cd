# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of whoever keeps the machine running: status, update, history, verify, rollback."""

import json
import os
from typing import TYPE_CHECKING, Final

import typer

from core.errors import NotConfirmed, NotRoot, StepFailed, ToolError
from dpsr.asking import agreed, need_somebody
from dpsr.ending import tell

if TYPE_CHECKING:
    from recovery.rollback import Step

_NAME = typer.Option("system", metavar="NAME", help="Of which backup set.")
_JSON = typer.Option(False, "--json", help="Print one JSON document.")
_ASK_OR_SAY: Final = "Run it on a terminal, or with --yes."


def status(name: str = _NAME, as_json: bool = _JSON) -> None:
    """Say whether there is a good copy and how old it is, or that you are running from it.

    Exit code 0: there is a good copy. 70: there is none. 71: its disk is not there or does not
    answer. 73: the system has file systems that the copy does not hold.

    Example: dpsr status
    """
    from dpsr.status import show

    raise typer.Exit(show(name, as_json=as_json))


def update(
    name: str = _NAME,
    all_sets: bool = typer.Option(False, "--all", help="Every backup set, one after the other."),
    only: list[str] = typer.Option(
        [],
        metavar="MOUNTPOINT",
        help="Copy this one alone; the system itself stays together. May be repeated.",
    ),
    full: bool = typer.Option(
        False, "--full", help="Compare every block in use, whatever the file systems say."
    ),
    accept_change: bool = typer.Option(
        False, "--accept-change", help="Go on however much has changed."
    ),
    discard_work_on_copy: bool = typer.Option(
        False, "--discard-work-on-copy", help="Give up what was done on the copy after a boot."
    ),
    bandwidth: int = typer.Option(
        0, metavar="MB/S", min=0, help="Read and write at most this much; 0: no limit."
    ),
    progress: str = typer.Option("auto", help="auto, plain or json."),
) -> None:
    """Bring the copy up to date: only what changed is copied, while the system runs.

    A run that fails or is interrupted leaves the copy as it was before.

    Example: dpsr update
    """
    from dpsr.installer import check_progress

    check_progress(progress)
    if os.geteuid() != 0:
        raise NotRoot("update")
    from builder.flow import update as carry_out
    from builder.plan.wish import How
    from core import settings
    from core.screen import screen_for

    how = How(tuple(only), full, accept_change, discard_work_on_copy, bandwidth * 1_000_000)
    names = [known.name for known in settings.load().sets] if all_sets else []
    if len(names) < 2:
        carry_out(names[0] if names else name, how, screen_for(progress))
        return
    failed = []
    for each in names:
        try:
            carry_out(each, how, screen_for(progress))
        except ToolError as error:  # a disk that is away must not keep the others from theirs
            tell(error)
            failed.append(each)
    if failed:
        raise StepFailed(
            f"{len(failed)} of {len(names)} backups were not made: {', '.join(failed)}.",
            "What happened to each is said above.",
        )


def history(name: str = _NAME, as_json: bool = _JSON) -> None:
    """List the backups on the DPSR disk: when, what changed, how long it took and held up writers.

    Example: dpsr history
    """
    if os.geteuid() != 0:
        raise NotRoot("history")
    from builder.history import history as read
    from core.screen import screen_for
    from dpsr.generations import as_data, as_text

    found = read(name, screen_for("plain"))
    if as_json:
        typer.echo(json.dumps([as_data(each) for each in found], indent=2))
    else:
        typer.echo(as_text(found), nl=False)


def verify(
    name: str = _NAME,
    repair: bool = typer.Option(
        False, "--repair", help="Fetch damaged blocks from this system where it still has them."
    ),
    as_json: bool = _JSON,
    progress: str = typer.Option("auto", help="auto, plain or json."),
) -> None:
    """Read the DPSR disk back and name the files that are damaged on it (bit rot, stray writes).

    Without --repair nothing is written. Exit code 0: all is as it was written. 74: something is
    damaged; the message says how much, and whether it was mended. 75: it cannot be told, as after
    a start of the copy; it does not work on a system that runs from the DPSR disk either.

    Example: dpsr verify --repair
    """
    from dpsr.installer import check_progress

    check_progress(progress)
    if os.geteuid() != 0:
        raise NotRoot("verify")
    from builder.verify import verify as carry_out
    from core.screen import screen_for
    from dpsr.verified import as_data, as_text, trouble

    report = carry_out(name, screen_for(progress), repair=repair)
    if as_json:
        typer.echo(json.dumps(as_data(report), indent=2))
    else:
        typer.echo(as_text(report), nl=False)
    if found := trouble(report, repair=repair):
        raise found


def rollback(
    generation: int = typer.Argument(
        0,
        metavar="GENERATION",
        min=0,
        show_default=False,
        help="Its number; without it, those that can be gone back to are listed.",
    ),
    name: str = _NAME,
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
    as_json: bool = _JSON,
    progress: str = typer.Option("auto", help="auto, plain or json."),
) -> None:
    """Take the copy back to an older GENERATION, or list them. The primary is not touched.

    What was backed up after that generation is lost on the DPSR disk. Not possible any more once
    the copy was started. A run that is interrupted is gone on with by the same command, by the
    next update, or by the DPSR disk itself when it is started.

    Example: dpsr rollback 3
    """
    from dpsr.installer import check_progress

    check_progress(progress)
    if yes and not generation:
        raise typer.BadParameter("name the generation to go back to", param_hint="--yes")
    if os.geteuid() != 0:
        raise NotRoot("rollback")
    if generation and not yes:
        need_somebody(_ASK_OR_SAY)
    from core.screen import screen_for
    from dpsr.waysback import question, step_as_data, ways_as_data, ways_as_text
    from recovery import rollback as room

    def confirm(step: "Step") -> None:
        if not yes and not agreed(question(step)):
            raise NotConfirmed("The answer was not yes. Nothing was changed.", _ASK_OR_SAY)

    if generation:
        step = room.roll_back(name, generation, screen_for(progress), confirm)
        if as_json:
            typer.echo(json.dumps(step_as_data(step), indent=2))
        return
    found = room.ways(name, screen_for(progress))
    if as_json:
        typer.echo(json.dumps(ways_as_data(found), indent=2))
    else:
        typer.echo(ways_as_text(found), nl=False)


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    for command in (status, update, history, verify, rollback):
        app.command()(command)
