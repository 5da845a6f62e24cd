# SPDX-License-Identifier: GPL-3.0-or-later
"""A mounted ext4 volume and its slot, both images, with backups by the detector alone.

There is no tracker here: snapshots of the image stand for what it would have seen.
"""

import random
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from builder.change.ext4.detector import Ext4
from builder.change.used import used
from builder.copying.direct import Reader
from core.errors import CommandFailed
from core.model.blockset import EMPTY, BlockSet
from core.run import run
from tests.support import oracle
from tests.support.churn import Churn, frozen
from tests.support.oracle import Content, Picture, Rooms

GRAIN: Final = 4096
OLD: Final = "^metadata_csum,^64bit,^orphan_file"
"""What mke2fs made ten years ago."""


def random_mkfs(rng: random.Random) -> list[str]:
    """Random options of mke2fs, out of those that the detector understands."""
    block = rng.choice((1024, 1024, 2048, 4096, 4096, 4096))
    inode = rng.choice((256, 256, 512, 1024))
    features = rng.choice((
        OLD + ",uninit_bg", OLD + ",^uninit_bg", "metadata_csum,64bit", "metadata_csum,^64bit",
        "metadata_csum,metadata_csum_seed,64bit", "metadata_csum_seed,orphan_file,64bit",
        "^metadata_csum,64bit,uninit_bg",
    ))  # fmt: skip
    extras = [
        "^flex_bg", "^resize_inode", "sparse_super2,^resize_inode", "large_dir",
        "^sparse_super,^resize_inode", "^huge_file", "^dir_index", "fast_commit", "encrypt",
        "verity", "stable_inodes", "^has_journal,^orphan_file", "^ext_attr", "^large_file",
    ]  # fmt: skip
    extra = rng.choices(extras, k=rng.choice((0, 0, 1, 2)))
    if "^has_journal,^orphan_file" in extra:
        features = features.replace(",orphan_file", "")
    options = ["-b", str(block), "-I", str(inode), "-O", ",".join([features, *extra])]
    if rng.random() < 0.4:  # several groups, even when the file system is small
        options += ["-g", str(rng.choice((2048, 4096, 8192)))]
    if rng.random() < 0.3 and "^flex_bg" not in extra:
        options += ["-G", str(rng.choice((2, 4, 16)))]
    lazy = rng.choice(("0", "1"))
    options += ["-E", f"lazy_itable_init={lazy},discard"]
    options += ["-N", str(rng.choice((2000, 6000)))]
    return options


def random_mount(rng: random.Random, mkfs: Sequence[str]) -> str:
    """Random mount options that change what is written when."""
    kinds = ["lazytime", "nodelalloc", "strictatime", "noatime", "init_itable=0", "noinit_itable"]
    kinds += ["nodioread_nolock", "data=writeback", "data=journal,nodelalloc", "discard"]
    some = rng.sample(kinds, rng.choice((0, 1, 2)))
    if any("has_journal" in option for option in mkfs):
        some = [kind for kind in some if "data=" not in kind]
    elif sum("data=" in kind for kind in some) > 1:
        some = some[:1]
    return ",".join(["loop", "user_xattr", "acl", *some])


class Moving:
    """A volume that is being written while it is read, from one snapshot to the next.

    Each block is old or new at random when it is read first, and new from the second time on.
    """

    def __init__(self, before: Content, after: Content, rng: random.Random) -> None:
        self.show(before, after, rng)

    def show(self, before: Content, after: Content, rng: random.Random) -> None:
        self._old, self._new = (content.reshape(-1, 1024) for content in (before, after))
        share = rng.choice((0.1, 0.5, 0.9))
        numbers = np.random.default_rng(rng.randrange(2**32))
        self._moved = numbers.random(len(self._old)) < share

    def read_into(self, offset: int, view: memoryview) -> None:
        assert offset % 1024 == len(view) % 1024 == 0
        rows = slice(offset // 1024, (offset + len(view)) // 1024)
        data = np.frombuffer(view, np.uint8).reshape(-1, 1024)
        data[:] = self._old[rows]
        moved = self._moved[rows]
        data[moved] = self._new[rows][moved]
        self._moved[rows] = True


class Pair:
    """One volume, mounted, and its slot, which is a complete copy after `first_copy`."""

    def __init__(
        self, folder: Path, size: int, options: Sequence[str] = (), mount: str = "loop"
    ) -> None:
        self.volume, self.slot = folder / "volume", folder / "slot"
        self._scratch = folder / "scratch"
        self.top = folder / "mnt"
        self.options = (*options, mount)
        self._mount = mount
        self.fixed = EMPTY
        self.swap = EMPTY
        self.candidates = 0
        """Bytes of candidates in the last backup,"""
        self.copied = 0
        """and of these, what differed."""
        self.top.mkdir()
        for image in (self.volume, self.slot):
            image.touch()
            with image.open("r+b") as stream:
                stream.truncate(size)
        run("mke2fs", "-q", "-F", "-t", "ext4", *options, str(self.volume))
        self._rooms = Rooms()
        self.learn_identity()
        # Old disks are not empty.
        noise = random.Random(size).randbytes(1 << 20)
        with self.slot.open("r+b") as stream:
            for at in range(0, size, 1 << 20):
                stream.seek(at)
                stream.write(noise[: min(1 << 20, size - at)])

    def __enter__(self) -> Self:
        run("mount", "-o", self._mount, str(self.volume), str(self.top))
        return self

    def __exit__(self, *_: object) -> None:
        run("umount", str(self.top))
        self._rooms.all_free()

    def learn_identity(self) -> None:
        """Find out where the volume has its superblocks."""
        self._identity = BlockSet.of(Picture.of(self.volume, self._rooms).identity)
        self._rooms.all_free()

    def again(self) -> None:
        """Unmount and mount: what was deleted while open is deleted for good."""
        self.__exit__()
        self.__enter__()

    def picture(self) -> Picture:
        """The volume as it is on its disk now, frozen; good until the next backup is judged."""
        return Picture.of(self.volume, self._rooms)

    def snapshot(self, name: str) -> Path:
        """The volume as it is on its disk now."""
        target = self.volume.with_name(name)
        shutil.copyfile(self.volume, target)
        return target

    def used(self) -> BlockSet:
        """The used map, in the engine's grain; not by what the oracle uses."""
        size = self.volume.stat().st_size

        return used(str(self.top), size).aligned(GRAIN).within(size)

    def first_copy(self) -> None:
        """All used blocks, as `prepare` does; then fix-ups."""
        with frozen(self.top):
            self.transfer(self.volume, self.used())
            self.judge(self.picture())

    def transfer(self, source: Path | Moving, blocks: BlockSet) -> int:
        """Copy what differs within `blocks`, but for superblocks; return how many bytes did."""
        blocks = blocks.minus(self._identity)
        count = 0
        reader = Reader(str(source)) if isinstance(source, Path) else source
        with self.slot.open("r+b") as theirs:
            for start, end in blocks.pieces(1 << 20):
                reader.read_into(start, new := memoryview(bytearray(end - start)))
                theirs.seek(start)
                if (old := theirs.read(end - start)) != new:
                    theirs.seek(start)
                    theirs.write(new)
                    a, b = (np.frombuffer(side, np.uint8).reshape(-1, 1024) for side in (old, new))
                    count += int((a != b).any(axis=1).sum()) * 1024
        return count

    def back_up_frozen(self) -> list[str]:
        """Detect and copy while nothing moves; return the oracle's findings."""
        with frozen(self.top), detector(self.volume, self.slot) as ext4:
            used = self.used()
            found = ext4.find(used, self.fixed.union(self.swap), lambda _: None)
            self.candidates = found.total
            self.copied = self.transfer(self.volume, found.intersect(used.union(self.fixed)))
            return self.judge(self.picture())

    def judge(self, volume: Picture) -> list[str]:
        """What is wrong with the slot as a copy of `volume`; then gives it its fix-ups."""
        copy = self._rooms.read(self.slot)
        faults = self.check(volume, copy)
        self._fix_up(volume, copy)
        self._rooms.all_free()
        return faults

    def check(self, volume: Picture, copy: Content) -> list[str]:
        """What the oracle and e2fsck find wrong with the slot, which holds `copy`.

        It gets the superblocks of the volume, if nothing is wrong with the rest of it.
        """
        faults = oracle.faults(volume, copy, unused=list(self.swap))
        if not faults and (said := oracle.fsck(self.slot, volume, self._scratch)):
            faults = [said]
        return faults

    def _fix_up(self, volume: Picture, before: Content) -> None:
        """Give the slot superblocks with another UUID, and change and add files, as fix-ups do."""
        oracle.give_identity(self.slot, volume)
        if volume.has("metadata_csum") and not volume.has("metadata_csum_seed"):
            run("tune2fs", "-O", "metadata_csum_seed", str(self.slot))
        with suppress(CommandFailed):  # not with the feature stable_inodes
            run("tune2fs", "-f", "-U", "random", str(self.slot))
        new = self._scratch.with_name("fstab")
        new.write_text("UUID=of-the-copy / ext4\n" * 300)
        requests = f"rm /fstab\nwrite {new} fstab\nrm /fstab.old\nwrite {new} fstab.old\n"
        run("debugfs", "-w", "-f", "-", str(self.slot), given=requests.encode())
        # All superblocks: what lies in them is nobody's business but the fix-ups'.
        self.fixed = unlike(before, self._rooms.read(self.slot)).union(self._identity)


@contextmanager
def detector(volume: Path | Moving, slot: Path) -> Iterator[Ext4]:
    """The detector on two images."""
    with closing(Reader(str(slot))) as theirs:
        if isinstance(volume, Moving):
            yield Ext4(volume, theirs)
        else:
            with closing(Reader(str(volume))) as ours:
                yield Ext4(ours, theirs)


def differing(left: Path, right: Path) -> BlockSet:
    """In which blocks of 1 KiB two images differ."""
    rooms = Rooms()
    return unlike(rooms.read(left), rooms.read(right))


def unlike(left: Content, right: Content) -> BlockSet:
    """In which blocks of 1 KiB two contents differ."""
    return _blocks(oracle.unlike(left, right, 1024), 1024)


def writes(before: Picture, after: Picture) -> BlockSet:
    """What a tracker would have seen between two snapshots.

    The first write to a block that was free, or reserved and never written, need not change what
    was there.
    """
    differ = unlike(before.data, after.data).aligned(GRAIN)
    return differ.union(_filled(after).minus(_filled(before)))


def _filled(image: Picture) -> BlockSet:
    used = image.used.copy()
    for first, last in image.unwritten:
        used[first:last] = False
    return _blocks(used, image.block)


def _blocks(chosen: Any, size: int) -> BlockSet:
    """The chosen blocks, in bytes."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).astype(np.int64)
    return BlockSet.of(edges.reshape(-1, 2) * size)


def grown(pair: Pair, seed: int, steps: int) -> Churn:
    """Random files in the volume, and a folder that the fix-ups will change a file of."""
    (pair.top / "fstab").write_text("UUID=of-the-volume / ext4\n" * 200)
    churn = Churn(pair.top, seed)
    churn.work(steps)
    return churn
