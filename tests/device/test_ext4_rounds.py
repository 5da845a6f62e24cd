# SPDX-License-Identifier: GPL-3.0-or-later
"""Random file systems, random work, backups by the ext4 detector, judged by an oracle.

Rounds with images alone, still or moving, show the detector each order of reads and writes; live
rounds go through the whole engine, tracker, passes and freeze, while files change.

DPSR_ROUNDS says how many rounds of each kind, DPSR_SEED which is the first: a failure names its
seed. A round takes half a second to a second of processor, most of it by the kernel.
"""

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Final

import pytest

from builder.copying import copier
from builder.still import live
from core.errors import NeverQuiet
from tests.support import update_pair
from tests.support.churn import frozen
from tests.support.churn_trees import Trees
from tests.support.ext4_pair import Moving, Pair, detector, grown, random_mkfs, random_mount, writes
from tests.support.live_pair import disturbed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts file systems")

MIB: Final = 1 << 20
ROUNDS: Final = int(os.environ.get("DPSR_ROUNDS", "0"))
SEED: Final = int(os.environ.get("DPSR_SEED", "1"))


@pytest.fixture
def folder() -> Iterator[Path]:
    home = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="dpsr-", dir=home if home.is_dir() else None) as name:
        yield Path(name)


def still_round(folder: Path, seed: int) -> None:
    """Three backups in a row, each while nothing moves."""
    rng = random.Random(seed)
    size = rng.choice((24, 32, 40)) * MIB
    options = random_mkfs(rng)
    with Pair(folder, size, options, random_mount(rng, options)) as pair:
        trees, churn = Trees(pair.top, seed), grown(pair, seed, 60)
        try:
            pair.first_copy()
            for _ in range(3):
                if rng.random() < 0.5:
                    churn.close()
                if rng.random() < 0.3:
                    churn.close()
                    pair.again()
                churn.work(rng.choice((0, 3, 20, 80)))
                for change in rng.sample((trees.overwrite, trees.reshape), rng.randint(0, 2)):
                    change()
                faults = pair.back_up_frozen()
                assert not faults, (seed, pair.options, faults)
        finally:
            churn.close()


def moving_round(folder: Path, seed: int) -> None:
    """Two backups, each read while files change: a read gives each block old or new."""
    rng = random.Random(seed)
    options = random_mkfs(rng)
    with Pair(folder, rng.choice((24, 32)) * MIB, options, random_mount(rng, options)) as pair:
        trees, churn = Trees(pair.top, seed), grown(pair, seed, 60)
        try:
            pair.first_copy()

            def work() -> None:
                churn.work(rng.choice((1, 5, 30)))
                trees.reshape()

            for _ in range(2):
                churn.work(rng.choice((3, 20, 80)))
                trees.overwrite()
                back_up_moving(pair, work, rng)
        finally:
            churn.close()


def back_up_moving(pair: Pair, work: Callable[[], None], rng: random.Random) -> None:
    """As the engine does it: one `find`, then one to three lots of writes, the last in a freeze."""
    seen = []
    for number in range(rng.randint(2, 4)):
        if number:
            work()
        with frozen(pair.top):
            picture = pair.picture()
            assert picture.unwritten is not None  # asked while it is what it was
            seen.append((picture, pair.used()))
    images = [image.data for image, _ in seen]
    view = Moving(images[0], images[1], rng)
    with detector(view, pair.slot) as ext4:
        for number, (image, used) in enumerate(seen):
            still = number == len(seen) - 1
            view.show(images[number], images[number] if still else images[number + 1], rng)
            if number == 0:
                todo = ext4.find(used, pair.fixed, lambda _: None)
            else:
                written = writes(seen[number - 1][0], image)
                todo = ext4.reparse(written, still=still).union(written)
                if still:
                    todo = todo.union(used.minus(seen[0][1]))
            pair.transfer(view, todo.intersect(used.union(pair.fixed)))
    faults = pair.judge(seen[-1][0])
    assert not faults, (pair.options, faults)


def live_round(folder: Path, seed: int) -> None:
    """A first copy and three updates of a mounted file system, most while files change."""
    rng = random.Random(seed)
    options = random_mkfs(rng)
    size = rng.choice((40, 48)) * MIB
    with (
        pytest.MonkeyPatch.context() as patch,
        update_pair.Pair(folder, size, options, random_mount(rng, options)) as pair,
        ExitStack() as stack,
    ):
        # As small as the file system: to get memory is most of the work of a short update.
        patch.setattr(live, "_LEFT", 8 * MIB)
        patch.setattr(copier, "CHUNK", MIB)
        trees, churn = Trees(pair.top, seed), grown(pair, seed, 60)
        stack.callback(churn.close)
        pair.prepare()
        for number in range(3):
            if rng.random() < 0.5:
                churn.close()
            if rng.random() < 0.2:
                churn.close()
                pair.again()
            # Mounted again or not, it was never cut off; now and then nobody knows.
            mounts = pair.mounts if rng.random() < 0.9 else 0
            churn.work(rng.choice((0, 3, 20, 80)))
            for change in rng.sample((trees.overwrite, trees.reshape), rng.randint(0, 2)):
                change()
            for limit in ("_LEFT", "_SMALL"):
                patch.setattr(live, limit, rng.choice((128 << 10, MIB, 4 * MIB)))
            busy = (
                disturbed(
                    pair.top / "busy", seed + number, rng.choice((0.002, 0.01, 0.05)), 400_000
                )
                if rng.random() < 0.7
                else nullcontext()
            )
            try:
                with busy:
                    pair.update(mounts=mounts)
            except NeverQuiet:  # which is no fault; but the slot is no copy any more
                pair.prepare()


Round = Callable[[Path, int], None]
KINDS: Final[dict[Round, tuple[int, int]]] = {
    still_round: (80, 3000),
    moving_round: (80, 3000),
    live_round: (60, 2000),
}
"""How many rounds of each kind, in the small size and in a soak."""


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS)
def test_random_rounds(folder: Path, kind: Round) -> None:
    for seed in range(SEED, SEED + (ROUNDS or KINDS[kind][0])):
        one_round(folder, seed, kind)


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_rounds(folder: Path, kind: Round) -> None:
    for seed in range(SEED, SEED + (ROUNDS or KINDS[kind][1])):
        one_round(folder, seed, kind)
        sys.stdout.write(f"{kind.__name__} {seed} is right\n")  # pytest -s shows how far it is
        sys.stdout.flush()


def one_round(folder: Path, seed: int, kind: Round) -> None:
    home = folder / str(seed)
    home.mkdir()
    try:
        kind(home, seed)
    except BaseException as error:
        error.add_note(f"DPSR_SEED={seed} DPSR_ROUNDS=1 repeats this {kind.__name__}")
        raise
    shutil.rmtree(home)
