# SPDX-License-Identifier: GPL-3.0-or-later
"""The house keeps its order: who imports whom, which room may do what, how long a file is."""

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("core", "grub", "images", "builder", "recovery", "dpsr")
"""From the ground up: a room imports from itself and from those before it."""

OTHERS = ("tests", "bench", "packaging", "docs")
MOST_LINES = 400
PURE = ("core.model", "builder.plan")
EFFECTS = {"os", "subprocess", "parted", "_ped", "pyudev", "shutil", "socket", "fcntl"}
ONLY_IN = {
    "subprocess": ("core.run",),
    "pyudev": ("core.machine",),
    "parted": ("core.machine.tables", "builder.partition"),
    "_ped": ("core.machine.tables", "builder.partition"),
}
STARTS_PROGRAMS = {"system", "popen", "posix_spawn", "posix_spawnp", "forkpty", "startfile"}


def sources(*tops: str) -> list[Path]:
    return sorted(
        path
        for top in tops
        for path in (ROOT / top).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def house() -> Mapping[str, ast.Module]:
    """Each module of the rooms with its syntax tree."""
    return {module_name(path): ast.parse(path.read_bytes()) for path in sources(*ROOMS)}


def imports(tree: ast.Module, known: frozenset[str]) -> Iterator[str]:
    """Full names of what a module imports anywhere, late and type-only imports included.

    `from core.model import copy` is core.model.copy when that is a module among `known`.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: say the whole name of the module"
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                yield inner if inner in known else str(node.module)


def upward(module: str, imported: str) -> bool:
    room, other = (name.partition(".")[0] for name in (module, imported))
    return other in ROOMS and ROOMS.index(other) > ROOMS.index(room)


def cycle(graph: Mapping[str, set[str]]) -> list[str]:
    """One circle of modules that import each other, or nothing."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return [str(module) for module in error.args[1]]
    return []


def inside(module: str, places: tuple[str, ...]) -> bool:
    return any(module == place or module.startswith(f"{place}.") for place in places)


def test_imports_go_down() -> None:
    known = frozenset(house())
    bad = [
        f"{module} imports {imported}"
        for module, tree in house().items()
        for imported in imports(tree, known)
        if upward(module, imported)
    ]
    assert not bad, bad


def test_no_modules_import_each_other() -> None:
    known = frozenset(house())
    graph = {module: set(imports(tree, known)) & known for module, tree in house().items()}
    assert cycle(graph) == []


def test_the_house_does_not_import_its_tests() -> None:
    known = frozenset(house())
    bad = [
        f"{module} imports {imported}"
        for module, tree in house().items()
        for imported in imports(tree, known)
        if imported.partition(".")[0] in OTHERS
    ]
    assert not bad, bad


@pytest.mark.parametrize("room", PURE)
def test_decisions_have_no_effects(room: str) -> None:
    known = frozenset(house())
    bad = [
        f"{module} imports {imported}"
        for module, tree in house().items()
        if inside(module, (room,))
        for imported in imports(tree, known)
        if imported.partition(".")[0] in EFFECTS or inside(imported, ("core.run",))
    ]
    assert not bad, bad


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_door_is_where_it_belongs(library: str) -> None:
    known = frozenset(house())
    bad = [
        module
        for module, tree in house().items()
        for imported in imports(tree, known)
        if imported.partition(".")[0] == library and not inside(module, ONLY_IN[library])
    ]
    assert not bad, bad


def test_nobody_starts_programs_past_the_door() -> None:
    bad = [
        f"{module}:{node.lineno} os.{node.attr}"
        for module, tree in house().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
        and (node.attr in STARTS_PROGRAMS or node.attr.startswith("spawn"))
    ]
    assert not bad, bad


def test_every_file_is_licensed_and_says_its_job() -> None:
    for path in [*sources(*ROOMS, *OTHERS), ROOT / "noxfile.py"]:
        text = path.read_text()
        assert text.startswith("# SPDX-License-Identifier: GPL-3.0-or-later\n"), path
        assert ast.get_docstring(ast.parse(text)), f"{path} has no docstring"


def test_no_file_is_longer_than_a_person_can_hold() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in sources(*ROOMS, *OTHERS)}
    assert not {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES}


def test_every_room_is_a_package() -> None:
    folders = {path.parent for path in sources(*ROOMS)}
    assert not [str(folder) for folder in folders if not (folder / "__init__.py").is_file()]
    assert {path.relative_to(ROOT).parts[0] for path in folders} == set(ROOMS)


# The checks themselves: each sees what it is there for.


def test_late_and_submodule_imports_are_seen() -> None:
    tree = ast.parse("def f():\n    import numpy.linalg\n    from core.model import copy, Plan\n")
    seen = set(imports(tree, frozenset({"core.model.copy"})))
    assert seen == {"numpy.linalg", "core.model.copy", "core.model"}


def test_relative_imports_are_refused() -> None:
    with pytest.raises(AssertionError, match="whole name"):
        list(imports(ast.parse("from ..core import run"), frozenset()))


def test_upward_and_circular_imports_are_seen() -> None:
    assert upward("core.run", "builder.flow")
    assert not upward("dpsr.main", "core.run")
    assert not upward("core.run", "core.errors")
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()})
