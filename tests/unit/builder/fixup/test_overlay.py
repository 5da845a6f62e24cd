# SPDX-License-Identifier: GPL-3.0-or-later
"""An overlay that is full is told from other trouble, and a lot is brought by several overlays."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from builder.copying.direct import SlotWriter
from builder.fixup import fix, overlay
from builder.fixup.fat import Refresh
from builder.fixup.overlay import CHUNK, Overlay, explained
from core.errors import CommandFailed, FixupFailed
from core.model.copy import Identity, Slot, Volume


@pytest.fixture
def status(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """By overlay, what dmsetup says of it."""
    said: dict[str, str] = {}
    monkeypatch.setattr(overlay, "run", lambda _program, _what, name: said[name])
    return said


def layer(name: str) -> Overlay:
    return Overlay(name, f"/dev/{name}", f"/dev/sdb-{name}", -1, 64 << 20)


@pytest.mark.parametrize("full", ["Invalid", "131072/131072 256"])
@pytest.mark.parametrize(
    "reason", [OSError(errno.EIO, "Input/output error"), CommandFailed("mount", 32, "bad")]
)
def test_a_full_overlay_is_the_reason(status: dict[str, str], full: str, reason: Exception) -> None:
    status |= {"root": "0 1000 snapshot 16/131072 16", "efi": f"0 1000 snapshot {full}"}
    with (
        pytest.raises(FixupFailed, match="sdb-efi do not fit into 64 MiB"),
        explained(layer("root"), layer("efi")),
    ):
        raise reason


def test_other_trouble_is_said_as_it_is(status: dict[str, str]) -> None:
    status |= {"root": "0 1000 snapshot 16/131072 16"}
    with (
        pytest.raises(FixupFailed, match=r"No space left on device \(/x\)"),
        explained(layer("root")),
    ):
        raise OSError(errno.ENOSPC, "No space left on device", "/x")
    with pytest.raises(CommandFailed), explained(layer("root")):
        raise CommandFailed("mount", 32, "bad")


class Fake(Overlay):
    """An overlay made of files."""

    def changes(self) -> list[tuple[int, bytes]]:
        content = Path(self.path).read_bytes()
        return [(at, content[at : at + CHUNK]) for at in range(0, len(content), CHUNK)]


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slot of eight chunks; a refresh brings two of them at a time, and counts in the first."""
    path = tmp_path / "slot"
    path.write_bytes(b"\0" * CHUNK * 8)

    @contextmanager
    def over(origin: str, name: str) -> Iterator[Fake]:
        copy = tmp_path / "overlay"
        assert not copy.exists(), "one overlay at a time"
        copy.write_bytes(Path(origin).read_bytes())
        yield Fake(name, str(copy), origin, -1, 0)
        copy.unlink()

    def go_on(refresh: Refresh, device: str, name: str) -> bool:
        content = bytearray(Path(device).read_bytes())
        done = content[0]
        for number in (done, done + 1)[: 8 - done]:
            content[number * CHUNK + 1 : (number + 1) * CHUNK] = bytes([number]) * (CHUNK - 1)
        content[0] = min(8, done + 2)
        Path(device).write_bytes(content)
        return content[0] == 8

    monkeypatch.setattr(fix, "overlay", over)
    monkeypatch.setattr(Refresh, "go_on", go_on)
    return path


NOBODY = Identity("", "", "", "")
VOLUME = Volume(
    "/boot/efi", "/dev/sda1", (8, 1), "/dev/sda", 0, 8 * CHUNK, "vfat", 0, 512, (), NOBODY
)
SLOT = Slot("efi", "volume", "/boot/efi", "vfat", 3, 0, 8 * CHUNK, NOBODY)


def test_what_is_too_much_goes_to_the_slot_a_lot_at_a_time(image: Path) -> None:
    """The first block comes last; each overlay goes on with that of the one before."""
    known = ((0, b"\2" + b"\1" * (CHUNK - 1)),)
    writer = SlotWriter(str(image))
    with ExitStack() as stack:
        found = fix._with_files(VOLUME, SLOT, str(image), known, writer, stack)
        on_slot = image.read_bytes()
        assert on_slot[:CHUNK] == bytes(CHUNK)
        assert [on_slot[at * CHUNK + 1] for at in range(8)] == [0, 0, 2, 3, 4, 5, 0, 0]
        fixed = fix._fixed(SLOT, found, known, ())
    writer.close()
    assert [offset // CHUNK for offset, _ in fixed.data] == [6, 7]
    assert fixed.identity == ((0, b"\x08" + b"\1" * (CHUNK - 1)),)
    assert not Path(found.path).exists()
