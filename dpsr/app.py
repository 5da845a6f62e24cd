# SPDX-License-Identifier: GPL-3.0-or-later
"""All commands and their help."""

from typing import Any, Final

from dpsr.quick import typer  # isort: split

from core.version import VERSION
from dpsr import ci, installer, operator, technician

_GROUPS: Final = (
    ("For the installer", ("disks", "plan", "prepare", "fixup", "forget")),
    ("For everybody", ("status", "update", "history", "verify")),
    ("For the technician", ("switch", "guard", "hide", "reveal", "card")),
    ("To get things back", ("rollback",)),
    ("For CI jobs and the curious", ("drill", "demo")),
)


class _ByUser(typer.core.TyperGroup):
    """Help that lists the commands by who needs them."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, group by group; one that is in no group comes last."""
        left = dict.fromkeys(self.list_commands(ctx))
        for title, names in (*_GROUPS, ("More", tuple(left))):
            found = [
                (name, command)
                for name in names
                if name in left and (command := self.get_command(ctx, name)) is not None
            ]
            for name, _ in found:
                del left[name]
            found = [(name, command) for name, command in found if not command.hidden]
            if found:
                with formatter.section(title):
                    formatter.write_dl(
                        [(name, command.get_short_help_str(200)) for name, command in found]
                    )


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dpsr {VERSION}")
        raise typer.Exit


def _common(
    _version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
    _debug: bool = typer.Option(
        False, "--debug", help="Show where in the program an unexpected fault arose."
    ),
) -> None:
    """Keep a complete, directly bootable copy of this system on a second disk.

    DISK is a serial number, a WWN, a /dev/disk/by-... link or a /dev/... name.

    Example: dpsr disks
    """


def application() -> Any:
    """The application with all its commands."""
    app = typer.Typer(
        cls=_ByUser,
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
    )
    app.callback()(_common)
    for commands in (installer, operator, technician, ci):
        commands.add_commands(app)
    return app
