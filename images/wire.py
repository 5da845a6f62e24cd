# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to QEMU's monitor and the guest's agent: one JSON document a line over a socket."""

import base64
import json
import random
import socket
import time
from collections.abc import Mapping
from typing import Any, Final

_SLICE: Final = 256 * 1024
"""Bytes of a file that go over the agent's wire at a time."""


class GuestError(Exception):
    """A virtual machine did not do what was asked. `str()` is a sentence."""


class Gone(GuestError):
    """QEMU ended, or hung up."""


class Refusal(GuestError):
    """QEMU or the agent answered with an error."""


class Late(GuestError):
    """No answer in time."""


class Wire:
    """Lines of JSON over a connected stream socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept = b""

    def send(self, document: object, prefix: bytes = b"") -> None:
        """Send one document. Raises Gone."""
        try:
            self._sock.settimeout(30)
            self._sock.sendall(prefix + json.dumps(document).encode() + b"\n")
        except OSError as error:
            raise Gone(f"The virtual machine has ended ({error}).") from None

    def receive(self, deadline: float) -> Any:
        """The next document. Raises Gone, and Late when `deadline` (monotonic) passes first."""
        while b"\n" not in self._kept:
            self._sock.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                got = self._sock.recv(1 << 20)
            except TimeoutError:
                raise Late("The virtual machine did not answer in time.") from None
            except OSError as error:
                raise Gone(f"The virtual machine has ended ({error}).") from None
            if not got:
                raise Gone("The virtual machine has ended.")
            self._kept += got
        line, _, self._kept = self._kept.partition(b"\n")
        # The agent puts 0xFF before its answer to a sync, and anything older before that is stale.
        text = line.rpartition(b"\xff")[2].strip()
        return json.loads(text) if text else None

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


class Monitor:
    """QEMU's own monitor (QMP)."""

    def __init__(self, sock: socket.socket) -> None:
        self._wire = Wire(sock)
        self.events: list[dict[str, Any]] = []
        """What QEMU reported by itself, oldest first."""
        self._wire.receive(time.monotonic() + 30)  # the greeting
        self.command("qmp_capabilities")

    def command(self, name: str, /, **arguments: object) -> Any:
        """Carry out a command and return its answer. Raises Refusal, Late, Gone."""
        return self._carry_out(name, arguments, 60)

    def human(self, line: str, timeout: float = 120) -> str:
        """Carry out a line of the monitor for people; what it answers is free text."""
        said = self._carry_out("human-monitor-command", {"command_line": line}, timeout)
        return str(said)

    def _carry_out(self, name: str, arguments: Mapping[str, object], timeout: float) -> Any:
        self._wire.send(
            {"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        )
        deadline = time.monotonic() + timeout
        while True:
            answer = self._wire.receive(deadline)
            if answer is None:
                continue
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise Refusal(f"QEMU refused {name}: {answer['error'].get('desc')}")
            else:
                return answer.get("return")

    def poll(self) -> None:
        """Take in the events that have arrived by now."""
        while True:
            try:
                answer = self._wire.receive(time.monotonic())
            except Late:
                return
            if answer is not None and "event" in answer:
                self.events.append(answer)

    def wait_event(self, name: str, timeout: float, **data: object) -> dict[str, Any]:
        """Wait for an event that has this data, or take the one seen before off the list."""
        deadline = time.monotonic() + timeout
        while True:
            for event in self.events:
                got = event.get("data", {})
                if event["event"] == name and all(got.get(k) == v for k, v in data.items()):
                    self.events.remove(event)
                    return event
            answer = self._wire.receive(deadline)
            if answer is not None and "event" in answer:
                self.events.append(answer)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()


class Agent:
    """The QEMU guest agent inside the guest: runs programs, reads and writes files."""

    def __init__(self, sock: socket.socket) -> None:
        self._wire = Wire(sock)
        self._in_step = False

    def sync(self, timeout: float) -> None:
        """Wait until the agent is there and hears us. Raises Late, Gone."""
        deadline = time.monotonic() + timeout
        asked: set[int] = set()
        while True:
            number = random.randrange(1 << 31)  # noqa: S311 - tells answers apart, keeps no secret
            asked.add(number)
            # 0xFF resets the agent's parser, should half a line have been left in it.
            self._wire.send(
                {"execute": "guest-sync-delimited", "arguments": {"id": number}}, prefix=b"\xff"
            )
            # Before the agent is there, every question stays in the wire: few, or it fills up.
            until = min(deadline, time.monotonic() + (1.0 if len(asked) == 1 else 8.0))
            while True:
                try:
                    answer = self._wire.receive(until)
                except Late:
                    break
                if isinstance(answer, dict) and answer.get("return") == number:
                    self._in_step = True
                    return
            if time.monotonic() >= deadline:
                raise Late(f"The guest's agent did not answer within {timeout:g} s.")

    def call(self, name: str, /, timeout: float = 60, **arguments: object) -> Any:
        """Carry out one of the agent's commands. Raises Refusal, Late, Gone."""
        if not self._in_step:
            self.sync(timeout)
        self._in_step = False
        self._wire.send(
            {"execute": name, "arguments": {k.replace("_", "-"): v for k, v in arguments.items()}}
        )
        answer = self._wire.receive(time.monotonic() + timeout)
        self._in_step = True
        if "error" in answer:
            raise Refusal(f"The guest's agent refused {name}: {answer['error'].get('desc')}")
        return answer.get("return")

    def write(self, path: str, data: bytes) -> None:
        """Replace the file `path` of the guest."""
        handle = self.call("guest-file-open", path=path, mode="w")
        try:
            for start in range(0, len(data), _SLICE):
                part = data[start : start + _SLICE]
                while part:
                    done = self.call(
                        "guest-file-write", handle=handle, buf_b64=base64.b64encode(part).decode()
                    )
                    part = part[done["count"] :]
        finally:
            self.call("guest-file-close", handle=handle)

    def read(self, path: str) -> bytes:
        """The content of the file `path` of the guest."""
        handle = self.call("guest-file-open", path=path, mode="r")
        got = bytearray()
        try:
            while True:
                part = self.call("guest-file-read", handle=handle, count=_SLICE)
                got += base64.b64decode(part["buf-b64"])
                if part["eof"]:
                    return bytes(got)
        finally:
            self.call("guest-file-close", handle=handle)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()
