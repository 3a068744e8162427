"""Imports point downwards between rooms, and a file fits on a few screens."""

import ast
from collections.abc import Iterator

from program import PROJECT

PACKAGE = PROJECT / "cifar_lightning"

# From top to bottom. A room is a folder of the package, or a file beside them.
FLOORS = [
    {"__main__"},
    {"bench", "sweep"},
    {"cli"},
    {"commands"},
    {"callbacks"},
    {"runs"},
    {"classifier"},
    {"data", "models", "metrics", "meter", "schedules", "figures", "optimizers"},
    {"processes"},
    {"lightning_internals"},
    {"errors"},
]
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MOST_FILES, MOST_LINES, MOST_LINES_OF_A_CLASS = 9, 300, 180

MODULES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}


def room(module: str) -> str:
    """``cifar_lightning.data.shapes`` is in ``data``, ``cifar_lightning`` in ``__init__``."""
    return [*module.split("."), "__init__"][1]


def imports(module: str) -> set[str]:
    """The package's modules that a module imports, wherever it does, but for types alone."""
    tree = ast.parse(MODULES[module].read_text())
    found: set[str] = set()
    for node in _executed(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively: write the module's whole name"
            # what is imported from a room is a module of it or a name in its __init__
            of = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else str(node.module) for name in of]
        else:
            continue
        found |= MODULES.keys() & set(names)
    return found - {module}


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """A syntax tree's nodes, less the branches that are for type checkers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (n for other in child.orelse for n in [other, *_executed(other)])
        else:
            yield child
            yield from _executed(child)


GRAPH = {module: imports(module) for module in MODULES}


def circles(graph: dict[str, set[str]]) -> Iterator[list[str]]:
    """What is left when whatever imports nothing that is left is taken away, again and again."""
    left = dict(graph)
    while free := {module for module, needs in left.items() if not needs & left.keys()}:
        left = {module: needs for module, needs in left.items() if module not in free}
    if left:
        yield sorted(left)


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} - {"__init__"} <= FLOOR.keys()


def upward() -> Iterator[str]:
    for module, needs in GRAPH.items():
        for other in needs:
            ours, theirs = room(module), room(other)
            if ours == "__init__":
                continue  # it imports lazily, on behalf of others
            if theirs == "__init__" or FLOOR[theirs] < FLOOR[ours]:
                yield f"{module} imports {other}"


def too_long() -> Iterator[str]:
    """Modules and classes."""
    for module, path in MODULES.items():
        text = path.read_text()
        if len(text.splitlines()) > MOST_LINES:
            yield module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MOST_LINES_OF_A_CLASS:
                    yield f"{module}.{node.name}"


def test_imports_point_downwards() -> None:
    assert list(upward()) == []


def test_no_module_imports_what_imports_it() -> None:
    assert list(circles(GRAPH)) == []


def test_no_room_imports_what_imports_it() -> None:
    rooms: dict[str, set[str]] = {}
    for module, needs in GRAPH.items():
        rooms.setdefault(room(module), set()).update(room(other) for other in needs)
    assert list(circles({name: needs - {name} for name, needs in rooms.items()})) == []


def test_files_and_classes_fit_on_a_few_screens() -> None:
    assert list(too_long()) == []


def test_the_top_level_is_seen_at_a_glance() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_FILES


def test_no_test_file_imports_another() -> None:
    for path in (PROJECT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                names = [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.startswith(("test_", "conftest")) for name in names), path
