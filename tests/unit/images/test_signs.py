# SPDX-License-Identifier: GPL-3.0-or-later
"""What is heard from a guest, and the verdict."""

import pytest

from images.console import plain
from images.signs import Ending, Listener, Verdict, read_report


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[   12.3] Kernel panic - not syncing: Attempted to kill init!", Verdict.PANIC),
        ("Booting from Floppy...\r\n\r\nNo bootable device.\r\n", Verdict.NO_LOADER),
        ("BdsDxe: No bootable option or device was found", Verdict.NO_LOADER),
        ("UEFI Interactive Shell v2.2\r\nEDK II\r\n", Verdict.NO_LOADER),
        ("error: no such partition.\r\nEntering rescue mode\r\ngrub rescue> ", Verdict.NO_CONFIG),
        ("\r\ngrub> ", Verdict.NO_CONFIG),
        ("ALERT!  UUID=1 does not exist.  Dropping to a shell!\r\n", Verdict.EMERGENCY),
        ("\r\n(initramfs) ", Verdict.EMERGENCY),
        ("You are in emergency mode. After logging in, type", Verdict.EMERGENCY),
        ("Cannot open access to console, the root account is locked.", Verdict.EMERGENCY),
        ("Please unlock disk sda2_crypt: ", Verdict.LOCKED),
        ("Enter passphrase for hd0,gpt2 (0123): ", Verdict.LOCKED),
    ],
)  # fmt: skip
def test_words_that_end_a_drill_at_once(text: str, verdict: Verdict) -> None:
    ending = Listener().hear(text, 5.0)
    assert ending is not None
    assert ending.verdict is verdict


@pytest.mark.parametrize(
    "text",
    [
        "Loading Linux 6.12.107+deb13-cloud-amd64 ...\r\nLoading initial ramdisk ...\r\n",
        'BdsDxe: failed to load Boot0001 "debian": Not Found\r\n',
        "error: no such device: 1234.\r\n",
        "Use the ^ and v keys to select which entry is highlighted. `c' for a command-line.",
        "debian13 login: root (automatic login)\r\n",
        "kernel: panic=5 given",
    ],
)  # fmt: skip
def test_words_that_end_nothing(text: str) -> None:
    listener = Listener()
    assert listener.hear(text, 5.0) is None
    assert listener.hear("", 500.0) is None


def test_a_sign_that_arrives_in_pieces_is_heard() -> None:
    listener = Listener()
    assert listener.hear("Kernel panic - not", 1.0) is None
    ending = listener.hear(" syncing: x", 1.2)
    assert ending is not None
    assert ending.verdict is Verdict.PANIC


def test_a_missing_kernel_counts_once_nothing_follows() -> None:
    listener = Listener()
    assert listener.hear("error: you need to load the kernel first.\r\n", 10.0) is None
    assert listener.hear("Press any key to continue...", 14.0) is None
    ending = listener.hear("", 25.1)
    assert ending is not None
    assert ending.verdict is Verdict.NO_CONFIG


def test_a_missing_kernel_is_forgotten_when_another_one_starts() -> None:
    listener = Listener()
    listener.hear("error: you need to load the kernel first.\r\n", 10.0)
    listener.hear("[    0.000000] Linux version 6.1.0 (debian)", 15.0)
    assert listener.hear("", 60.0) is None


def test_an_old_sign_is_not_heard_twice() -> None:
    listener = Listener()
    listener.hear("error: you need to load the kernel first.\r\n", 10.0)
    listener.hear("Linux version 6.1.0", 15.0)
    listener.hear("more", 20.0)
    assert listener.hear("and more", 90.0) is None


def test_stages_keep_when_they_came_first() -> None:
    listener = Listener()
    listener.hear("Welcome to GRUB!\r\n", 3.0)
    listener.hear("[ 0.0] Linux version 6.12\r\n", 8.0)
    listener.hear("systemd[1]: Detected virtualization qemu\r\n", 20.0)
    listener.hear("systemd[1]: again\r\n", 22.0)
    listener.hear("\r\ndebian13 login: ", 40.0)
    assert listener.stages == {"loader": 3.0, "kernel": 8.0, "system": 20.0, "login": 40.0}


def report(state: str = "running", check: str = "", failed: str = "", nonce: str = "abc") -> bytes:
    return f"state={state}\nroot=1-2\nfailed={failed}\ncheck={check}\nnonce={nonce}\n".encode()


@pytest.mark.parametrize(
    ("data", "verdict"),
    [
        (report(), Verdict.BOOTED),
        (report("degraded", failed="a.service b.mount "), Verdict.DEGRADED),
        (report("maintenance"), Verdict.EMERGENCY),
        (report(check="database"), Verdict.CHECK_FAILED),
        (report("degraded", check="database"), Verdict.DEGRADED),
        (report(""), Verdict.DEGRADED),
    ],
)  # fmt: skip
def test_reports(data: bytes, verdict: Verdict) -> None:
    got = read_report(data, "abc")
    assert got is not None
    assert got.ending().verdict is verdict


def test_a_degraded_system_names_its_failed_units() -> None:
    got = read_report(report("degraded", failed="a.service b.mount "), "abc")
    assert got is not None
    assert "a.service, b.mount" in got.ending().says


@pytest.mark.parametrize(
    "data",
    [
        b"",
        report()[:-1],
        report().replace(b"nonce=abc\n", b""),
        report(nonce="stolen"),
        b"nonce=ab\n",
    ],
)
def test_only_a_whole_report_with_our_nonce_counts(data: bytes) -> None:
    assert read_report(data, "abc") is None


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("\x1b[0;32m  OK  \x1b[0m] Reached", "  OK  ] Reached"),
        ("\x1bc\x1b[?7l\x1b[2JSeaBIOS", "SeaBIOS"),
        ("\x1b]3008;start=1\x1b\\done", "done"),
        ("\x1b[!p\x1b]104\x07\x1b[?7hlogin: ", "login: "),
    ],
)
def test_terminal_sequences_go(raw: str, text: str) -> None:
    assert plain(raw) == text


def test_the_check_that_a_drill_brings() -> None:
    """Its words, and a system that does not know how to run it: never taken for a pass."""
    lines = report(check="given").replace(b"nonce", b"checked=yes\nsaid=no orders today\nnonce")
    got = read_report(lines, "abc")
    assert got is not None
    assert got.ending(given=True) == Ending(
        Verdict.CHECK_FAILED, "the check failed: no orders today"
    )
    passed = read_report(report().replace(b"nonce", b"checked=yes\nsaid=\nnonce"), "abc")
    assert passed is not None
    assert passed.ending(given=True).verdict is Verdict.BOOTED
    old = read_report(report(), "abc")
    assert old is not None
    assert old.ending(given=True).verdict is Verdict.CHECK_FAILED
    assert old.ending().verdict is Verdict.BOOTED


def test_secure_boot_may_refuse_loader_or_kernel() -> None:
    ending = Listener().hear("Verification failed: (0x1A) Security Violation", 5.0)
    assert ending is not None
    assert ending.verdict is Verdict.NO_LOADER
    listener = Listener()
    assert listener.hear("error: bad shim signature.\n", 10.0) is None
    ending = listener.hear("", 30.0)
    assert ending is not None
    assert (ending.verdict, ending.says) == (Verdict.NO_CONFIG, "Secure Boot refused the kernel")
