# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what undo logs saved back to the slots; again does no harm.

A slot that is half restored must not look like a file system, whatever instant the power fails
at. So identity blocks are destroyed first, and come back last, after all else is on the disk.
Where several logs hold a block, the oldest content wins: logs are replayed newest first.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from typing import Final

from builder.copying.direct import SlotWriter, buffer
from builder.vault.undoformat import LONGEST, LogSlot
from builder.vault.undoread import Found, UndoLog
from core import points
from core.errors import UndoLogDamaged
from core.machine.places import place_of
from core.screen import Screen

SlotPath = Callable[[int], str]
"""The device of a partition of the DPSR disk, by its number."""

Range = tuple[int, int]
Piece = tuple[int, int, bool]
_ZEROS: Final = bytes(64 << 10)


class Spans:
    """Byte ranges of one slot, merged; few."""

    def __init__(self, ranges: Sequence[Range]) -> None:
        self.ranges: list[Range] = []
        for start, end in sorted(ranges):
            if self.ranges and start <= self.ranges[-1][1]:
                self.ranges[-1] = (self.ranges[-1][0], max(self.ranges[-1][1], end))
            else:
                self.ranges.append((start, end))
        self._starts = [start for start, _end in self.ranges]

    def cut(self, start: int, end: int) -> Iterator[Piece]:
        """`[start, end)` in pieces, each with whether it lies in one of the ranges."""
        at = max(bisect_right(self._starts, start) - 1, 0)
        for begin, stop in self.ranges[at:]:
            if begin >= end:
                break
            if stop <= start:
                continue
            if start < begin:
                yield start, begin, False
                start = begin
            yield start, min(stop, end), True
            start = min(stop, end)
        if start < end:
            yield start, end, False


def replay(logs: Sequence[UndoLog], slot_path: SlotPath, screen: Screen, *, sealed: bool) -> None:
    """Take the slots back to where the last of `logs`, newest first, began; all is flushed.

    With `sealed`, each log must be complete. Everything is checked before anything is written.
    Raises UndoLogDamaged, WriteFailed.
    """
    total = 0
    spans: dict[int, list[Range]] = {}
    for log in logs:
        for found in log.records(need_seal=sealed):
            total += found.record.length
            marked = spans.setdefault(_number(log, found), [])
            if found.identity:
                marked.append(_span(found))
    if not spans:
        return
    identity = {number: Spans(ranges) for number, ranges in spans.items()}
    with ExitStack() as stack, screen.progress("going back", total) as advance:
        known = {slot.number: slot for log in logs for slot in log.header.slots}
        writers = {
            number: stack.enter_context(closing(_open(known[number], slot_path(number))))
            for number in spans
        }
        room = buffer(LONGEST)
        _destroy(writers, identity, room)
        points.reach("replay-destroyed")
        late: list[tuple[UndoLog, Found]] = []
        for log in logs:
            for found in log.records(need_seal=sealed):
                number = _number(log, found)
                pieces = list(identity[number].cut(*_span(found)))
                _put(log, found, writers[number], room, [each for each in pieces if not each[2]])
                if any(inside for _start, _end, inside in pieces):
                    late.append((log, found))
                advance(found.record.length)
        _flush(writers)
        points.reach("replay-content")
        _put_late(late, identity, writers, room)
        _flush(writers)
    points.reach("replayed")


def _number(log: UndoLog, found: Found) -> int:
    return log.header.slots[found.record.slot].number


def _open(slot: LogSlot, path: str) -> SlotWriter:
    place = place_of(path)
    if place is not None and place != (slot.start, slot.size):
        # Somebody's own partition has its number now.
        raise UndoLogDamaged(f"{path} is not the slot {slot.name} that the undo log speaks of.")
    writer = SlotWriter(path)
    if writer.size < slot.size:
        writer.close()
        raise UndoLogDamaged(
            f"{path} is smaller than the slot {slot.name} that the undo log speaks of."
        )
    return writer


def _span(found: Found) -> Range:
    return found.record.offset, found.record.offset + found.record.length


def _put(
    log: UndoLog, found: Found, writer: SlotWriter, room: memoryview, pieces: list[Piece]
) -> None:
    """Write these pieces of what a record saved."""
    if not pieces:
        return
    content = log.content(found)
    room[: len(content)] = content  # O_DIRECT wants memory on a page boundary
    for start, end, _inside in pieces:
        at = found.record.offset
        writer.write(start, room[start - at : end - at])


def _put_late(
    late: list[tuple[UndoLog, Found]],
    identity: dict[int, Spans],
    writers: dict[int, SlotWriter],
    room: memoryview,
) -> None:
    """Write the identity blocks, each once: a newer one must not be seen beside older content."""
    done: dict[int, list[Range]] = {number: [] for number in writers}
    for log, found in reversed(late):
        number = _number(log, found)
        wanted = [
            piece
            for start, end, inside in identity[number].cut(*_span(found))
            if inside
            for piece in Spans(done[number]).cut(start, end)
            if not piece[2]
        ]
        _put(log, found, writers[number], room, wanted)
        done[number] += [(start, end) for start, end, _inside in wanted]


def _destroy(writers: dict[int, SlotWriter], identity: dict[int, Spans], room: memoryview) -> None:
    room[: len(_ZEROS)] = _ZEROS
    for number, writer in writers.items():
        for start, end in identity[number].ranges:
            for at in range(start, end, len(_ZEROS)):
                writer.write(at, room[: min(len(_ZEROS), end - at)])
    _flush(writers)


def _flush(writers: dict[int, SlotWriter]) -> None:
    for writer in writers.values():
        writer.flush()
