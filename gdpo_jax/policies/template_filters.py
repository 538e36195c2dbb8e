"""The filters and tests of chat templates: Jinja's own, each paid for before it runs.

Filters that a template can blow up without limit and that no published one needs (lipsum, pprint,
random, urlize, wordwrap, xmlattr and a few more) are not there.
"""

import json
import numbers
from collections.abc import Callable, Iterator, Sized
from typing import Any

from jinja2.filters import FILTERS
from jinja2.tests import TESTS
from jinja2.utils import pass_context

from gdpo_jax.policies.template_budget import CALL_UNITS, TemplateLimit, text_weight, weight

BUDGET = "the budget"  # a name with a space: no template can spell it

# Filters whose result is not much longer than what they are given.
PLAIN = (  # noqa: SIM905
    "abs capitalize count d default e escape first float forceescape items last length lower "
    "reverse safe string title trim truncate upper wordcount"
).split()
# Filters that go through all elements, with a test, a filter or an attribute for each.
EACH = (  # noqa: SIM905
    "dictsort groupby join list map max min reject rejectattr select selectattr sort unique"
).split()
MOST_JSON_INDENT = 64
MOST_DIGITS = 5_000  # of a text that the filter `int` reads; other bases than ten take its square


def _pay(context: Any, units: int) -> None:
    context.parent[BUDGET].spend(units)


def _call(function: Callable, context: Any, *args: Any, **options: Any) -> Any:
    _pay(context, CALL_UNITS)
    wanted = getattr(function, "jinja_pass_arg", None)
    first = {
        "context": (context,),
        "eval_context": (context.eval_ctx,),
        "environment": (context.environment,),
    }.get(getattr(wanted, "name", None), ())
    result = function(*first, *args, **options)
    if isinstance(result, Iterator):
        # At once instead of later, and still to be gone through only once.
        result = list(result)
        _pay(context, weight(result))
        return iter(result)
    if isinstance(result, (str, list, tuple, dict)):
        _pay(context, weight(result))
    return result


def _arguments(args: tuple, options: dict) -> int:
    return sum(map(weight, args)) + sum(map(weight, options.values()))


def _plain(name: str) -> Callable:
    function = FILTERS[name]

    @pass_context
    def run(context: Any, value: Any, *args: Any, **options: Any) -> Any:
        pay = text_weight if name not in ("default", "d", "length", "count") else weight
        units = pay(value) + _arguments(args, options)
        if name == "trim" and args + tuple(options.values()):
            units *= max(1, _arguments(args, options))  # each character is looked for in the others
        _pay(context, units)
        return _call(function, context, value, *args, **options)

    return run


def _each(name: str) -> Callable:
    function = FILTERS[name]

    @pass_context
    def run(context: Any, value: Any, *args: Any, **options: Any) -> Any:
        if isinstance(value, Iterator):
            value = list(value)
        size = len(value) if isinstance(value, Sized) else 0
        units = weight(value) * (12 if name == "join" else 4)
        units += (size + 1) * (1 + _arguments(args, options))
        if name == "unique":
            units += size**2 >> 3  # numbers can be chosen to share one place in a set
        _pay(context, units)
        return _call(function, context, value, *args, **options)

    return run


@pass_context
def _attr(context: Any, value: Any, name: str) -> Any:
    _pay(context, 1)
    environment = context.environment
    if hasattr(value, name):
        return environment.getattr(value, name)
    return environment.undefined(obj=value, name=name)


@pass_context
def _batch(context: Any, value: Any, linecount: int, fill_with: Any = None) -> Any:
    value = list(value)
    _pay(context, weight(value) + _count(linecount))
    return _call(FILTERS["batch"], context, value, linecount, fill_with)


@pass_context
def _slice(context: Any, value: Any, slices: int, fill_with: Any = None) -> Any:
    value = list(value)
    _pay(context, weight(value) + 8 * _count(slices))
    return _call(FILTERS["slice"], context, value, slices, fill_with)


@pass_context
def _center(context: Any, value: Any, width: int = 80) -> Any:
    _pay(context, text_weight(value) + _count(width))
    return _call(FILTERS["center"], context, value, width)


@pass_context
def _indent(
    context: Any, s: Any, width: int | str = 4, first: bool = False, blank: bool = False
) -> Any:
    wide = len(width) if isinstance(width, str) else _count(width)
    _pay(context, 2 * text_weight(s) + (str(s).count("\n") + 2) * (wide + 8))
    return _call(FILTERS["indent"], context, s, width, first, blank)


@pass_context
def _int(context: Any, value: Any, default: Any = 0, base: int = 10) -> Any:
    if isinstance(value, str) and len(value) > MOST_DIGITS:
        raise TemplateLimit(f"it reads a number of more than {MOST_DIGITS} digits")
    _pay(context, weight(value) ** 2)
    return _call(FILTERS["int"], context, value, default, base)


@pass_context
def _format(context: Any, value: Any, *args: Any, **options: Any) -> Any:
    if args and options:
        raise TypeError("can't handle positional and keyword arguments at the same time")
    return context.environment.call_binop(context, "%", str(value), options or args)


@pass_context
def _replace(context: Any, s: Any, old: str, new: str, count: int | None = None) -> Any:
    if not isinstance(s, str):
        _pay(context, text_weight(s))
        s = str(s)
    old, new = str(old), str(new)
    units = weight(s) + weight(old) + (s.count(old) * len(new) >> 2)
    _pay(context, units)
    return _call(FILTERS["replace"], context, s, old, new, count)


@pass_context
def _round(context: Any, value: Any, precision: int = 0, method: str = "common") -> Any:
    if not isinstance(value, numbers.Number) or abs(precision) > 100:
        raise TypeError("round takes a number and at most 100 digits")
    _pay(context, weight(value))
    return _call(FILTERS["round"], context, value, precision, method)


@pass_context
def _sum(context: Any, iterable: Any, attribute: Any = None, start: Any = 0) -> Any:
    items = list(iterable)
    _pay(context, weight(items))
    if attribute is not None:
        items = list(_call(FILTERS["map"], context, items, attribute=attribute))
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings")
    for item in items:
        start = context.environment.call_binop(context, "+", start, item)
    return start


@pass_context
def _tojson(
    context: Any,
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """As transformers has it: Jinja's own filter would escape HTML."""
    wide = len(indent) if isinstance(indent, str) else abs(indent or 0)
    if max(wide, *map(len, separators or ("", ""))) > MOST_JSON_INDENT:
        raise TemplateLimit(f"tojson indents or separates by more than {MOST_JSON_INDENT}")
    options = {"ensure_ascii": ensure_ascii, "separators": separators, "sort_keys": sort_keys}
    between = 1 + sum(map(len, separators or ()))
    _pay(context, weight(value) * between)
    if indent is None:
        return _call(json.dumps, context, value, **options)
    parts = []
    # Indentation grows with depth times size, so it is paid piece by piece.
    for part in json.JSONEncoder(indent=indent, **options).iterencode(value):
        _pay(context, weight(part))
        parts.append(part)
    return "".join(parts)


def _count(number: Any) -> int:
    return max(0, int(number))


def template_filters() -> dict[str, Callable]:
    """All filters by name."""
    own = {
        "attr": _attr,
        "batch": _batch,
        "center": _center,
        "format": _format,
        "indent": _indent,
        "int": _int,
        "replace": _replace,
        "round": _round,
        "slice": _slice,
        "sum": _sum,
        "tojson": _tojson,
    }
    return {name: _plain(name) for name in PLAIN} | {name: _each(name) for name in EACH} | own


# Tests that look at the kind of a value alone.
KINDS = (  # noqa: SIM905
    "boolean callable defined escaped false filter float integer iterable mapping none number "
    "sameas sequence string test true undefined"
).split()
NUMERIC = ("divisibleby", "even", "odd")


def _test(name: str) -> Callable:
    function = TESTS[name]

    @pass_context
    def run(context: Any, value: Any, *args: Any) -> bool:
        if name in NUMERIC and not all(isinstance(n, numbers.Number) for n in (value, *args)):
            raise TypeError(f"the test {name} takes numbers")
        _pay(context, 1 if name in KINDS else text_weight(value) + sum(map(weight, args)))
        return _call(function, context, value, *args)

    return run


def template_tests() -> dict[str, Callable]:
    """All of Jinja's tests by name."""
    return {name: _test(name) for name in TESTS}


__all__ = ["BUDGET", "template_filters", "template_tests"]
