# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the installer, who makes the first full clone: disks, plan, prepare, fixup."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import typer

from core.errors import NotConfirmed, NotRoot, WrongSerialTyped
from dpsr.asking import agreed

if TYPE_CHECKING:
    from builder.plan.wish import Wish
    from core.model.copy import Plan

_DISK = typer.Argument(
    ..., metavar="DISK", help="Serial number, WWN, /dev/disk/by-... link or /dev/... name."
)
_NAME = typer.Option("system", metavar="NAME", help="What to call this backup set.")
_VOLUME = typer.Option([], metavar="MOUNTPOINT", help="Copy this one too. May be repeated.")
_EXCLUDE = typer.Option([], metavar="MOUNTPOINT", help="Leave this one out. May be repeated.")
_JSON = typer.Option(False, "--json", help="Print one JSON document.")
_PROGRESS = typer.Option("auto", help="auto, plain or json.")


def disks(as_json: bool = _JSON) -> None:
    """List the disks of this machine and what each is there for.

    Example: dpsr disks
    """
    from core import settings
    from core.hidden import away_now
    from core.machine.find import fitting
    from core.machine.look import look
    from core.machine.roles import Role, role_of
    from dpsr.tables import disk_as_json, disk_table

    machine = look()
    sets = settings.load().sets
    recorded = {known.guid for known in sets}
    found = [(disk, role_of(machine, disk, recorded)) for disk in machine.disks]
    for known in sets:
        gone = away_now(known)
        if gone is not None and not fitting(machine, known.serial, known.wwn, known.guid):
            found.append((gone.disk, Role("dpsr", "hidden; `dpsr reveal` shows it")))
    if as_json:
        typer.echo(json.dumps([disk_as_json(disk, role) for disk, role in found], indent=2))
    else:
        typer.echo(disk_table(found), nl=False)


def plan(
    disk: str = _DISK,
    name: str = _NAME,
    volume: list[str] = _VOLUME,
    exclude: list[str] = _EXCLUDE,
    as_json: bool = _JSON,
) -> None:
    """Show what `prepare` would do with DISK. Writes nothing.

    Example: dpsr plan S3Z1NB0K123456
    """
    wish = _wish(name, volume, exclude)
    from builder.flow import show
    from builder.plan.render import render, to_json
    from core.screen import screen_for

    planned = show(disk, wish, screen_for("plain"))
    if as_json:
        typer.echo(json.dumps(to_json(planned), indent=2))
    else:
        typer.echo(render(planned), nl=False)


def prepare(
    disk: str = typer.Argument(
        "",
        metavar="DISK",
        show_default=False,
        help="As for the other commands. With --again it may be left out.",
    ),
    yes: bool = typer.Option(
        False, "--yes", help="Do not ask. DISK must be a serial number, a WWN or a by-id link."
    ),
    name: str = _NAME,
    volume: list[str] = _VOLUME,
    exclude: list[str] = _EXCLUDE,
    again: bool = typer.Option(
        False, "--again", help="Lay the DPSR disk out anew: file systems grew, came or went."
    ),
    progress: str = _PROGRESS,
) -> None:
    """Make the first full clone of the running system on DISK. Everything on DISK is lost.

    Asks for the serial number of the disk. A run that was interrupted goes on when it is started
    again. With --again there is no copy that starts until it is complete.

    Example: dpsr prepare S3Z1NB0K123456
    """
    check_progress(progress)
    wish = replace(_wish(name, volume, exclude), yes=yes, again=again)
    if not disk and not again:
        raise typer.BadParameter("name the disk: `dpsr disks` lists them", param_hint="DISK")
    if os.geteuid() != 0:
        raise NotRoot("prepare")
    from builder.flow import prepare as carry_out
    from core.screen import screen_for
    from recovery.card import keep_on_disk

    screen = screen_for(progress)
    carry_out(disk, wish, screen, _confirmation(yes, quiet=progress == "json"))
    keep_on_disk(name, screen)


def fixup(disk: str = _DISK, progress: str = _PROGRESS) -> None:
    """Give a prepared disk, or a clone made by other means, its own identity and loader again.

    May be repeated. Example: dpsr fixup S3Z1NB0K123456
    """
    check_progress(progress)
    if os.geteuid() != 0:
        raise NotRoot("fixup")
    from builder.flow import fixup as carry_out
    from core.screen import screen_for

    carry_out(disk, screen_for(progress))


def forget(
    name: str = _NAME,
    yes: bool = typer.Option(False, "--yes", help="Do not ask."),
) -> None:
    """End the use of a DPSR disk: settings, records, boot entry. The copy on it stays as it is.

    Example: dpsr forget --name system
    """
    if os.geteuid() != 0:
        raise NotRoot("forget")
    from builder.forget import forget as carry_out
    from core import settings
    from core.screen import screen_for

    known = settings.load().named(name)
    what = f"{known.model}, {known.serial or known.wwn}"
    if not yes and not agreed(f"Forget the DPSR disk of {name} ({what})? [y/N] "):
        raise NotConfirmed("Nothing was changed.")
    carry_out(name, screen_for("plain"))
    typer.echo(f"{name} is forgotten. The copy on that disk ({what}) stays and still starts.")


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    for command in (disks, plan, prepare, fixup, forget):
        app.command()(command)


def _wish(name: str, volume: list[str], exclude: list[str]) -> "Wish":
    from builder.plan.wish import Wish
    from core.settings import is_name

    if not is_name(name):
        raise typer.BadParameter(
            "use up to 32 letters, digits, - and _, beginning with a letter or digit",
            param_hint="--name",
        )
    return Wish(name, tuple(volume), tuple(exclude))


def check_progress(progress: str) -> None:
    """Refuse another word than those that `--progress` takes."""
    if progress not in {"auto", "plain", "json"}:
        raise typer.BadParameter("say auto, plain or json", param_hint="--progress")


def _confirmation(yes: bool, *, quiet: bool) -> Callable[["Plan"], None]:
    """What shows the plan and asks; with `quiet` nothing is shown, for a program is watching."""

    def confirm(planned: "Plan") -> None:
        from builder.plan.render import render

        if not quiet:
            sys.stderr.write(render(planned) + "\n")
        if not yes:
            _ask_for_serial(planned)

    return confirm


def _ask_for_serial(planned: "Plan") -> None:
    if not sys.stdin.isatty():
        raise NotConfirmed("Nobody is there to confirm the disk. Nothing was written.")
    what, wanted = ("serial number", planned.serial) if planned.serial else ("WWN", planned.wwn)
    disk = " ".join(filter(None, (planned.disk, planned.model and f"({planned.model})")))
    sys.stderr.write(f"All data on {disk} is going to be lost.\nTo go on, type its {what}: ")
    sys.stderr.flush()
    typed = sys.stdin.readline().strip()
    if not typed:
        raise NotConfirmed("No serial number was typed. Nothing was written.")
    if typed != wanted:
        raise WrongSerialTyped(typed, planned.disk, wanted)
