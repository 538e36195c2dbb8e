"""Every field of a configuration says what it is: a comment, or a docstring below it."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ENDINGS = ("Config", "Options", "Rules", "Scaling", "Correction", "Convention", "Evaluation")


def configurations() -> dict[str, tuple[ast.ClassDef, list[str]]]:
    found = {}
    for path in sorted((ROOT / "gdpo_jax").rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.ClassDef) or not node.name.endswith(ENDINGS):
                continue
            if any("dataclass" in ast.unparse(mark) for mark in node.decorator_list):
                found[node.name] = node, text.splitlines()
    return found


def without_a_comment(node: ast.ClassDef, lines: list[str]) -> list[str]:
    missing = []
    for field, after in zip(node.body, [*node.body[1:], None]):
        if not isinstance(field, ast.AnnAssign):
            continue
        own = "  # " in lines[field.end_lineno - 1]
        above = lines[field.lineno - 2].strip().startswith("# ")
        below = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if not (own or above or below):
            missing.append(field.target.id)
    return missing


@pytest.mark.parametrize("name", configurations())
def test_every_field_is_explained(name):
    assert without_a_comment(*configurations()[name]) == []


def test_a_bare_field_is_found():
    text = """
class C:
    a: int = 1  # one
    b: int
    # two
    c: int
    d: int
    'three'
"""
    assert without_a_comment(ast.parse(text).body[0], text.splitlines()) == ["b"]


def test_the_known_configurations_are_among_them():
    known = {"DecoderConfig", "ObjectiveConfig", "SamplerConfig", "ModelOptions", "ShardingRules"}
    assert known <= set(configurations())
