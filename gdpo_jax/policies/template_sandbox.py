"""Chat templates as programs with a budget: what they repeat, build and call is paid for first.

Jinja's immutable sandbox keeps a template from reaching out. This one also keeps it from running on
or filling the memory. The syntax tree is changed before it is compiled, so that every block of
statements pays for itself when it is entered, every loop for its length, and every comparison,
slice and list for what it holds; operators, calls, filters and tests pay in the sandbox's hooks.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sized
from types import BuiltinMethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.utils import pass_context

from gdpo_jax.policies.template_budget import (
    CALL_UNITS,
    Budget,
    TemplateLimit,
    text_weight,
    weight,
)
from gdpo_jax.policies.template_costs import (
    WIDEST,
    check_printf,
    check_widths,
    method_units,
    number_units,
)
from gdpo_jax.policies.template_filters import BUDGET, template_filters, template_tests
from gdpo_jax.policies.template_metering import CONCAT, ITEMS, PASSED, SPEND, WEIGHED, meter

MOST_SOURCE = 200_000  # characters; published templates have up to 30,000
MOST_NODES = 30_000  # of the syntax tree
MOST_PAIRS = 500  # of a mapping that is written out

STRING_METHODS = frozenset(
    (  # noqa: SIM905
        "capitalize casefold center count endswith expandtabs find format format_map index "
        "isalnum isalpha isascii isdecimal isdigit isidentifier islower isnumeric isprintable "
        "isspace istitle isupper join ljust lower lstrip partition removeprefix removesuffix "
        "replace rfind rindex rjust rpartition rsplit rstrip split splitlines startswith "
        "strip swapcase title upper zfill"
    ).split()
)
DICT_METHODS = frozenset(["copy", "get", "items", "keys", "values"])
LIST_METHODS = frozenset(  # the last two: of `groupby`
    ["copy", "count", "index", "grouper", "list"]
)


class GenerationTag(Extension):
    """`{% generation %}` marks what the assistant wrote; here it only stands around it."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class _Formatter(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> str:
        check_widths(format_spec)
        return super().format_field(value, format_spec)


class TemplateEnvironment(ImmutableSandboxedEnvironment):
    """The sandbox that transformers renders chat templates in, with a budget."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[GenerationTag, "jinja2.ext.loopcontrols"],
            finalize=_finalize,
        )
        # Undefined tests and filters are named when the template is compiled.
        self.filters = template_filters() | {
            SPEND: _spend, ITEMS: _items, WEIGHED: _weighed, CONCAT: _concat,
            PASSED: _passed,
        }  # fmt: skip
        self.tests = template_tests()
        del self.globals["lipsum"]
        self.globals["raise_exception"] = _refuse

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        if len(source) > MOST_SOURCE:
            raise TemplateLimit(f"it has more than {MOST_SOURCE} characters")
        tree = super()._parse(source, name, filename)
        for number, node in enumerate(tree.find_all(nodes.Node)):
            if number > MOST_NODES or (
                isinstance(node, nodes.Dict) and len(node.items) > MOST_PAIRS
            ):
                raise TemplateLimit("it is far longer than any published one")
        meter(tree)
        return tree.set_environment(self)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, str):
            return attr in STRING_METHODS
        if isinstance(obj, dict):
            return attr in DICT_METHODS
        if isinstance(obj, (list, tuple)):
            return attr in LIST_METHODS
        # Of what is left, values of the caller and Jinja's own: loops, macros and namespaces.
        return type(obj).__module__ not in ("builtins", __name__)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if super().wrap_str_format(value) is None:
            return None
        return _Format(self, value)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        budget = context.parent[BUDGET]
        numbers = isinstance(left, (int, float)) and isinstance(right, (int, float))
        if numbers:
            budget.spend(number_units(operator, left, right))
        elif operator == "%" and isinstance(left, str):
            check_printf(left)
            budget.spend(weight(left) + left.count("%") * (text_weight(right) + WIDEST // 8))
        elif operator == "*":
            many, times = (right, left) if isinstance(left, int) else (left, right)
            if isinstance(many, (str, list, tuple)) and isinstance(times, int):
                per_item = 4 * len(many) if not isinstance(many, str) else len(many) / 8
                budget.spend(1 + int(per_item * max(0, times)))
        elif operator == "+":
            budget.spend(1)
            for side in (left, right):
                if isinstance(side, str):
                    budget.spend(len(side) >> 3)
                elif isinstance(side, (list, tuple)):
                    budget.spend(4 * len(side))
        elif type(left).__module__ == type(right).__module__ == "builtins":
            raise TypeError(
                f"{operator} of {type(left).__name__} and {type(right).__name__} is not possible"
            )
        return self.binop_table[operator](left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        budget = __context.parent[BUDGET]
        budget.spend(CALL_UNITS + len(args) + len(kwargs))
        if isinstance(__obj, _Format):
            budget.spend(__obj.units(args, kwargs))
        elif isinstance(__obj, BuiltinMethodType):
            args = tuple(list(arg) if isinstance(arg, Iterator) else arg for arg in args)
            budget.spend(method_units(__obj, args, kwargs))
        elif isinstance(__obj, type):
            # Numbers can be chosen to share one place in a mapping.
            sizes = [len(arg) for arg in args if isinstance(arg, Sized)]
            budget.spend(sum(size**2 >> 3 for size in sizes) + sum(map(weight, args)))
            budget.spend(sum(map(weight, kwargs.values())))
        result = super().call(__context, __obj, *args, **kwargs)
        if isinstance(result, str):
            budget.spend(len(result) >> 3)
        elif isinstance(result, (list, tuple, dict)) or isinstance(__obj, type):
            budget.spend(weight(result))
        return result


class _Format:
    """`str.format` of one text, in the sandbox."""

    def __init__(self, environment: TemplateEnvironment, method: Any):
        self.text, self.mapped = method.__self__, method.__name__ == "format_map"
        self.formatter = _Formatter(environment)

    def units(self, args: tuple, kwargs: Mapping) -> int:
        fields = 1 + self.text.count("{")
        each = text_weight(args) + text_weight(kwargs) + WIDEST // 8
        return weight(self.text) + fields * each

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        if self.mapped:
            (kwargs,), args = args, ()
        return self.formatter.vformat(str(self.text), args, kwargs)


@functools.lru_cache(maxsize=16)
def compile_template(source: str) -> jinja2.Template:
    """The compiled template. Raises whatever Jinja and Python raise for a malformed one."""
    return TemplateEnvironment().from_string(source)


def render_template(source: str, given: Mapping[str, Any]) -> str:
    """The text of a template; `given` are its variables.

    Raises TemplateLimit for a template that does not end or builds too much, and what it raises.
    """
    return compile_template(source).render({**given, BUDGET: Budget(given)})


@pass_context
def _refuse(context: Any, message: Any = "") -> None:
    context.parent[BUDGET].spend(text_weight(message))
    raise jinja2.TemplateError(str(message))


@pass_context
def _finalize(context: Any, value: Any) -> Any:
    context.parent[BUDGET].spend(text_weight(value))
    return value


@pass_context
def _spend(context: Any, units: int) -> None:
    context.parent[BUDGET].spend(units)


@pass_context
def _weighed(context: Any, value: Any) -> Any:
    if type(value) is not bool:
        context.parent[BUDGET].spend(weight(value))
    return value


@pass_context
def _items(context: Any, value: Any, units: int) -> Any:
    """What a loop or a call goes through, at `units` an item."""
    if isinstance(value, Sized):
        context.parent[BUDGET].spend(units * len(value))
    return value


@pass_context
def _passed(context: Any, value: Any, units: int) -> Any:
    """The condition of a loop's items, which takes `units` each time."""
    context.parent[BUDGET].spend(units)
    return value


@pass_context
def _concat(context: Any, values: tuple) -> str:
    context.parent[BUDGET].spend(sum(map(text_weight, values)))
    return "".join(map(str, values))


__all__ = ["compile_template", "render_template"]
