# SPDX-License-Identifier: GPL-3.0-or-later
"""Values survive JSON, and what does not fit is named."""

import json
from dataclasses import dataclass
from typing import Literal

import pytest

from core.model.plain import Misfit, from_plain, to_plain


@dataclass(frozen=True, slots=True)
class Leaf:
    name: str
    span: tuple[int, int]
    kind: Literal["a", "b"] = "a"


@dataclass(frozen=True, slots=True)
class Tree:
    leaves: tuple[Leaf, ...]
    weight: float
    note: str | None = None


TREE = Tree((Leaf("x", (1, 2)), Leaf("y", (3, 4), "b")), 1.5)


def test_a_value_survives_json() -> None:
    assert from_plain(Tree, json.loads(json.dumps(to_plain(TREE)))) == TREE


def test_a_whole_number_is_a_weight() -> None:
    assert from_plain(Tree, {"leaves": [], "weight": 2}) == Tree((), 2.0)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"colour": 1}, "unknown key 'colour'"),
        ({"weight": "heavy"}, r"Tree\.weight"),
        ({"weight": True}, r"Tree\.weight"),
        ({"leaves": [{"name": "x", "span": [1]}]}, r"Tree\.leaves\[0\]\.span: 2 items"),
        ({"leaves": [{"name": "x", "span": [1, 2], "kind": "c"}]}, "'c' is none of 'a', 'b'"),
        ({"leaves": [{"span": [1, 2]}]}, "'name' is missing"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], where: str) -> None:
    with pytest.raises(Misfit, match=where):
        from_plain(Tree, to_plain(TREE) | change)
