"""A module imports only from lower packages (docs/architecture.md)."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = {
    "gdpo_jax.errors": 0,
    "gdpo_jax.compilation": 0,
    "gdpo_jax.files": 0,
    "gdpo_jax.token_ids": 0,
    "gdpo_jax.advantages": 0,
    "gdpo_jax.objectives": 0,
    "gdpo_jax.policies": 1,
    "gdpo_jax.data": 1,
    "gdpo_jax.rollouts": 2,
    "gdpo_jax.training": 3,
    "gdpo_jax.models": 4,
    "gdpo_jax.planning": 4,
    "gdpo_jax.prompts": 4,
    "gdpo_jax.answers": 5,
    "gdpo_jax.preparation": 6,
    "gdpo_jax.serving": 6,
    "gdpo_jax.recipe": 7,
    "gdpo_jax.commands": 8,
    "gdpo_jax.__main__": 9,
    "experiments.common.files": 10,
    "experiments.common.embedded": 10,
    "experiments.common.chats": 11,
    "experiments.common.scores": 11,
    "experiments.common.judges": 12,
    "experiments.common.runs": 12,
    "experiments.common.report": 13,
    "experiments.common.command_line": 14,
    "experiments.saferec.oracle": 20,
    "experiments.saferec.lists": 21,
    "experiments.saferec.published": 22,
    "experiments.saferec.embedded": 22,
    "experiments.saferec.data": 23,
    "experiments.saferec.settings": 24,
    "experiments.saferec.metrics": 24,
    "experiments.saferec.claims": 24,
    "experiments.saferec.scoring": 25,
    "experiments.saferec.rewards": 24,
    "experiments.saferec.arms": 25,
    "experiments.saferec.page": 26,
    "experiments.saferec.__main__": 27,
    "experiments.saferec": 26,
    "experiments.reward_design": 20,
    "experiments.curate.data": 20,
    "experiments.curate.facts": 20,
    "experiments.curate.given_answers": 20,
    "experiments.curate.settings": 20,
    "experiments.curate.claims": 20,
    "experiments.curate.judging": 21,
    "experiments.curate.ways": 21,
    "experiments.curate.presets": 21,
    "experiments.curate.mirror": 22,
    "experiments.curate.dialogues": 22,
    "experiments.curate.rewards": 22,
    "experiments.curate.metrics": 23,
    "experiments.curate.language": 23,
    "experiments.curate.dialogue_arms": 23,
    "experiments.curate.evaluation": 24,
    "experiments.curate.arms": 24,
    "experiments.curate.chat": 25,
    "experiments.curate.serve": 25,
    "experiments.curate.page": 26,
    "experiments.curate.commands": 27,
    "experiments.curate.__main__": 30,
    "experiments.curate": 29,
    "experiments.dcr.data": 20,
    "experiments.dcr.states": 21,
    "experiments.dcr.refinement": 21,
    "experiments.dcr.kernel": 21,
    "experiments.dcr.separation": 22,
    "experiments.dcr.bound": 22,
    "experiments.dcr.directions": 22,
    "experiments.dcr.ablation": 23,
    "experiments.dcr.refusal_vectors": 23,
    "experiments.dcr.steering": 24,
    "experiments.dcr.arms": 25,
    "experiments.dcr.settings": 22,
    "experiments.dcr.claims": 22,
    "experiments.dcr.language": 22,
    "experiments.dcr.rewards": 22,
    "experiments.dcr.records": 23,
    "experiments.dcr.presets": 24,
    "experiments.dcr.metrics": 25,
    "experiments.dcr.judges": 21,
    "experiments.dcr.diagnostics": 23,
    "experiments.dcr.evaluation": 26,
    "experiments.dcr.trade_off": 26,
    "experiments.dcr.page": 27,
    "experiments.dcr.commands": 28,
    "experiments.dcr.__main__": 30,
    "experiments.dcr": 29,
    "experiments.persona_leakage.data": 20,
    "experiments.persona_leakage.published": 20,
    "experiments.persona_leakage.isolation": 20,
    "experiments.persona_leakage.measures": 21,
    "experiments.persona_leakage.fingerprint": 21,
    "experiments.persona_leakage.store": 21,
    "experiments.persona_leakage.learning": 21,
    "experiments.persona_leakage.claims": 21,
    "experiments.persona_leakage.settings": 22,
    "experiments.persona_leakage.rewards": 22,
    "experiments.persona_leakage.language": 22,
    "experiments.persona_leakage.recognition": 22,
    "experiments.persona_leakage.dataset": 23,
    "experiments.persona_leakage.records": 24,
    "experiments.persona_leakage.presets": 23,
    "experiments.persona_leakage.answering": 24,
    "experiments.persona_leakage.metrics": 24,
    "experiments.persona_leakage.examples": 23,
    "experiments.persona_leakage.arms": 25,
    "experiments.persona_leakage.evaluation_tables": 25,
    "experiments.persona_leakage.evaluation": 26,
    "experiments.persona_leakage.page": 27,
    "experiments.persona_leakage.commands": 28,
    "experiments.persona_leakage.__main__": 30,
    "experiments.persona_leakage": 29,
}
EXPERIMENTS = (
    "experiments.saferec",
    "experiments.curate",
    "experiments.dcr",
    "experiments.reward_design",
    "experiments.persona_leakage",
)
PURE = {"gdpo_jax.advantages", "gdpo_jax.objectives"}
PURE_IMPORTS = {"jax", "chex", "jaxtyping", "numpy", "gdpo_jax"}


def floor_name(module: str) -> str | None:
    return next((name for name in FLOORS if module == name or module.startswith(name + ".")), None)


def runtime_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but what stands under `if TYPE_CHECKING`."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from (other, *runtime_nodes(other))
            continue
        yield from (node, *runtime_nodes(node))


def imported_modules(path: Path) -> list[str]:
    package = list(path.relative_to(ROOT).with_suffix("").parts)
    modules = []
    for node in runtime_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level] if node.level else []
            stem = ".".join(base + ([node.module] if node.module else []))
            modules += [f"{stem}.{alias.name}" for alias in node.names]
    return modules


SOURCES = sorted((ROOT / "gdpo_jax").rglob("*.py")) + sorted((ROOT / "experiments").rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    own = floor_name(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for module in imported_modules(path):
        target = floor_name(module)
        if own is None or target is None or own == target:
            continue
        where = f"{path.relative_to(ROOT)} (floor {FLOORS[own]})"
        assert FLOORS[target] < FLOORS[own] or target == "gdpo_jax.errors", (
            f"{where} imports {module} (floor {FLOORS[target]})"
        )


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_no_experiment_imports_another_one(name):
    others = [f"{other}." for other in EXPERIMENTS if other != name]
    for path in (ROOT / name.replace(".", "/")).rglob("*.py"):
        for module in imported_modules(path):
            assert not f"{module}.".startswith(tuple(others)), f"{path} imports {module}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_pure_floor_imports_arrays_only(path):
    if floor_name(".".join(path.relative_to(ROOT).with_suffix("").parts)) not in PURE:
        return
    import sys

    for module in imported_modules(path):
        top = module.split(".")[0]
        assert top in PURE_IMPORTS or top in sys.stdlib_module_names, (
            f"{path.relative_to(ROOT)} imports {module}; "
            f"advantages and objectives import only {sorted(PURE_IMPORTS)} and the standard library"
        )


def test_every_package_has_its_place():
    folders = [path for path in (ROOT / "gdpo_jax").iterdir() if path.is_dir()]
    packages = {f"gdpo_jax.{path.name}" for path in folders}
    folders = [path for path in (ROOT / "experiments").iterdir() if path.is_dir()]
    packages |= {f"experiments.{path.name}" for path in folders if path.name != "common"}
    folders = [path for path in (ROOT / "experiments" / "common").iterdir() if path.is_dir()]
    packages |= {f"experiments.common.{path.name}" for path in folders}
    assert {name for name in packages if not name.endswith("__pycache__")} <= set(FLOORS)


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def import_graph(package: str) -> dict[str, set[str]]:
    """What each module of `package` imports of it: modules, or the `__init__` with the name."""
    paths = {module_name(path): path for path in sorted((ROOT / package).rglob("*.py"))}
    graph = {}
    for name, path in paths.items():
        found = set()
        for module in imported_modules(path):
            target = module if module in paths else module.rpartition(".")[0]
            found |= {target} & set(paths)
        graph[name] = found - {name}
    return graph


def import_circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again at the end; [] if none do."""
    done: set[str] = set()

    def search(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for target in sorted(graph[name]):
            if circle := search(target, [*way, name]):
                return circle
        done.add(name)
        return []

    return next((circle for name in graph if (circle := search(name, []))), [])


def test_a_circle_is_found():
    assert import_circle({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == ["b", "c", "b"]
    assert import_circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


@pytest.mark.parametrize("package", ["gdpo_jax", "experiments"])
def test_imports_have_no_circle(package):
    graph = import_graph(package)
    assert len(graph) > 50
    assert import_circle(graph) == []
