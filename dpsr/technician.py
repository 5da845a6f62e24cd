# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of the technician, who changes what starts and what is in sight."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from core.errors import NotRoot

if TYPE_CHECKING:
    from grub.turn import Side

_NAME = typer.Option("system", metavar="NAME", help="Of which backup set.")
_JSON = typer.Option(False, "--json", help="Print one JSON document.")


def switch(
    to: str = typer.Argument(..., metavar="dpsr|primary|status", help="Which disk to start."),
    once: bool = typer.Option(False, "--once", help="The next start alone, as a trial."),
    emit: bool = typer.Option(False, "--emit", help="Print a script that does it, and do nothing."),
    name: str = _NAME,
    as_json: bool = _JSON,
) -> None:
    """Let the machine start from the DPSR disk, or from the primary again; `status` says which.

    Works from either disk. Never to an incomplete copy. With --once what is done on the copy is
    forgotten by the next update.

    Example: dpsr switch dpsr --once
    """
    sides: dict[str, Side | None] = {"dpsr": "dpsr", "primary": "primary", "status": None}
    if to not in sides:
        raise typer.BadParameter("say dpsr, primary or status", param_hint="dpsr|primary|status")
    side = sides[to]
    if side is None and (once or emit):
        raise typer.BadParameter("status only looks", param_hint="--once or --emit")
    if os.geteuid() != 0:
        raise NotRoot("switch")
    from core.screen import screen_for
    from dpsr import turns
    from grub.turn import Turn
    from recovery import switch as room
    from recovery.script import script

    if side is None:
        found = room.standing(name)
        text = (
            json.dumps(turns.as_data(found), indent=2) + "\n" if as_json else turns.as_text(found)
        )
    elif emit:
        text = script(name, Turn(side, once))
    else:
        room.switch(name, side, once=once, screen=screen_for("plain"))
        found_now = {"to": side, "once": once}
        text = json.dumps(found_now, indent=2) + "\n" if as_json else turns.done(Turn(side, once))
    typer.echo(text, nl=False)


def guard(
    what: str = typer.Argument(..., metavar="on|off|status|reset", help="What to do with it."),
    tries: int = typer.Option(3, min=1, max=9, help="Failed starts after which it acts."),
    name: str = _NAME,
    as_json: bool = _JSON,
) -> None:
    """Let GRUB start the DPSR disk by itself when this system fails to start again and again.

    GRUB counts starts, and waits some seconds in which a person can stop it. Once it has acted,
    the DPSR disk is started every time, until `dpsr guard reset` or `dpsr switch primary`.

    Example: dpsr guard on --tries 3
    """
    if what not in {"on", "off", "status", "reset", "good"}:
        raise typer.BadParameter("say on, off, status or reset", param_hint="on|off|status|reset")
    if os.geteuid() != 0:
        raise NotRoot("guard")
    from core.screen import screen_for
    from dpsr import turns
    from recovery import guard as room

    if what == "on":
        room.guard_on(name, tries, screen_for("plain"))
    elif what == "off":
        room.guard_off()
    elif what == "reset":
        room.reset()
    elif what == "good":
        room.good_start()
    found = room.status()
    text = json.dumps(turns.as_data(found), indent=2) + "\n" if as_json else turns.guard(found)
    typer.echo(text, nl=False)


def card(
    output: Path = typer.Option(Path("dpsr-card.html"), help="The file to write."),
    name: str = _NAME,
) -> None:
    """Write the recovery card: one page to print and keep at the machine, for who has to start it.

    Example: dpsr card --output /tmp/card.html
    """
    if os.geteuid() != 0:
        raise NotRoot("card")
    from recovery.card import write

    write(name, output)
    typer.echo(
        f"{output} is written. Next: open it in a browser, print it, keep it at the machine."
    )


def hide(as_json: bool = _JSON) -> None:
    """Take the DPSR disk away from this system now; it is so by itself after each run.

    Refused while a file system of the disk is mounted.

    Example: dpsr hide
    """
    if os.geteuid() != 0:
        raise NotRoot("hide")
    from dpsr import sights
    from recovery.sight import hide as carry_out

    found = carry_out()
    text = json.dumps(sights.as_data(found), indent=2) + "\n" if as_json else sights.hidden(found)
    typer.echo(text, nl=False)


def reveal(
    how_long: str = typer.Option(
        "10m", "--for", metavar="TIME", help="How long: 90s, 10m, 2h, 1d; then it is hidden again."
    ),
    name: str = _NAME,
    as_json: bool = _JSON,
) -> None:
    """Bring the DPSR disk back into sight for a while, read-only.

    Example: dpsr reveal --for 30m
    """
    from dpsr import sights

    seconds = sights.seconds(how_long)
    if seconds is None:
        raise typer.BadParameter("say it like 90s, 10m, 2h or 1d", param_hint="--for")
    if os.geteuid() != 0:
        raise NotRoot("reveal")
    from recovery.sight import reveal as carry_out

    found = carry_out(name, seconds)
    text = (
        json.dumps(sights.seen_as_data(found), indent=2) + "\n"
        if as_json
        else sights.revealed(found)
    )
    typer.echo(text, nl=False)


def announce() -> None:
    """Tell whoever logs in that this is the copy; dpsr-started.service runs it at each start.

    Example: dpsr announce
    """
    if os.geteuid() != 0:
        raise NotRoot("announce")
    from recovery.announce import announce as carry_out

    carry_out()


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    for command in (switch, guard, hide, reveal, card):
        app.command()(command)
    app.command(hidden=True)(announce)
