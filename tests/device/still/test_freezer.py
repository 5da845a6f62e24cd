# SPDX-License-Identifier: GPL-3.0-or-later
"""A freeze always ends: whoever dies, whoever interferes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from builder.still.freezer import Freezer, Interfered, wait_for_tick
from core import run as programs
from core import signals
from core.errors import FreezeFailed
from core.run import end, run, start
from tests.support import block
from tests.support.block import MIB

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="loop devices need root")


@pytest.fixture(params=["beside", "inside"])
def folders(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Path]]:
    """Two mounted file systems; inside: the second lies in a file on the first."""
    second = tmp_path / "second" if request.param == "beside" else tmp_path / "0" / "second"
    with ExitStack() as stack:
        mounted = []
        for number, image in enumerate((tmp_path / "first", second)):
            block.image(image, (300 - 200 * number) * MIB)
            run("mkfs.ext4", "-q", str(image))
            device = stack.enter_context(block.loop(image))
            mounted.append(stack.enter_context(block.mounted(device, tmp_path / str(number))))
        yield mounted
        while waiting:  # whoever waited to write must have been let go
            assert waiting.pop().wait(10) == 0


waiting: list[programs.Process[bytes]] = []


def writable(folder: Path, within: float) -> bool:
    """Whether a file can be made in `folder`; a child that cannot is left waiting."""
    child = start("touch", str(folder / f"{time.monotonic()}"))
    waiting.append(child)
    try:
        child.wait(within)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextmanager
def another_freeze(folder: Path) -> Iterator[None]:
    run("fsfreeze", "--freeze", str(folder))
    try:
        yield
    finally:
        run("fsfreeze", "--unfreeze", str(folder), ok=(0, 1))


def test_nothing_can_be_written_until_the_end(folders: list[Path]) -> None:
    with Freezer([str(folder) for folder in folders], max_freeze=20) as freezer:
        with freezer.frozen():
            assert [writable(folder, 0.3) for folder in folders] == [False, False]
        assert [writable(folder, 5) for folder in folders] == [True, True]
        assert 0.6 <= freezer.stall_seconds < 5
        with freezer.frozen([str(folders[1])]):
            assert [writable(folder, 0.3) for folder in folders] == [True, False]


def test_the_deadline_is_kept_without_us(folders: list[Path]) -> None:
    with Freezer([str(folder) for folder in folders], max_freeze=0.5) as freezer:

        def too_long() -> None:
            with freezer.frozen():
                time.sleep(1)
                assert [writable(folder, 5) for folder in folders] == [True, True]

        with pytest.raises(Interfered, match=r"longer than 0\.5 s"):
            too_long()
        freezer._max_freeze = 20
        with freezer.frozen():
            assert not writable(folders[0], 0.2)  # and the next one is as good as new


def test_an_exception_thaws(folders: list[Path]) -> None:
    with Freezer([str(folder) for folder in folders], max_freeze=20) as freezer:
        with pytest.raises(ZeroDivisionError), freezer.frozen():
            raise ZeroDivisionError
        assert [writable(folder, 5) for folder in folders] == [True, True]


def test_a_thaw_by_somebody_else_is_noticed(folders: list[Path]) -> None:
    with Freezer([str(folder) for folder in folders], max_freeze=20) as freezer:
        with pytest.raises(Interfered, match="Another program ended"), freezer.frozen():
            run("fsfreeze", "--unfreeze", str(folders[0]))
        assert [writable(folder, 5) for folder in folders] == [True, True]


@pytest.mark.parametrize("folders", ["beside"], indirect=True)
@pytest.mark.parametrize("which", [0, 1])
def test_a_freeze_of_somebody_else_is_left_alone(folders: list[Path], which: int) -> None:
    with (
        Freezer([str(folder) for folder in folders], max_freeze=0.2) as freezer,
        another_freeze(folders[which]),
    ):
        with pytest.raises(Interfered, match=f"keeps {folders[which]} frozen"), freezer.frozen():
            pytest.fail("the freeze was not ours")
        time.sleep(0.5)  # the watchdog has no business here, either
        assert not writable(folders[which], 0.3)
        assert writable(folders[1 - which], 5)


HURRY = Path("/sys/kernel/rcu_expedited")


def wait_for_hurry(value: str) -> None:
    deadline = time.monotonic() + 10
    while HURRY.read_text().strip() != value:
        assert time.monotonic() < deadline, f"{HURRY} is not {value} again"
        time.sleep(0.05)


@pytest.fixture
def calm() -> Iterator[bool]:
    """The kernel is in no hurry before; False where it has no such option. Put back after."""
    if not os.access(HURRY, os.W_OK):
        yield False
        return
    before = HURRY.read_text()
    HURRY.write_text("0")
    yield True
    HURRY.write_text(before)


def test_the_kernel_hurries_in_a_freeze_alone(folders: list[Path], *, calm: bool) -> None:
    if not calm:
        pytest.skip("this kernel has no such option")
    with Freezer([str(folder) for folder in folders], 10) as freezer:
        for _ in range(2):
            with freezer.frozen():
                assert HURRY.read_text().strip() == "1"
            wait_for_hurry("0")
        with pytest.raises(ValueError, match="ours"), freezer.frozen():
            raise ValueError("ours")
        wait_for_hurry("0")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_main_process_that_is_killed_or_hangs(
    folders: list[Path], how: signal.Signals, *, calm: bool
) -> None:
    code = (
        "import sys, time\n"
        "from builder.still.freezer import Freezer\n"
        "with Freezer(sys.argv[1:], 3) as freezer, freezer.frozen():\n"
        "    print('frozen', flush=True)\n"
        "    time.sleep(60)\n"
    )
    child = start(sys.executable, "-c", code, *map(str, folders), stdout=programs.PIPE)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == b"frozen\n"
        assert not writable(folders[1], 0.2)
        child.send_signal(how)
        begun = time.monotonic()
        assert [writable(folder, 10) for folder in folders] == [True, True]
        assert time.monotonic() - begun < (2.5 if how == signal.SIGKILL else 5)
        if calm and how == signal.SIGKILL:
            wait_for_hurry("0")
    finally:
        child.send_signal(signal.SIGCONT)
        end(child)


def test_no_freeze_without_a_watchdog(folders: list[Path]) -> None:
    with Freezer([str(folder) for folder in folders], max_freeze=20) as freezer:
        with freezer.frozen():
            pass  # it starts while others do their part, and is awaited by the first freeze only
        watchdog = next(
            int(process.name)
            for process in Path("/proc").glob("[0-9]*")
            if b"watchdog.py" in (process / "cmdline").read_bytes()
            and str(folders[0]).encode() in (process / "cmdline").read_bytes()
            and b"--wait" not in (process / "cmdline").read_bytes()
        )
        with freezer.frozen():
            os.kill(watchdog, signal.SIGTERM)  # while it is armed it stays
            time.sleep(0.2)
        os.kill(watchdog, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(FreezeFailed, match="watchdog"), freezer.frozen():
            pytest.fail("frozen without a watchdog")
        assert [writable(folder, 5) for folder in folders] == [True, True]


def test_ending_signals_wait_for_the_thaw(folders: list[Path]) -> None:
    after = []

    def ended_in_the_middle() -> None:
        with (
            signals.unwinding(),
            Freezer([str(folder) for folder in folders], max_freeze=20) as freezer,
            freezer.frozen(),
        ):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.1)
            after.append("still frozen")

    with pytest.raises(signals.Ended):
        ended_in_the_middle()
    assert after == ["still frozen"]
    assert [writable(folder, 5) for folder in folders] == [True, True]


def test_a_file_system_that_knows_no_freeze() -> None:
    with (
        Freezer(["/proc"], max_freeze=20) as freezer,
        pytest.raises(FreezeFailed, match="/proc cannot be frozen"),
        freezer.frozen(),
    ):
        pytest.fail("procfs cannot be frozen")


def test_the_coarse_clock_advances() -> None:
    before = time.clock_gettime_ns(5)
    wait_for_tick()
    assert time.clock_gettime_ns(5) > before
