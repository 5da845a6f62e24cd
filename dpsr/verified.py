# SPDX-License-Identifier: GPL-3.0-or-later
"""How `dpsr verify` reads, for people and for programs. Pure."""

from typing import Any, Final

from builder.check.sums import BIOS_IMAGE, BOOT_SECTOR
from builder.verify import Damage, Report
from core.errors import CopyDamaged
from core.screen import human

_SHOWN: Final = 40
_WORDS: Final = {
    BOOT_SECTOR: "the boot sector", BIOS_IMAGE: "GRUB's image for BIOS",
}  # fmt: skip
_AGAIN: Final = (
    "`dpsr fixup` with that disk puts the loader there again, an update the rescue system."
)


def as_text(report: Report) -> str:
    """What is damaged, line by line, then what all of it comes to."""
    lines = [_line(each) for each in report.damages[:_SHOWN]]
    if (more := len(report.damages) - _SHOWN) > 0:
        lines.append(f"... and {more} more")
    lines += report.vault
    lines += [
        f"{_WORDS.get(each, each)} on the control partition is damaged" for each in report.control
    ]
    lines += report.notes
    if report.is_good:
        lines.append(
            f"All {human(report.checked)} of generation {report.generation} are as they were "
            "written."
        )
    return "\n".join(lines) + "\n"


def as_data(report: Report) -> dict[str, Any]:
    """The same for programs."""
    return {
        "good": report.is_good,
        "generation": report.generation,
        "taken": report.taken,
        "checked_bytes": report.checked,
        "damaged_blocks": report.blocks,
        "mended_blocks": report.mended,
        "damaged": [
            {
                "slot": each.slot,
                "mountpoint": each.mountpoint,
                "what": each.what,
                "offsets": list(each.offsets),
                "unreadable_blocks": each.unreadable,
                "mended_blocks": each.mended,
                "remedy": each.remedy if each.mended < len(each.offsets) else None,
            }
            for each in report.damages
        ],
        "vault": list(report.vault),
        "control": list(report.control),
        "notes": list(report.notes),
    }


def trouble(report: Report, *, repair: bool) -> CopyDamaged | None:
    """How the command ends when something was damaged."""
    if report.is_good:
        return None
    parts = []
    if report.blocks:
        parts.append(f"{report.blocks} blocks of {len(report.damages)} files or other parts")
    parts += [f"{len(found)} {what}" for found, what in (
        (report.vault, "things in the vault"), (report.control, "files on the control partition"),
    ) if found]  # fmt: skip
    sentence = f"Damaged on the DPSR disk: {', '.join(parts)}."
    hints = []
    if report.blocks:
        left = report.blocks - report.mended
        sentence += f" {_how_many(report.mended, left)}"
        if left:
            hints.append(
                "What helps is said above."
                if repair
                else "`dpsr verify --repair` fetches from "
                "this system what is unchanged there; `dpsr update --full` brings the rest."
            )
    if report.control:
        hints.append(_AGAIN)
    return CopyDamaged(sentence, " ".join([*hints, CopyDamaged.hint]))


def _how_many(mended: int, left: int) -> str:
    if not mended:
        return "Nothing was mended."
    return f"{mended} blocks were mended, {left} were not." if left else "All blocks were mended."


def _line(each: Damage) -> str:
    count = len(each.offsets)
    said = f"{each.what} ({each.slot}): {count} block{'s' if count > 1 else ''} damaged"
    if each.unreadable:
        said += f", {each.unreadable} of them unreadable"
    if each.mended == count:
        return f"{said}, mended"
    return f"{said}{f', {each.mended} mended' if each.mended else ''}; {each.remedy}"
