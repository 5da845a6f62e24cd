# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's serial console for pexpect: firmware, GRUB, panics, logins, whatever has no agent."""

import os
import re
import socket
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from pexpect import EOF, TIMEOUT
from pexpect.spawnbase import SpawnBase

_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours, cursor movements
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # window titles; systemd 257's terminal marks
    r"|\x1b[PX^_].*?\x1b\\"  # device control strings
    r"|\x1b[ -/]*[0-Z\\-~]"  # the rest
    r"|[\x00\x07\x0e\x0f]",
    re.DOTALL,
)
_UNFINISHED: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]*\x1b?|[PX^_][^\x1b]*\x1b?)?$")


def plain(text: str) -> str:
    """`text` without the control sequences of terminals."""
    return _ESCAPES.sub("", text)


class Console(SpawnBase):  # type: ignore[misc] # pexpect ships no types
    """What the guest prints on its serial line, without terminal sequences; `send` types.

    A thread takes everything off the line at once, whether anybody listens or not: a serial port
    whose reader is slow would hold up the guest. The raw bytes are appended to `log`.
    """

    def __init__(self, sock: socket.socket, log: Path) -> None:
        super().__init__(
            timeout=60,
            maxread=1 << 16,
            searchwindowsize=None,
            encoding="utf-8",
            codec_errors="replace",
        )
        self._sock = sock
        self.log = log
        self._arrived = threading.Condition()
        self._waiting = bytearray()
        self._ended = False
        self._held = ""
        self.delaybeforesend = None
        self._reader = threading.Thread(target=self._drain, name="console", daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        with open(self.log, "ab", buffering=0) as log:
            while True:
                try:
                    got = self._sock.recv(1 << 16)
                except OSError:
                    got = b""
                log.write(got)
                with self._arrived:
                    self._waiting += got
                    self._ended = not got
                    self._arrived.notify_all()
                if not got:
                    return

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> str:
        """At most `size` bytes' worth of text. Raises TIMEOUT, and EOF when the guest is gone."""
        limit = self.timeout if timeout in {None, -1} else timeout
        deadline = time.monotonic() + (limit or 0.0)
        while True:
            with self._arrived:
                if not self._waiting and not self._ended:
                    self._arrived.wait(max(0.0, deadline - time.monotonic()))
                got = bytes(self._waiting[:size])
                del self._waiting[:size]
                ended = self._ended and not got
            if got:
                text = self._held + self._decoder.decode(got, final=False)
                # A sequence may have been cut in two by the end of what arrived.
                rest = _UNFINISHED.search(text)
                self._held = rest.group() if rest else ""
                text = plain(text[: rest.start()] if rest else text)
                if text:
                    self._log(text, "read")
                    return text
                continue
            if ended:
                self.flag_eof = True
                raise EOF("The guest has ended.")
            if time.monotonic() >= deadline:
                raise TIMEOUT(f"Nothing more was heard on the console. It ends:\n{tail(self.log)}")

    def send(self, text: str | bytes) -> int:
        """Type `text`."""
        data = text.encode() if isinstance(text, str) else text
        self._sock.sendall(data)
        return len(data)

    def sendline(self, text: str = "") -> int:
        """Type `text` and Enter."""
        return self.send(text + "\r")

    def isalive(self) -> bool:
        """Whether the line is still up."""
        return not self._ended

    def close(self) -> None:
        """Hang up, once what is still under way has been logged."""
        with suppress(OSError):  # QEMU may have hung up first
            self._sock.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._sock.close()


def text_of(log: Path) -> str:
    """The whole console log as plain text."""
    try:
        raw = log.read_bytes()
    except FileNotFoundError:
        return ""
    return plain(raw.decode("utf-8", "replace")).replace("\r\n", "\n").replace("\r", "\n")


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of the console log, for messages."""
    said = [line for line in text_of(log).splitlines() if line.strip()]
    return os.linesep.join(said[-lines:])
