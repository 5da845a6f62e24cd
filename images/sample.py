# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a small real Debian on a disk image. Try `python -m images.sample --help`."""

import argparse
import hashlib
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core.run import need, run
from images import accel, cache, disks
from images import recipe as recipes
from images.guest import Guest
from images.mirror import debian_mirror
from images.recipe import Recipe
from images.vm import DirectKernel, DiskSpec

Say = Callable[[str], None]

UP: Final = "up"
"""Tag of the snapshot of the booted system."""

_SCRIPTS: Final = Path(__file__).with_name("scripts")
_LEFT_OUT: Final = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/info/*",
    "/usr/share/locale/*",
)
_BUILD_TIMEOUT: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Sample:
    """A system on a disk image; treat all files as read-only."""

    recipe: Recipe
    folder: Path
    warm: bool = False
    """Whether the disk itself holds the snapshot `UP`."""

    @property
    def disk(self) -> Path:
        """The disk (qcow2)."""
        return self.folder / "disk.qcow2"

    @property
    def vars(self) -> Path | None:
        """The firmware's variables after the installation; None with BIOS."""
        return self.folder / "vars.qcow2" if self.recipe.firmware == "uefi" else None

    @property
    def kernel(self) -> Path:
        """Its kernel."""
        return self.folder / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """Its initrd, before the recipe's MODULES=dep."""
        return self.folder / "initrd.img"

    def spec(self, **changes: object) -> DiskSpec:
        """Its disk in its own bay: a throw-away overlay on the recipe's bus."""
        from dataclasses import replace

        return replace(DiskSpec(self.disk, self.recipe.bus, recipes.PRIMARY_SERIAL), **changes)  # type: ignore[arg-type]


def base(recipe: Recipe, say: Say) -> Path:
    """The packages of the system, unpacked and configured, as a tar file (layer 1)."""
    packages = recipes.packages(recipe)
    suite = recipes.SUITES[recipe.release]
    mirror = debian_mirror()

    def build(folder: Path) -> None:
        say(f"Fetching and unpacking Debian {recipe.release} (some minutes, once)")
        kept = "/var/cache/sample"  # what goes on later, in assemble.sh, without a network
        loaders = " ".join(recipes.LOADER_PACKAGES.values())
        fetch = f"mkdir -p {kept}; cd {kept}; apt-get -q download {loaders}"
        proxy = run("apt-config", "--format", "%v", "dump", "Acquire::http::Proxy").strip()
        argv = [
            "mmdebstrap", "--quiet", "--variant=minbase", "--format=tar",
            f"--mode={'root' if os.getuid() == 0 else 'unshare'}",
            "--skip=output/dev,output/mknod",
            *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
            '--aptopt=APT::Install-Recommends "false"',
            *([f'--aptopt=Acquire::http::Proxy "{proxy}"'] if proxy else []),
            f"--include={','.join(packages)}",
            f'--customize-hook=chroot "$1" sh -ec "{fetch}"',
            suite, str(folder / "base.tar"), mirror,
        ]  # fmt: skip
        run(*argv, timeout=_BUILD_TIMEOUT)

    return (
        cache.built("base", recipes.key("base", suite, packages, _LEFT_OUT, mirror), build)
        / "base.tar"
    )


def build(recipe: Recipe, say: Say = lambda _: None) -> Sample:
    """The sample system of a recipe, from the cache when it is there.

    Takes some minutes without KVM the first time. Raises ProgramMissing, CommandFailed.
    """
    for kind in ("base", "sample", "warm"):
        cache.prune(kind, days=30)
    need("mmdebstrap", "qemu-system-x86_64", "qemu-img", "sfdisk", "mkfs.fat", "mke2fs", "unshare")
    tar = base(recipe, say)
    texts = [path.read_text(encoding="utf-8") for path in sorted(_SCRIPTS.glob("*.sh"))]

    def make(folder: Path) -> None:
        say(f"Laying out the disk of {recipe.name}")
        _assemble(recipe, tar, folder)
        say("Starting it once to install its boot loader")
        _finish(recipe, folder)

    return Sample(recipe, cache.built("sample", recipes.key(recipe, tar.parent.name, texts), make))


def _assemble(recipe: Recipe, tar: Path, folder: Path) -> None:
    image = folder / "disk.raw"
    with open(image, "wb") as stream:
        stream.truncate(recipe.size)
    run(
        "sfdisk",
        "--quiet",
        "--no-reread",
        "--no-tell-kernel",
        str(image),
        given=recipes.sfdisk_script(recipe).encode(),
    )
    settings: dict[str, str] = {
        "hostname": f"debian{recipe.release}", "fstab": recipes.fstab(recipe),
        "machine_id": recipes.key(recipe, "machine") * 2,
        "loader": recipes.LOADER_PACKAGES[recipe.firmware],
    }  # fmt: skip
    for what in ("root", "boot", "esp", "swap"):
        part = next((part for part in recipes.layout(recipe) if part.what == what), None)
        settings[f"{what}_uuid"] = part.uuid if part else ""
        settings[f"{what}_start"] = str(part.start if part else 0)
        settings[f"{what}_size"] = str(part.size if part else 0)
    shell = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    (folder / "settings").write_text(shell, encoding="utf-8")
    mapping = () if os.getuid() == 0 else ("--map-root-user", "--map-auto")
    run(
        "unshare", *mapping, "--mount", "--pid", "--fork", "--kill-child",
        "/bin/sh", str(_SCRIPTS / "assemble.sh"),
        str(tar), str(image), str(folder), str(folder / "settings"),
        timeout=_BUILD_TIMEOUT,
    )  # fmt: skip


def _finish(recipe: Recipe, folder: Path) -> None:
    disk = disks.convert(folder / "disk.raw", folder / "disk.qcow2")
    (folder / "disk.raw").unlink()
    firmware_vars = disks.new_vars(folder / "vars.qcow2") if recipe.firmware == "uefi" else None
    root = next(part.uuid for part in recipes.layout(recipe) if part.what == "root")
    direct = DirectKernel(
        folder / "vmlinuz", folder / "initrd.img", f"root=UUID={root} ro console=tty0 console=ttyS0"
    )
    spec = DiskSpec(disk, recipe.bus, recipes.PRIMARY_SERIAL, overlay=False)
    with Guest(
        [spec], recipe.firmware, vars=firmware_vars, direct=direct, kernel=direct.kernel
    ) as guest:
        guest.wait_up(timeout=600)
        guest.put("/run/finish.sh", (_SCRIPTS / "finish.sh").read_bytes())
        guest.run(
            "/bin/sh", "/run/finish.sh", recipe.firmware, recipe.modules, recipe.swap,
            str(recipes.SWAP_FILE), recipes.PRIMARY_SERIAL, timeout=600,
        )  # fmt: skip
        guest.poweroff()


def installed(sample: Sample, deb: Path, say: Say = lambda _: None) -> Sample:
    """`sample` with the package `deb`, installed by apt in the running system, as users do."""

    def make(folder: Path) -> None:
        say(f"Installing {deb.name} in {sample.recipe.name}")
        with _started(sample, folder, say) as guest:
            there = f"/root/{deb.name}"
            guest.put(there, deb.read_bytes())
            install = "DEBIAN_FRONTEND=noninteractive apt-get -q -y install"
            guest.sh(f"{install} {there} 2>&1; rm {there}", timeout=600)
            # It would be made by the first `prepare`; here, once for all tests.
            guest.sh("cd /usr/lib/dpsr && python3 -m images.rescue; sync", timeout=1200)
            if _can_save(sample):
                guest.savevm(UP)
            guest.poweroff()
        for name in ("vmlinuz", "initrd.img"):
            (folder / name).symlink_to(sample.folder / name)

    cache.prune("installed", days=0.5)  # each new package makes another one, of 300 MB and more
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    key = recipes.key("installed", sample.folder.name, digest, _engine(sample))
    return Sample(sample.recipe, cache.built("installed", key, make), warm=_can_save(sample))


@contextmanager
def booted(
    sample: Sample, plug: Sequence[DiskSpec] = (), say: Say = lambda _: None
) -> Iterator[Guest]:
    """A guest that is up already, in a second or two: it goes on from a kept snapshot.

    `plug`: disks that are hot-plugged (any bus but SATA). With an NVMe primary, which QEMU cannot
    keep, the guest boots. What it changes is thrown away.
    """
    with cache.scratch() as folder, _started(sample, folder, say) as guest:
        for spec in plug:
            guest.plug(spec)
            guest.wait_disk(spec.serial)
        yield guest


def _started(sample: Sample, folder: Path, say: Say) -> Guest:
    """A guest whose system is up once it is entered; its disk is `folder/disk.qcow2`."""
    source = warm(sample, say) if _can_save(sample) else None
    disk = folder / "disk.qcow2"
    nvram = folder / "vars.qcow2" if sample.vars else None
    if source is None:
        disks.new_overlay(disk, sample.disk)
        if sample.vars:
            disks.new_vars(folder / "vars.qcow2", sample.vars)
    else:
        for path in source.glob("*.qcow2"):
            run("cp", "--reflink=auto", "--sparse=auto", str(path), str(folder / path.name))
    spec = sample.spec(path=disk, overlay=False)
    return _UpGuest(
        [spec],
        sample.recipe.firmware,
        vars=nvram,
        load=UP if source else None,
        kernel=sample.kernel,
    )


class _UpGuest(Guest):
    """Enters when the system is up."""

    def power_on(self) -> None:
        super().power_on()
        if self.load is not None:
            self.load = None  # the next time it boots
            self.agent.sync(60)
        elif not self._came_up:
            self.wait_up(600)
        self._came_up = True

    _came_up = False


def warm(sample: Sample, say: Say = lambda _: None) -> Path:
    """The folder of a disk (and firmware variables) with the snapshot `UP` of the booted system."""
    if sample.warm:
        return sample.folder

    def make(folder: Path) -> None:
        say(f"Booting {sample.recipe.name} once, to keep the booted state")
        disk = disks.new_overlay(folder / "disk.qcow2", sample.disk)
        nvram = disks.new_vars(folder / "vars.qcow2", sample.vars) if sample.vars else None
        spec = sample.spec(path=disk, overlay=False)
        with Guest([spec], sample.recipe.firmware, vars=nvram, kernel=sample.kernel) as guest:
            guest.wait_up(600)
            guest.sh("sync; sleep 3")  # what starts after the boot has calmed down
            guest.savevm(UP)

    return cache.built("warm", recipes.key("warm", sample.folder.name, _engine(sample)), make)


def _can_save(sample: Sample) -> bool:
    return sample.recipe.bus != "nvme"


def _engine(sample: Sample) -> tuple[str, ...]:
    """What a snapshot depends on besides the disk."""
    machine = Path(__file__).with_name("vm.py").read_text(encoding="utf-8")
    return (*accel.accelerator(sample.kernel), accel.qemu_version(), machine)


def main(argv: Sequence[str]) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m images.sample", description=__doc__)
    parser.add_argument("action", choices=["build", "warm"], help="warm: also keep it booted")
    parser.add_argument("--release", type=int, default=13, choices=sorted(recipes.SUITES))
    parser.add_argument("--firmware", default="uefi", choices=["uefi", "bios"])
    parser.add_argument("--table", default="gpt", choices=["gpt", "mbr"])
    parser.add_argument("--boot-partition", action="store_true")
    parser.add_argument("--swap", default="partition", choices=["partition", "file", "none"])
    parser.add_argument("--bus", default="virtio", choices=["virtio", "scsi", "nvme", "sata"])
    parser.add_argument("--modules", default="most", choices=["most", "dep"])
    parser.add_argument("--kernel", default="cloud", choices=["cloud", "generic"])
    parser.add_argument("--deb", type=Path, help="install this package in it")
    options = vars(parser.parse_args(argv))
    action, deb = options.pop("action"), options.pop("deb")

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    sample = build(Recipe(**options), say)
    if deb is not None:
        sample = installed(sample, deb, say)
    if action == "warm":
        warm(sample, say)
    sys.stdout.write(f"{sample.folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
