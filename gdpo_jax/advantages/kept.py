"""One transform for equal arguments, so that what one run has compiled is there for the next.

Compiled functions know a transform by the functions in it, which every call makes anew.
"""

import functools
from collections.abc import Callable, Hashable
from typing import Any, ParamSpec

from gdpo_jax.advantages.conventions import Convention
from gdpo_jax.advantages.records import AdvantageTransform

P = ParamSpec("P")

_SINGLE = (type(None), bool, int, float, str, Convention)


class _NotPlain(Exception):
    """A value that may change, or that nothing equals."""


def kept(make: Callable[P, AdvantageTransform]) -> Callable[P, AdvantageTransform]:
    """`make`, which gives one and the same transform for equal arguments.

    Only for numbers, strings, conventions, and lists, tuples and dicts of them: arrays and
    schedules make a transform anew. `make` gets a copy of the arguments, so that a dict that is
    changed afterwards changes no transform that was made of it.
    """

    @functools.lru_cache(maxsize=64)
    def made(args: Hashable, options: Hashable) -> AdvantageTransform:
        return make(*_thaw(args), **_thaw(options))

    @functools.wraps(make)
    def find(*args: P.args, **options: P.kwargs) -> AdvantageTransform:
        try:
            key = _freeze(args), _freeze(options)
        except _NotPlain:
            return make(*args, **options)
        return made(*key)

    return find


def _freeze(value: Any) -> tuple[type, Hashable]:
    """The value with its type: 1, 1.0 and True are equal."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, tuple(map(_freeze, value))
    if kind is dict:
        return kind, tuple((_freeze(key), _freeze(item)) for key, item in value.items())
    if kind not in _SINGLE:
        raise _NotPlain
    return kind, value


def _thaw(frozen: tuple[type, Any]) -> Any:
    kind, value = frozen
    if kind is dict:
        return {_thaw(key): _thaw(item) for key, item in value}
    if kind in (list, tuple):
        return kind(map(_thaw, value))
    return value


__all__ = ["kept"]
