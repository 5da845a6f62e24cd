# SPDX-License-Identifier: GPL-3.0-or-later
"""A firmware with a memory, for tests: it prints as efibootmgr does, and may misbehave."""

from collections.abc import Callable
from dataclasses import dataclass, field

from core.errors import BootOrderFailed
from grub.nvram import Nvram, parse


@dataclass
class FakeFirmware:
    """`entries`: label and device path by number. The hooks are called when something is asked."""

    entries: dict[int, tuple[str, str]]
    order: list[int]
    current: int | None = None
    next: int | None = None
    control: str = ""
    """Partition GUID that a new entry gets: what the disk's own table says."""
    off: set[int] = field(default_factory=set)
    capacity: int = 99
    refuses: str = ""
    """A method that raises."""
    ignores: str = ""
    """A method that does nothing and says nothing."""
    after: Callable[["FakeFirmware"], None] = lambda _: None
    """What the firmware does by itself after each change."""
    asked: list[str] = field(default_factory=list)
    """Every change that was asked for, in order."""

    def text(self) -> str:
        lines = [] if self.current is None else [f"BootCurrent: {self.current:04X}"]
        lines += [] if self.next is None else [f"BootNext: {self.next:04X}"]
        lines += ["Timeout: 1 seconds"]
        lines += ["BootOrder: " + ",".join(f"{number:04X}" for number in self.order)]
        for number, (label, path) in sorted(self.entries.items()):
            star = " " if number in self.off else "*"
            lines += [f"Boot{number:04X}{star} {label}\t{path}", "      dp: 04 01 / 7f ff 04 00"]
        return "\n".join(lines) + "\n"

    def read(self) -> Nvram:
        self._may("read")
        return parse(self.text())

    def create(self, disk: str, part: int, label: str, loader: str) -> None:
        if self._may("create"):
            if len(self.entries) >= self.capacity:
                raise BootOrderFailed("The firmware's memory for boot entries is full.")
            number = next(n for n in range(0x10000) if n not in self.entries)
            self.entries[number] = (
                label,
                f"HD({part},GPT,{self.control},0x1000,0x1000)/File({loader})",
            )
            self.after(self)

    def delete(self, number: int) -> None:
        if self._may("delete"):
            del self.entries[number]
            self.order = [n for n in self.order if n != number]
            self.next = None if self.next == number else self.next
            self.after(self)

    def activate(self, number: int) -> None:
        if self._may("activate"):
            self.off.discard(number)
            self.after(self)

    def set_order(self, order: tuple[int, ...]) -> None:
        if self._may("set_order"):
            missing = [n for n in order if n not in self.entries]
            if missing:
                raise BootOrderFailed(f"entry {missing[0]:04X} does not exist")
            self.order = list(order)
            self.after(self)

    def set_next(self, number: int) -> None:
        if self._may("set_next"):
            if number not in self.entries:
                raise BootOrderFailed(f"entry {number:04X} does not exist")
            self.next = number
            self.after(self)

    def clear_next(self) -> None:
        if self._may("clear_next"):
            if self.next is None:
                raise BootOrderFailed("Could not delete BootNext: No such file or directory")
            self.next = None
            self.after(self)

    def boot(self) -> int | None:
        """What a start does with it: BootNext once, else the first entry that is switched on."""
        chosen = self.next
        if chosen is None:
            chosen = next((n for n in self.order if n not in self.off), None)
        self.current, self.next = chosen, None
        return chosen

    def _may(self, what: str) -> bool:
        if what != "read":
            self.asked.append(what)
        if self.refuses == what:
            raise BootOrderFailed("The firmware's variables are read-only.")
        return self.ignores != what
