# SPDX-License-Identifier: GPL-3.0-or-later
"""The oracle of the copy finds every fault that is planted, and nothing where nothing is wrong."""

import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import xxhash

from core.run import run
from tests.support import disk_image as disk
from tests.support import oracle_disk
from tests.support.disk_image import Part, Table
from tests.support.oracle_disk import BASIC_DATA, MIB, Verdict

ROOT_UUID: Final = "11111111-2222-4333-8444-555555555555"
COPY_UUID: Final = "99999999-2222-4333-8444-555555555555"
TXID: Final = "0123456789abcdef0123456789abcdef"
DISK_GUID: Final = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
TAKEN: Final = "2025-01-02T03:04:05+00:00"
FEATURES: Final = "metadata_csum,metadata_csum_seed,64bit,^orphan_file"

PRIMARY: Final = """label: gpt
start=2048, size=69632, type=U
start=71680, size=131072, type=L
start=202752, size=8192, type=S
"""
DPSR: Final = f"""label: gpt
label-id: {DISK_GUID}
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, name=dpsr-bios
start=4096, size=69632, type=U, name=dpsr-control
start=73728, size=131072, type=L, name=dpsr-slot-root, attrs=GUID:63
start=204800, size=69632, type={BASIC_DATA}, name=dpsr-slot-efi, attrs=GUID:63
start=274432, size=8192, type=S, name=dpsr-slot-swap, attrs=GUID:63
start=282624, size=32768, type=L, name=dpsr-vault, attrs=GUID:63
"""


@dataclass
class Pair:
    folder: Path
    manifest: dict[str, Any]

    @property
    def primary(self) -> Path:
        return self.folder / "primary.raw"

    @property
    def dpsr(self) -> Path:
        return self.folder / "dpsr.raw"

    @property
    def before(self) -> Table:
        return disk.table(self.primary)

    @property
    def after(self) -> Table:
        return disk.table(self.dpsr)

    @property
    def root(self) -> Part:
        return self.after.named("dpsr-slot-root")

    def block_of(self, path: str) -> int:
        """First block of a file of the slot."""
        return oracle_disk.extents(self.dpsr, self.root, path)[0][0]

    def flip(self, offset: int, image: Path | None = None) -> None:
        """Turn one bit of the slot, or of an image."""
        at = offset if image else self.root.start + offset
        with open(image or self.dpsr, "r+b") as stream:
            stream.seek(at)
            byte = stream.read(1)[0]
            stream.seek(at)
            stream.write(bytes([byte ^ 1]))

    def judge(self) -> Verdict:
        scratch = self.folder / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return oracle_disk.compare(self.primary, self.dpsr, scratch)

    def put_manifest(self) -> None:
        """Write the manifest and the state block that names it."""
        vault = self.after.named("dpsr-vault")
        document = {"format": "dpsr-manifest", "version": 1, "manifest": self.manifest}
        plain = self.folder / "manifest.json"
        plain.write_text(json.dumps(document))
        run("mkfs.ext4", "-q", "-F", "-E", f"offset={vault.start}", str(self.dpsr), "16m")
        run("debugfs", "-w", "-f", "-", f"{self.dpsr}?offset={vault.start}",
            given=f"write {plain} manifest-{TXID}.json\n".encode())  # fmt: skip
        self.put_state("clean")

    def put_state(self, state: str, **others: str) -> None:
        values = {"format": "1", "state": state, "gen": "1", "taken": TAKEN, "txid": TXID,
                  "booted": "0", "slot": COPY_UUID} | others  # fmt: skip
        text = "# GRUB Environment Block\n" + "".join(f"{k}={v}\n" for k, v in values.items())
        plain = self.folder / "state"
        plain.write_bytes(text.encode().ljust(1024, b"#"))
        where = f"{self.dpsr}@@{self.after.named('dpsr-control').start}"
        run("mmd", "-D", "s", "-i", where, "::/dpsr", ok=(0, 1))
        run("mcopy", "-D", "o", "-i", where, str(plain), "::/dpsr/state")


def new_disk(path: Path, script: str, size: int) -> Path:
    with open(path, "wb") as stream:
        stream.truncate(size)
    run("sfdisk", "-q", "--no-reread", "--no-tell-kernel", str(path), given=script.encode())
    return path


def fill_root(folder: Path) -> Path:
    tree = folder / "tree"
    for name, size in (("data", 3 * MIB), ("etc/passwd", 900), ("home/a/b.txt", 70_000)):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(os.urandom(size))
    (tree / "etc/fstab").write_text(
        f"UUID={ROOT_UUID} / ext4 defaults 0 1\n/swap none swap sw 0 0\n"
    )
    (tree / "swap").write_bytes(os.urandom(2 * MIB))
    return tree


def copy_range(source: Path, start: int, target: Path, to: int, size: int) -> None:
    with open(source, "rb") as ours, open(target, "r+b") as theirs:
        ours.seek(start)
        theirs.seek(to)
        theirs.write(ours.read(size))


def make(folder: Path) -> Pair:
    """A primary and its copy as `prepare` should leave it, all by other people's tools."""
    primary = new_disk(folder / "primary.raw", PRIMARY, 110 * MIB)
    esp, root, swap = disk.table(primary).parts
    run(
        "mkfs.fat",
        "-F",
        "32",
        "-i",
        "AAAA1111",
        "--offset",
        str(esp.start // 512),
        str(primary),
        "34816",
    )
    loader = folder / "grub.cfg"
    loader.write_text(f"search.fs_uuid {ROOT_UUID} root\n")
    run("mmd", "-i", f"{primary}@@{esp.start}", "::/EFI", "::/EFI/debian")
    run("mcopy", "-i", f"{primary}@@{esp.start}", str(loader), "::/EFI/debian/grub.cfg")
    run("mcopy", "-i", f"{primary}@@{esp.start}", str(loader), "::/EFI/debian/shimx64.efi")
    run("mke2fs", "-qF", "-t", "ext4", "-b", "4096", "-O", FEATURES, "-U", ROOT_UUID,
        "-d", str(fill_root(folder)), "-E", f"offset={root.start}",
        str(primary), "64m")  # fmt: skip

    dpsr = new_disk(folder / "dpsr.raw", DPSR, 160 * MIB)
    table = disk.table(dpsr)
    control, slot, efi = (table.named(f"dpsr-{n}") for n in ("control", "slot-root", "slot-efi"))
    run(
        "mkfs.fat",
        "-F",
        "32",
        "-i",
        "CCCC3333",
        "--offset",
        str(control.start // 512),
        str(dpsr),
        "34816",
    )
    copy_range(primary, esp.start, dpsr, efi.start, efi.size)
    run("mlabel", "-i", f"{dpsr}@@{efi.start}", "-N", "BBBB2222", "::")
    loader.write_text(f"search.fs_uuid {COPY_UUID} root\n")
    run("mcopy", "-D", "o", "-i", f"{dpsr}@@{efi.start}", str(loader), "::/EFI/debian/grub.cfg")
    copy_range(primary, root.start, dpsr, slot.start, slot.size)
    run("tune2fs", "-U", COPY_UUID, f"{dpsr}?offset={slot.start}")
    for image, part, name in ((primary, swap, 1), (dpsr, table.named("dpsr-slot-swap"), 2)):
        area = folder / "area"
        with open(area, "wb") as stream:
            stream.truncate(part.size)
        run("mkswap", "-q", "-U", swap_uuid(name), str(area))
        copy_range(area, 0, image, part.start, 4096)
    pair = Pair(folder, {})
    pair.manifest = manifest(pair)
    # A real fix-up: the fstab's block, its content replaced in place.
    at = pair.block_of("/etc/fstab") * 4096
    with open(dpsr, "r+b") as stream:
        stream.seek(slot.start + at)
        stream.write(f"UUID={COPY_UUID}".encode())
    pair.put_manifest()
    return pair


def swap_uuid(number: int) -> str:
    return str(uuid.UUID(int=number << 64 | 1 << 127, version=4))


def manifest(pair: Pair) -> dict[str, Any]:
    slot = pair.root
    journal = oracle_disk.extents(pair.dpsr, slot, "<8>")[0][0]
    hashes = {
        name: xxhash.xxh3_128_hexdigest(disk.read(pair.dpsr, slot.start + at, size))
        for name, at, size in (("superblock", 1024, 1024), ("journal", journal * 4096, 4096))
    }
    said = run("dumpe2fs", f"{pair.dpsr}?offset={slot.start}")
    backups = [int(line.split("superblock at ")[1].split(",")[0]) for line in said.splitlines()
               if "superblock at " in line]  # fmt: skip
    fstab = pair.block_of("/etc/fstab")
    efi = pair.after.named("dpsr-slot-efi")

    def identity(name: str) -> dict[str, Any]:
        return {"uuid": name, "label": "", "partuuid": "", "partlabel": "", "paths": []}

    def pairing(where: str, kind: str, old: str, new: str) -> dict[str, Any]:
        return {"mountpoint": where, "fstype": kind, "old": identity(old), "new": identity(new)}

    return {
        "name": "system", "txid": TXID, "generation": 1, "parent": "", "undo_log": "",
        "taken": TAKEN, "hostname": "h", "kernel": "6", "disk_guid": DISK_GUID,
        "slots": [
            {"name": "root", "mountpoint": "/", "fstype": "ext4", "number": slot.number,
             "start": slot.start, "size": slot.size, **hashes},
            {"name": "efi", "mountpoint": "/boot/efi", "fstype": "vfat", "number": efi.number,
             "start": efi.start, "size": efi.size, "superblock": "", "journal": ""},
        ],
        "pairs": [
            pairing("/", "ext4", ROOT_UUID, COPY_UUID),
            pairing("/boot/efi", "vfat", "AAAA-1111", "BBBB-2222"),
            pairing("", "swap", swap_uuid(1), swap_uuid(2)),
        ],
        "fixups": [
            {"slot": "root", "why": ["/etc/fstab"],
             "ranges": [[n * 4096, n * 4096 + 4096] for n in sorted({0, *backups, fstab})]},
            {"slot": "efi", "why": ["/EFI/debian/grub.cfg"], "ranges": []},
        ],
        "figures": {},
    }  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def pair(made: Pair, tmp_path: Path) -> Pair:
    for image in (made.primary, made.dpsr):
        run("cp", "--sparse=always", str(image), str(tmp_path))
    return Pair(tmp_path, json.loads(json.dumps(made.manifest)))


def test_a_right_copy_is_found_right(pair: Pair) -> None:
    verdict = pair.judge()
    assert verdict, str(verdict)
    assert verdict.compared > 3 * MIB
    assert 0 < verdict.fixed < MIB


def test_one_byte_of_a_file_is_found_and_the_file_is_named(pair: Pair) -> None:
    pair.flip(pair.block_of("/data") * 4096 + 4000)
    said = str(pair.judge())
    assert "1 used blocks differ" in said
    assert "/data), first at byte 4000" in said


def test_a_difference_in_metadata_is_found(pair: Pair) -> None:
    said = disk.debugfs(pair.dpsr, pair.root, "imap /data")
    words = said.split()  # "Inode 12 is part of block group 0\n located at block 67, offset 0x0b00"
    block = int(words[words.index("located") + 3].rstrip(","))
    pair.flip(block * 4096 + 3000)
    said = str(pair.judge())
    assert f"block {block} (metadata)" in said
    assert "root: e2fsck" in said, "a wrong inode table is no clean file system"


def test_free_blocks_hold_anything(pair: Pair) -> None:
    _, _, free = disk.free_blocks(pair.dpsr, pair.root)
    pair.flip(free[-1][0] * 4096)
    assert pair.judge()


def test_swap_files_hold_anything(pair: Pair) -> None:
    pair.flip(pair.block_of("/swap") * 4096 + 8192)
    assert pair.judge()


def test_a_block_outside_the_listed_fixups_is_found(pair: Pair) -> None:
    fstab = pair.block_of("/etc/fstab") * 4096
    pair.manifest["fixups"][0]["ranges"].remove([fstab, fstab + 4096])
    pair.put_manifest()
    assert "/etc/fstab), first at byte" in str(pair.judge())


def test_a_fixup_of_a_file_of_the_user_is_found(pair: Pair) -> None:
    at = pair.block_of("/home/a/b.txt") * 4096
    pair.manifest["fixups"][0]["ranges"].append([at, at + 4096])
    pair.put_manifest()
    assert pair.judge(), "listed and equal is no fault"
    pair.flip(at)
    assert "a fix-up changed /home/a/b.txt" in str(pair.judge())


def test_fixups_without_bound_are_found(pair: Pair) -> None:
    pair.manifest["fixups"][0]["ranges"] = [[0, pair.root.size]]
    pair.put_manifest()
    assert "of the used blocks are called fix-ups" in str(pair.judge())


def test_a_file_of_the_esp_is_found(pair: Pair) -> None:
    efi = pair.after.named("dpsr-slot-efi")
    other = pair.folder / "other"
    other.write_text("something else")
    run(
        "mcopy",
        "-D",
        "o",
        "-i",
        f"{pair.dpsr}@@{efi.start}",
        str(other),
        "::/EFI/debian/shimx64.efi",
    )
    assert "efi: the file /EFI/debian/shimx64.efi differs" in str(pair.judge())


def old_root(pair: Pair) -> None:
    run("tune2fs", "-U", ROOT_UUID, f"{pair.dpsr}?offset={pair.root.start}")


def old_swap(pair: Pair) -> None:
    swap = pair.before.parts[2]
    copy_range(pair.primary, swap.start, pair.dpsr, pair.after.named("dpsr-slot-swap").start, 4096)


def auto_mount(pair: Pair) -> None:
    run("sfdisk", "-q", "--no-reread", "--part-attrs", str(pair.dpsr), "3", "")


def first_gpt(pair: Pair) -> None:
    pair.flip(1024 + 60, pair.dpsr)


def vault(pair: Pair) -> None:
    pair.flip(pair.after.named("dpsr-vault").start + 1024 + 8, pair.dpsr)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda pair: pair.put_state("building"), "the state block says"),
        (lambda pair: pair.put_state("clean", slot=ROOT_UUID), "the state block says slot="),
        (lambda pair: pair.put_state("clean", gen="2"), "the state block says gen=2"),
        (old_root, "is dpsr-slot-root on the DPSR disk and"),
        (old_swap, "is dpsr-slot-swap on the DPSR disk and"),
        (auto_mount, "dpsr-slot-root lacks the attribute"),
        (vault, "the vault: "),
    ],
)
def test_other_faults_are_found(pair: Pair, damage: Callable[[Pair], None], said: str) -> None:
    damage(pair)
    assert said in str(pair.judge())


def test_a_damaged_table_is_found(pair: Pair) -> None:
    first_gpt(pair)
    with pytest.raises(AssertionError, match="GPT entries of header 1"):
        pair.judge()
