"""The syntax tree of a template, changed so that what it repeats and compares is paid for.

Every block of statements pays for itself when it is entered, every loop for its length, and every
comparison, slice, list and joined text for what it holds. Paying is a filter around an expression.
"""

from typing import Any

import jinja2
from jinja2 import nodes

# Names that no template can spell.
SPEND, ITEMS, WEIGHED = "the block", "the items", "the weight"
CONCAT, PASSED = "the text", "the condition"

LEFT_OUT = (
    nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport, nodes.Block,
    nodes.EvalContextModifier,
)  # fmt: skip


def meter(node: nodes.Node) -> None:
    """Changes a tree of statements and expressions so that they pay, from the leaves up."""
    if isinstance(node, LEFT_OUT):
        name = type(node).__name__.lower()
        raise jinja2.TemplateSyntaxError(f"{name} is not for chat templates", node.lineno)
    for name, value in node.iter_fields():
        if isinstance(value, list) and any(isinstance(part, nodes.Node) for part in value):
            setattr(node, name, [_metered(part) for part in value])
        elif isinstance(value, nodes.Node):
            setattr(node, name, _metered(value))
    if isinstance(node, nodes.For):
        node.iter = _filter(node.iter, ITEMS, 1)
        if node.test is not None:
            node.test = _filter(node.test, PASSED, _size(node.test))
    elif isinstance(node, nodes.Compare):
        node.expr = _filter(node.expr, WEIGHED)
        for operand in node.ops:
            operand.expr = _filter(operand.expr, WEIGHED)
    elif isinstance(node, nodes.Getitem):
        if isinstance(node.arg, nodes.Slice):
            node.node = _filter(node.node, WEIGHED)
        elif not isinstance(node.arg, nodes.Const):
            node.arg = _filter(node.arg, WEIGHED)
    elif isinstance(node, (nodes.Call, nodes.Filter, nodes.Test)):
        for name in ("dyn_args", "dyn_kwargs"):
            if getattr(node, name, None) is not None:
                setattr(node, name, _filter(getattr(node, name), ITEMS, 8))
    for name in ("body", "else_"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block:
            units = 1 + sum(map(_size, [*block, *getattr(node, "defaults", ())]))
            line = block[0].lineno
            paid = nodes.ExprStmt(_filter(nodes.Const(units, lineno=line), SPEND), lineno=line)
            setattr(node, name, [paid, *block])


def _metered(node: Any) -> Any:
    if not isinstance(node, nodes.Node):
        return node
    meter(node)
    if isinstance(node, nodes.Concat):
        return _filter(nodes.Tuple(node.nodes, "load", lineno=node.lineno), CONCAT)
    if isinstance(node, (nodes.List, nodes.Dict)) or (
        isinstance(node, nodes.Tuple) and node.ctx == "load"
    ):
        return _filter(node, WEIGHED)
    return node


def _filter(node: nodes.Expr, name: str, *args: int) -> nodes.Filter:
    line = node.lineno
    given = [nodes.Const(arg, lineno=line) for arg in args]
    return nodes.Filter(node, name, given, [], None, None, lineno=line)


def _size(node: nodes.Node) -> int:
    """The units of a statement without the blocks inside of it, which pay for themselves."""
    own = 1
    if isinstance(node, nodes.TemplateData):
        own += len(node.data) >> 3
    for name, value in node.iter_fields():
        if name in ("body", "else_"):
            continue
        parts = value if isinstance(value, list) else [value]
        own += sum(_size(part) for part in parts if isinstance(part, nodes.Node))
    return own


__all__ = ["CONCAT", "ITEMS", "PASSED", "SPEND", "WEIGHED", "meter"]
