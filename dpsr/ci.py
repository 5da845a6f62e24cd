# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands for the CI job: boots a disk image and answers yes or no."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final, Optional

import typer

from core.errors import (
    DrillCheckFailed,
    DrillDegraded,
    DrillEmergency,
    DrillEnded,
    DrillFailed,
    DrillLocked,
    DrillNoConfig,
    DrillNoLoader,
    DrillPanic,
    DrillSilent,
    NotRoot,
)

if TYPE_CHECKING:
    from images.drill import Outcome
    from images.vm import Firmware

_FIRMWARE: Final[dict[str, "tuple[Firmware | None, bool | None]"]] = {
    "": (None, None), "bios": ("bios", None),
    "uefi": ("uefi", False), "uefi-secure": ("uefi", True),
}  # fmt: skip

_FAILURES: Final[dict[str, type[DrillFailed]]] = {
    "panic": DrillPanic, "no-loader": DrillNoLoader, "no-config": DrillNoConfig,
    "emergency": DrillEmergency, "degraded": DrillDegraded, "locked": DrillLocked,
    "check-failed": DrillCheckFailed, "silent": DrillSilent, "ended": DrillEnded,
}  # fmt: skip


def drill(
    image: str = typer.Argument(
        "", help="Disk image (raw or qcow2), or a disk; else this machine's DPSR disk."
    ),
    firmware: str = typer.Option(
        "", help="uefi, uefi-secure or bios; what fits to the disk when not given."
    ),
    timeout: float = typer.Option(600.0, min=1.0, help="Seconds until it counts as silent."),
    junit: Optional[Path] = typer.Option(None, help="Write the result as JUnit XML to this file."),  # noqa: UP045
    screenshot: Optional[Path] = typer.Option(  # noqa: UP045
        None, help="Write what the screen shows at the end to this PNG file."
    ),
    memory: int = typer.Option(1024, min=128, help="Memory of the virtual machine, in MiB."),
    bus: str = typer.Option("", help="How the disk is attached: virtio, scsi, nvme or sata."),
    check: str = typer.Option(
        "", metavar="SCRIPT", help="Run this in the copy; it passes when the script ends with 0."
    ),
    name: str = typer.Option("system", metavar="NAME", help="Of which backup set."),
    as_json: bool = typer.Option(False, "--json", help="Print the result as JSON."),
    progress: str = typer.Option("auto", help="auto, plain or json."),
) -> None:
    """Boot a copy in a virtual machine and see whether a system comes up.

    Works on a throw-away overlay and without network: nothing is written to image or disk. An
    image needs no root. `status` shows how the DPSR disk of this machine did last.

    Example: dpsr drill backup.qcow2 --junit drill.xml --screenshot drill.png
    """
    from core.screen import screen_for
    from images import cache
    from images.drill import Order
    from images.drill import drill as carry_out
    from images.vm import BUSES
    from recovery import drilled

    if firmware not in _FIRMWARE:
        raise typer.BadParameter("say uefi, uefi-secure or bios", param_hint="--firmware")
    if bus and bus not in BUSES:
        raise typer.BadParameter("say virtio, scsi, nvme or sata", param_hint="--bus")
    if os.geteuid() != 0 and not drilled.is_file(image):
        raise NotRoot("drill")
    screen = screen_for(progress)
    with drilled.held(image, name, screen) as what:
        script = drilled.check_of(check or what.check)
        kept = cache.folder() / "drills"
        kept.mkdir(exist_ok=True)
        console = kept / f"{what.image.name}.console.log"
        picture = kept / f"{what.image.name}.png" if screenshot is None else screenshot
        order = Order(
            what.image, *_FIRMWARE[firmware], what.secure, BUSES[bus] if bus else what.bus,
            timeout, memory, screenshot=picture, console=console, check=script,
        )  # fmt: skip
        outcome = carry_out(order, screen.step)
        try:
            drilled.keep(what, outcome)
        except OSError as reason:
            screen.warn(f"This could not be recorded: {reason}.")
    if junit is not None:
        from images.junit import junit as as_junit

        junit.write_text(as_junit(outcome, what.image.name), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps(outcome.as_json(), indent=2))
    elif outcome.passed:
        typer.echo(_good_news(outcome, what.image))
    if not outcome.passed:
        raise _failure(outcome, what.image, console)


def demo(
    pictures: Path = typer.Option(Path("dpsr-demo"), help="Folder for the screenshots."),
    deb: Optional[Path] = typer.Option(None, help="The package to show; else our own."),  # noqa: UP045
) -> None:
    """Show the whole story on virtual disks: copy a system, wreck it, start the copy.

    Needs QEMU; touches nothing of this machine. The first run builds a small Debian.

    Example: dpsr demo --pictures /tmp/pictures
    """
    from images import cache
    from images.demo import demo as play
    from images.package import own_package
    from images.stage import stage_for

    stage = stage_for()
    with cache.scratch() as folder, stage.shown():
        told = play(deb or own_package(folder), pictures, stage)
    typer.echo("From power-on, with the DPSR disk alone:")
    for moment in told.timeline:
        typer.echo(f"  {moment.seconds:6.1f} s  {moment.what}")
    typer.echo("Screenshots: " + ", ".join(str(picture) for picture in told.pictures))


def add_commands(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command()(drill)
    app.command()(demo)


def _good_news(outcome: "Outcome", image: Path) -> str:
    what = f"generation {outcome.generation} of {image.name}" if outcome.generation else image.name
    how = f"{outcome.seconds:.0f} s after power-on by {_by(outcome)}"
    return f"Passed: {what} boots ({outcome.says}, {how})."


def _by(outcome: "Outcome") -> str:
    return outcome.firmware.upper() + (" with Secure Boot" if outcome.secure else "")


def _failure(outcome: "Outcome", image: Path, console: Path) -> DrillFailed:
    kind = _FAILURES[str(outcome.verdict)]
    places = f"Console: {console}"
    if outcome.screenshot is not None:
        places += f"; screen: {outcome.screenshot}"
    return kind(
        f"{image.name} did not pass: {outcome.says} "
        f"({outcome.verdict}, after {outcome.seconds:.0f} s by {_by(outcome)}).",
        f"{places}.",
    )
