"""A digest tells data apart, and is the same wherever it is computed."""

import collections
import dataclasses
import datetime
import decimal
import functools
import subprocess
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from gdpo_jax.data import records_digest
from gdpo_jax.errors import UserError


@dataclasses.dataclass
class Film:
    title: str
    tags: frozenset


class Plain:
    def __init__(self, value):
        self.value = value


class Closed:
    __slots__ = ("value",)


RECORDS = [
    {"prompt": "ü\ud800", "n": 1, "x": 0.1, "none": None, "list": [True, (1, 2)]},
    {"bytes": b"\0", "array": np.arange(3, dtype=np.int8), "jax": jnp.ones(2, jnp.bfloat16)},
    {"set": {"a", "b", "c"}, 1: "int key", ("t", 2): "tuple key"},
    {"day": datetime.date(2026, 1, 2), "sum": decimal.Decimal("1.0"), "film": Film("a", {"b"})},
    {"plain": Plain([1]), "function": len, "class": Film, "np": np.float32(0.5)},
    [1, 2, 3],
]


def test_equal_records_have_equal_digests_in_another_process():
    code = (
        "import sys; sys.path[:0] = ['.']\n"
        "from tests.data.test_digests import RECORDS, records_digest\n"
        "print(records_digest(RECORDS))"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == records_digest(RECORDS) and len(there) == 16


def test_what_is_equal_counts_as_equal():
    base = records_digest([{"a": [1, 2], "b": {"c": {1, 2}}}])
    assert records_digest(({"b": {"c": {2, 1}}, "a": (1, 2)},)) == base
    mapping = types.MappingProxyType({"b": {"c": frozenset((1, 2))}, "a": (1, 2)})
    assert records_digest([mapping]) == base
    assert records_digest([collections.OrderedDict(b={"c": {1, 2}}, a=[1, 2])]) == base
    assert records_digest([{"x": np.float64(0.5)}]) == records_digest([{"x": 0.5}])


def test_what_differs_has_another_digest():
    different = [
        [{"a": "x"}, {"b": "y"}],
        [{"a": "x"}],
        [{"b": "y"}, {"a": "x"}],
        [{"a": "x", "b": "y"}],
        [{"a": "x"}, {"b": "y"}, {}],
        [{"a": "x"}, {"b": None}],
        [{"a": "x"}, {"b": b"y"}],
        [{"a": "x"}, {"b": np.array([1, 2])}],
        [{"a": "x"}, {"b": np.array([1, 3])}],
        [{"a": "x"}, {"b": np.array([[1, 2]])}],
        [{"a": "x"}, {"b": np.array([1.0, 2.0])}],
        [{"a": "x"}, {"b": Plain(1)}],
        [{"a": "x"}, {"b": Plain(2)}],
        [{"a": "x"}, {"b": datetime.date(2026, 1, 1)}],
        [{"a": "x"}, {"b": "datetime.date(2026, 1, 1)"}],
    ]
    assert len({records_digest(each) for each in different}) == len(different)


def circular():
    record = {}
    record["self"] = record
    return record


@pytest.mark.parametrize("value", [object(), Closed(), functools.partial(sorted, key=Closed())])
def test_what_has_no_content_is_refused_with_its_record(value):
    with pytest.raises(UserError, match="record 1 has no digest that another process would find"):
        records_digest([{}, {"value": value}])
    with pytest.raises(UserError, match="record 0 has no digest"):
        records_digest([circular()])
