# SPDX-License-Identifier: GPL-3.0-or-later
"""Frozen values to and from what JSON and TOML know, strictly: a key too many is an error."""

import dataclasses
import types
import typing
from typing import Any, TypeVar

Value = TypeVar("Value")


class Misfit(ValueError):
    """The data is not of the shape asked for; the text says where, as does `where`."""

    def __init__(self, where: str, what: str, key: str = "") -> None:
        super().__init__(f"{where}: {what}")
        self.where = f"{where}.{key}" if key else where
        self.what = what


def to_plain(value: object) -> Any:
    """A frozen dataclass as dictionaries, lists, strings and numbers."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: type[Value], data: object) -> Value:
    """Build a `kind` from what `to_plain` made of one. Raises Misfit."""
    return typing.cast("Value", _build(kind, data, kind.__name__))


def _build(kind: Any, data: object, where: str) -> object:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _build_dataclass(kind, data, where)
    if origin is tuple:
        return _build_tuple(arguments, data, where)
    if origin is typing.Literal:
        if data not in arguments:
            raise Misfit(where, f"{data!r} is none of {', '.join(map(repr, arguments))}")
        return data
    if origin is types.UnionType:
        for choice in arguments:
            try:
                return _build(choice, data, where)
            except Misfit:
                continue
        raise Misfit(where, f"{data!r} does not fit")
    if kind is types.NoneType and data is None:
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if type(data) is kind:  # exactly: a bool is no int here
        return data
    raise Misfit(where, f"{data!r} is not {getattr(kind, '__name__', kind)}")


def _build_dataclass(kind: type, data: object, where: str) -> object:
    if not isinstance(data, dict):
        raise Misfit(where, "not a table")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if unknown := sorted(set(data) - set(fields)):
        raise Misfit(where, f"unknown key {unknown[0]!r}", unknown[0])
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _build(hints[name], data[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING:
            raise Misfit(where, f"{name!r} is missing")
    return kind(**values)


def _build_tuple(arguments: tuple[Any, ...], data: object, where: str) -> object:
    if not isinstance(data, list):
        raise Misfit(where, "not a list")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_build(arguments[0], item, f"{where}[{at}]") for at, item in enumerate(data))
    if len(arguments) != len(data):
        raise Misfit(where, f"{len(arguments)} items expected")
    return tuple(
        _build(kind, item, f"{where}[{at}]")
        for at, (kind, item) in enumerate(zip(arguments, data, strict=True))
    )
