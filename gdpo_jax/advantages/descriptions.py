"""What an estimator computes, as plain data that can be stored, compared and shown.

Two transforms with equal descriptions compute the same; equal arguments give equal descriptions.
"""

import dataclasses
import functools
import hashlib
import inspect
import math
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np


def describe(value: Any) -> Any:
    """Numbers, strings, lists and dicts that stand for `value`.

    Arrays become lists, records the mapping of their fields, infinite numbers and NaN strings. A
    function is its module and qualified name; a function made inside another one or a lambda (every
    optax schedule is one) is also the values it closes over, its defaults and a digest of its code,
    which is the same on every machine but not in every version of Python. A traced array, which has
    no value yet, is its shape.
    """
    return _described(value, ())


def named(name: str, /, **options: Any) -> dict[str, Any]:
    """The description of a stage or an estimator: its name and all its options."""
    return {name: {key: describe(option) for key, option in options.items()}}


def _described(value: Any, above: tuple[Any, ...]) -> Any:
    """`above`: the functions and objects that this value belongs to, so that loops end."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, jax.core.Tracer):
        return {"traced": list(value.shape)}
    if isinstance(value, (np.ndarray, np.generic, jax.Array)):
        return _described(np.asarray(value).tolist(), above)
    if isinstance(value, (int, float)):
        return float(value) if math.isfinite(value) else repr(float(value))
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type):
        return _name(value)
    if any(value is other for other in above):
        return {"again": _name(value)}
    above = (*above, value)
    # A transform says what it is; one without a description is its two functions.
    if hasattr(value, "_fields") and "description" in value._fields:
        pair = {"init": value.init, "update": value.update}
        return _described(pair, above) if value.description is None else value.description
    if isinstance(value, Mapping):
        return {str(key): _described(item, above) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_described(item, above) for item in value]
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        return {"type": _name(type(value)), **_described(fields, above)}
    if callable(value):
        return _function(value, above)
    return {"type": _name(type(value)), "fields": _described(getattr(value, "__dict__", {}), above)}


def _function(function: Callable[..., Any], above: tuple[Any, ...]) -> dict[str, Any]:
    if isinstance(function, functools.partial):
        parts = {"args": function.args, "keywords": function.keywords}
        return {"partial": _described(function.func, above), **_described(parts, above)}
    if inspect.ismethod(function):
        return {"method": _name(function), "of": _described(function.__self__, above)}
    function = inspect.unwrap(function)
    if not isinstance(function, types.FunctionType):
        if not hasattr(function, "__dict__"):
            return {"function": _name(function)}
        return {"type": _name(type(function)), "fields": _described(vars(function), above)}
    found: dict[str, Any] = {"function": _name(function)}
    defaults = (function.__defaults__, function.__kwdefaults__)
    if any(defaults):
        found["defaults"] = _described(defaults, above)
    if "<" in function.__qualname__:
        code = function.__code__
        held = inspect.getclosurevars(function)
        found["closure"] = _described(held.nonlocals, above)
        numbers = {k: v for k, v in held.globals.items() if isinstance(v, (int, float, str))}
        if numbers:
            found["globals"] = _described(numbers, above)
        found["code"] = hashlib.sha256(repr(_code(code)).encode()).hexdigest()[:16]
    return found


def _code(code: types.CodeType) -> tuple[Any, ...]:
    constants = [_code(c) if isinstance(c, types.CodeType) else c for c in code.co_consts]
    constants = [sorted(map(repr, c)) if isinstance(c, frozenset) else c for c in constants]
    return code.co_code, constants, code.co_names


def _name(value: Any) -> str:
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


__all__ = ["describe", "named"]
