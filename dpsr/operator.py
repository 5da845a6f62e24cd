# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of whoever keeps the machine running: status."""

import typer


def status(
    name: str = typer.Option("system", metavar="NAME", help="Of which backup set."),
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document."),
) -> None:
    """Say whether there is a good copy and how old it is, or that you are running from it.

    Exit code 0: there is a good copy. 70: there is none. 71: its disk is not there or does not
    answer.

    Example: dpsr status
    """
    from dpsr.status import show

    raise typer.Exit(show(name, as_json=as_json))


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command()(status)
