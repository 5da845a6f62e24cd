# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this disk a right copy of that one? The oracle: shares no code with what made the copy.

`compare` is given the primary's disk as it was at the point in time and the DPSR disk, both as raw
image files. Which blocks are used is found out by dumpe2fs, what a block belongs to by debugfs,
identities by blkid, FAT files by mtools. All that is wrong is collected and told at once.
"""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import xxhash

from tests.support import disk_image as disk
from tests.support.disk_image import Part, Table
from tests.support.oracle_chain import chain_faults, state_faults

MIB: Final = 1 << 20
NO_AUTO: Final = 1 << 63
LINUX: Final = "0fc63daf-8483-4772-8e79-3d69d8477de4"
BASIC_DATA: Final = "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"
SWAP: Final = "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f"
ESP: Final = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
BIOS_BOOT: Final = "21686148-6449-6e6f-744e-656564454649"

MAY_DIFFER: Final = re.compile(
    r"/etc/(fstab|crypttab|default/grub(\.d/.*)?|kernel/cmdline|initramfs-tools/.*|dpsr/.*)"
    r"|/(boot/)?(grub/.*|loader/.*|initrd\.img-.*)|/var/cache/debconf/.*|/swapfile"
    r"|/(boot/efi/)?EFI/.*/grub\.cfg"
)
"""Files of the copy that the fix-ups may change (DESIGN section 6), metadata with them."""
MOST_FIXED: Final = 0.05
"""Of a volume's used bytes: more than this in the list of fix-ups is no fix-up any more."""
_MANY: Final = 12
"""How many differences are told in detail."""

Range = tuple[int, int]


@dataclass(slots=True)
class Verdict:
    """What was found: `wrong` is empty when the copy is right."""

    wrong: list[str] = field(default_factory=list)
    compared: int = 0
    """Bytes of used blocks that were compared."""
    fixed: int = 0
    """Bytes of used blocks that the manifest lists as fix-ups."""
    manifest: dict[str, Any] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.wrong

    def __str__(self) -> str:
        figures = f"{self.compared} bytes compared, {self.fixed} fixed up"
        return "\n".join([f"{len(self.wrong)} faults, {figures}", *self.wrong])


def compare(
    primary: Path, dpsr: Path, scratch: Path, generation: int = 1, *, chained: bool = True
) -> Verdict:
    """Compare all slots of `dpsr` with the volumes of `primary`; `scratch` is an empty folder.

    The disk should hold this generation, and the way back to the one before unless it is the first
    or `chained` is False.
    """
    verdict = Verdict()
    before, after = disk.table(primary), disk.table(dpsr)
    verdict.wrong += layout_faults(after)
    if verdict.wrong:
        return verdict
    if said_by_fsck := disk.e2fsck(dpsr, after.named("dpsr-vault")):
        verdict.wrong.append(f"the vault: {said_by_fsck}")
        return verdict
    state = read_state(dpsr, after)
    if state.get("state") != "clean":
        verdict.wrong.append(f"the state block says {state}")
        return verdict
    manifest = verdict.manifest = read_manifest(dpsr, after, state)
    verdict.wrong += state_faults(state, manifest, after, generation)
    verdict.wrong += chain_faults(dpsr, after, manifest, chained=chained and generation > 1)
    for slot in manifest["slots"]:
        part = after.named(f"dpsr-slot-{slot['name']}")
        if (part.number, part.start, part.size) != (slot["number"], slot["start"], slot["size"]):
            verdict.wrong.append(f"{slot['name']}: the manifest says {slot}, the table {part}")
    _identities(primary, before, dpsr, after, manifest, verdict)
    for pair in manifest["pairs"]:
        if pair["fstype"] == "swap":
            continue
        source = _part_with(primary, before, pair["old"]["uuid"])
        slot = next(s for s in manifest["slots"] if s["mountpoint"] == pair["mountpoint"])
        target = after.named(f"dpsr-slot-{slot['name']}")
        fixups = [item for item in manifest["fixups"] if item["slot"] == slot["name"]]
        ranges = [(start, end) for item in fixups for start, end in item["ranges"]]
        said = [path for item in fixups for path in item["why"]]
        if pair["fstype"] == "vfat":
            _compare_fat(primary, source, dpsr, target, slot["name"], scratch, verdict)
        else:
            _compare_ext4(primary, source, dpsr, target, slot, ranges, said, verdict)
    return verdict


def layout_faults(table: Table) -> list[str]:
    """What is wrong with the DPSR disk's table, by docs/on-disk-format.md section 1."""
    wrong = []
    if table.kind != "gpt":
        return [f"the table is {table.kind}, not gpt"]
    names = [part.name for part in table.parts]
    slots = [name for name in names if name.startswith("dpsr-slot-")]
    if names != ["dpsr-bios", "dpsr-control", *slots, "dpsr-vault"]:
        wrong.append(f"the partitions are {names}")
    kinds = {
        "dpsr-bios": BIOS_BOOT, "dpsr-control": ESP, "dpsr-vault": LINUX,
        "dpsr-slot-efi": BASIC_DATA, "dpsr-slot-swap": SWAP,
    }  # fmt: skip
    end = 0
    for part in table.parts:
        if part.kind != kinds.get(part.name, LINUX):
            wrong.append(f"{part.name} has the type {part.kind}")
        hidden = part.name == "dpsr-vault" or part.name in slots
        if hidden and not part.attributes & NO_AUTO:
            wrong.append(f"{part.name} lacks the attribute no-auto-mount")
        if part.start % MIB:
            wrong.append(f"{part.name} begins at {part.start}, no whole MiB")
        if part.start < end:
            wrong.append(f"{part.name} overlaps the one before")
        end = part.end
    return wrong


def read_state(dpsr: Path, table: Table) -> dict[str, str]:
    """The state block, read by mtools, as a dictionary."""
    block = disk.fat_file(dpsr, table.named("dpsr-control"), "/dpsr/state")
    head, *lines = block.decode("ascii").split("\n")
    assert len(block) == 1024, f"the state block has {len(block)} bytes"
    assert head == "# GRUB Environment Block", head
    assert set(block[512:]) == {ord("#")}, "the state block goes on past its first sector"
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def read_manifest(dpsr: Path, table: Table, state: dict[str, str]) -> dict[str, Any]:
    """The manifest that the state block names, read by debugfs."""
    vault = table.named("dpsr-vault")
    name = f"manifest-{state['txid']}.json"
    there = disk.ext4_names(dpsr, vault, "/")
    assert name in there, f"the vault holds {there}, and the state block names {name}"
    document = json.loads(disk.ext4_file(dpsr, vault, f"/{name}"))
    assert document["format"] == "dpsr-manifest", document
    assert document["version"] in {1, 2, 3}, document
    found: dict[str, Any] = document["manifest"]
    return found


def _part_with(image: Path, table: Table, uuid: str) -> Part:
    found = [part for part in table.parts if disk.probe(image, part).get("UUID") == uuid]
    assert len(found) == 1, f"{len(found)} partitions of {image} have the UUID {uuid}"
    return found[0]


def _identities(
    primary: Path,
    before: Table,
    dpsr: Path,
    after: Table,
    manifest: dict[str, Any],
    verdict: Verdict,
) -> None:
    """Nothing on the DPSR disk is called like anything on the primary; the pairs are true."""

    def of(image: Path, table: Table) -> dict[str, str]:
        known = {table.guid: "the disk"}
        for part in table.parts:
            seen = disk.probe(image, part)
            names = {seen.get("UUID", ""), seen.get("LABEL", ""), part.guid} - {""}
            known |= dict.fromkeys(names, part.name or str(part.number))
        return known

    ours, theirs = of(dpsr, after), of(primary, before)
    verdict.wrong += [
        f"{name} is {ours[name]} on the DPSR disk and {theirs[name]} on the primary"
        for name in ours.keys() & theirs.keys()
    ]
    for pair in manifest["pairs"]:
        for side, known in (("old", theirs), ("new", ours)):
            if pair[side]["uuid"] not in known:
                verdict.wrong.append(f"no partition has the {side} UUID of the pair {pair}")
    swaps = [p for p in before.parts if disk.probe(primary, p).get("TYPE") == "swap"]
    copies = [p for p in after.parts if disk.probe(dpsr, p).get("TYPE") == "swap"]
    if len(swaps) != len(copies):
        verdict.wrong.append(f"{len(swaps)} swap partitions became {len(copies)}")


def _compare_fat(
    primary: Path,
    source: Part,
    dpsr: Path,
    target: Part,
    name: str,
    scratch: Path,
    verdict: Verdict,
) -> None:
    trees = []
    for image, part, side in ((primary, source, "old"), (dpsr, target, "new")):
        folder = scratch / f"{name}-{side}"
        folder.mkdir()
        trees.append(disk.fat_tree(image, part, folder))
    old, new = trees
    for path in sorted(old.keys() | new.keys()):
        if old.get(path) != new.get(path) and not MAY_DIFFER.fullmatch(path):
            verdict.wrong.append(f"{name}: the file {path} differs")
    verdict.compared += sum(map(len, old.values()))


def _compare_ext4(
    primary: Path, source: Part, dpsr: Path, target: Part, slot: dict[str, Any],
    fixups: Sequence[Range], said: Sequence[str], verdict: Verdict,
) -> None:  # fmt: skip
    name = slot["name"]
    if said_by_fsck := disk.e2fsck(dpsr, target):
        verdict.wrong.append(f"{name}: {said_by_fsck}")
    block, count, free = disk.free_blocks(primary, source)
    used = np.ones(count, dtype=bool)
    for start, end in free:
        used[start:end] = False
    for path in swap_files(primary, source):
        for start, end in extents(primary, source, path):
            used[start:end] = False
    fixed = np.zeros(count, dtype=bool)
    for start, end in fixups:
        if start < 0 or end > target.size or start >= end:
            verdict.wrong.append(f"{name}: the fix-up {start}..{end} lies outside")
        fixed[start // block : -(-end // block)] = True
    differing = _differing(primary, source, dpsr, target, block, count)
    verdict.compared += int((used & ~fixed).sum()) * block
    verdict.fixed += int((used & fixed).sum()) * block
    if (share := float((used & fixed).sum()) / used.sum()) > MOST_FIXED:
        verdict.wrong.append(f"{name}: {share:.0%} of the used blocks are called fix-ups")
    bad = np.flatnonzero(used & ~fixed & differing)
    bad = _without_unwritten(primary, source, bad)
    if len(bad):
        verdict.wrong.append(f"{name}: {len(bad)} used blocks differ and are no fix-ups")
        verdict.wrong += list(_told(primary, source, dpsr, target, block, bad[:_MANY].tolist()))
    said = [*said, *swap_files(primary, source)]  # they get a fresh header
    verdict.wrong += _strange_fixups(name, dpsr, target, np.flatnonzero(fixed & differing), said)
    journal = extents(dpsr, target, "<8>")[0][0] * block
    for what, at, size in (("superblock", 1024, 1024), ("journal", journal, block)):
        if xxhash.xxh3_128_hexdigest(disk.read(dpsr, target.start + at, size)) != slot[what]:
            verdict.wrong.append(f"{name}: the hash of the {what} is not the manifest's")
    (features,) = struct.unpack_from("<I", disk.read(dpsr, target.start + 1024, 1024), 0x60)
    if features & 4:
        verdict.wrong.append(f"{name}: its journal needs recovery")


def _differing(
    primary: Path, source: Part, dpsr: Path, target: Part, block: int, count: int
) -> "np.ndarray[Any, np.dtype[np.bool_]]":
    """Which blocks differ, used or not."""
    found = np.zeros(count, dtype=bool)
    step = max(1, 4 * MIB // block)
    with open(primary, "rb") as ours, open(dpsr, "rb") as theirs:
        for first in range(0, count, step):
            size = min(step, count - first) * block
            ours.seek(source.start + first * block)
            theirs.seek(target.start + first * block)
            left, right = ours.read(size), theirs.read(size)
            if left != right:
                a, b = (np.frombuffer(side, np.uint8).reshape(-1, block) for side in (left, right))
                found[first : first + len(a)] = (a != b).any(axis=1)
    return found


def swap_files(image: Path, part: Part) -> list[str]:
    """Paths of the swap files in a root file system, from its fstab."""
    lines = disk.ext4_file(image, part, "/etc/fstab").decode().splitlines()
    fields = [line.split() for line in lines if not line.startswith("#")]
    return [
        words[0]
        for words in fields
        if words[2:3] == ["swap"] and words[0].startswith("/") and words[0][:5] != "/dev/"
    ]


def extents(image: Path, part: Part, path: str, *, unwritten: bool = False) -> list[Range]:
    """Block ranges of a file's data; with `unwritten`, only of those that were never written."""
    found = []
    for line in disk.debugfs(image, part, f"dump_extents -l {path}").splitlines():
        hit = re.match(
            r"\s*\d+/\s*\d+\s+\d+/\s*\d+\s+\d+ -\s+\d+\s+(\d+) -\s+(\d+)\s+\d+\s*(\w*)", line
        )
        if hit and (not unwritten or hit[3] == "Uninit"):
            found.append((int(hit[1]), int(hit[2]) + 1))
    return found


def owners(image: Path, part: Part, blocks: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Which inode each block belongs to, 0 for none, and the path of that inode."""
    if not blocks:
        return {}
    said = disk.debugfs_about(image, part, "icheck", blocks)
    inodes = {int(b): int(i) for b, i in re.findall(r"^(\d+)\t(\d+)$", said, re.MULTILINE)}
    paths: dict[int, str] = {8: "<journal>"}
    named = disk.debugfs_about(image, part, "ncheck", sorted(set(inodes.values())))
    for number, path in re.findall(r"^(\d+)\t(.*)$", named, re.MULTILINE):
        paths.setdefault(int(number), "/" + path.lstrip("/"))
    return {b: (inodes.get(b, 0), paths.get(inodes.get(b, 0), "")) for b in blocks}


def _without_unwritten(image: Path, part: Part, bad: Any) -> Any:
    """Leave out blocks that a file has reserved and never written: nobody can read them."""
    if len(bad) == 0:
        return bad
    for inode in {inode for inode, _ in owners(image, part, bad.tolist()).values() if inode}:
        for start, end in extents(image, part, f"<{inode}>", unwritten=True):
            bad = bad[(bad < start) | (bad >= end)]
    return bad


def _told(
    primary: Path, source: Part, dpsr: Path, target: Part, block: int, blocks: list[int]
) -> Iterator[str]:
    for number, (inode, path) in owners(primary, source, blocks).items():
        left, right = (
            disk.read(image, part.start + number * block, block)
            for image, part in ((primary, source), (dpsr, target))
        )
        at = next(n for n in range(block) if left[n] != right[n])
        what = f"inode {inode} {path}" if inode else "metadata"
        yield (
            f"  block {number} ({what}), first at byte {at}: "
            f"{left[at : at + 16].hex()} became {right[at : at + 16].hex()}"
        )


def _strange_fixups(
    name: str, dpsr: Path, target: Part, blocks: Any, said: Sequence[str]
) -> list[str]:
    """Fix-ups that changed the content of a file that they have no business with.

    Metadata and folders change with the files in them.
    """
    told = {path.removeprefix("/boot") for path in said} | set(said)
    return [
        f"{name}: a fix-up changed {path}, told are {sorted(said)}"
        for path in _files(dpsr, target, blocks)
        if path not in told or not MAY_DIFFER.fullmatch(path)
    ]


def _files(image: Path, part: Part, blocks: Any) -> list[str]:
    """Paths of the regular files that some blocks belong to."""
    # The orphan file has an ordinary inode, and no name; a mount empties it.
    (orphans,) = struct.unpack_from("<I", disk.read(image, part.start + 1024, 1024), 0x280)
    owned = owners(image, part, blocks.tolist()).values()
    found = {pair for pair in owned if pair[0] > 10 and pair[0] != orphans}
    return [
        path
        for inode, path in sorted(found)
        if "Type: regular" in disk.debugfs(image, part, f"stat <{inode}>")
    ]


def strange_changes(before: Path, old: Part, after: Path, new: Part) -> list[str]:
    """Files of an ext4 file system that changed although no fix-up has any business with them.

    For a clone that was fixed up, which has no manifest.
    """
    block, count, _ = disk.free_blocks(after, new)
    differing = np.flatnonzero(_differing(before, old, after, new, block, count))
    return [path for path in _files(after, new, differing) if not MAY_DIFFER.fullmatch(path)]
