import dataclasses
import math

import numpy as np
import pytest

from experiments.common.scores.table import Table, nan_mean, pool_seeds, with_parts
from gdpo_jax.errors import UserError

TABLE = Table(
    ids=("x", "y", "z"),
    values={"hit": np.array([1.0, 0.0, math.nan]), "words": np.array([3.0, 5.0, 1.0])},
    groups={"said": ("outright", "hinted", "outright")},
    clusters=("p", "p", "q"),
)


def test_means_leave_out_what_does_not_apply():
    assert TABLE.means() == {"hit": 0.5, "words": 3.0}
    assert math.isnan(nan_mean(np.array([math.nan])))
    assert len(TABLE) == 3


def test_rows_and_splits_keep_everything_together():
    first = TABLE.rows([2, 0])
    assert (first.ids, first.clusters) == (("z", "x"), ("q", "p"))
    assert first.groups == {"said": ("outright", "outright")}
    np.testing.assert_array_equal(first.values["hit"], [math.nan, 1.0])
    parts = TABLE.split("said")
    assert list(parts) == ["hinted", "outright"]
    assert parts["hinted"].ids == ("y",)
    with pytest.raises(UserError, match="no split 'trait'; legal: said"):
        TABLE.split("trait")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"hit": np.zeros(2)}}, "'hit' has 2 entries for 3 items"),
        ({"groups": {"said": ("a",)}}, "'said' has 1 entries for 3 items"),
        ({"clusters": ()}, "'clusters' has 0 entries for 3 items"),
    ],
)
def test_a_column_is_one_entry_per_row(change, message):
    with pytest.raises(UserError, match=message):
        dataclasses.replace(TABLE, **change)


def test_seeds_are_pooled_under_their_items():
    """Metrics and groups are those that all seeds have; a cluster holds its rows of every seed."""
    fuller = dataclasses.replace(TABLE, values={**TABLE.values, "more": np.zeros(3)})
    pooled = pool_seeds({0: fuller, 3: dataclasses.replace(TABLE, groups={})})
    assert pooled.ids == ("0/x", "0/y", "0/z", "3/x", "3/y", "3/z")
    assert pooled.clusters == ("p", "p", "q") * 2
    assert pooled.values.keys() == {"hit", "words"}
    assert pooled.groups == {}
    np.testing.assert_array_equal(pooled.values["words"], [3.0, 5.0, 1.0] * 2)
    with pytest.raises(UserError, match="seed 1 and seed 0 were scored on different items"):
        pool_seeds({0: TABLE, 1: TABLE.rows([0, 1])})


def test_parts_are_columns():
    values = with_parts(TABLE, "said", ["hit", "absent"]).values
    np.testing.assert_array_equal(values["hit/outright"], [1.0, math.nan, math.nan])
    np.testing.assert_array_equal(values["hit/hinted"], [math.nan, 0.0, math.nan])
    assert values.keys() == {"hit", "words", "hit/outright", "hit/hinted"}
    assert with_parts(TABLE, "trait", ["hit"]).values.keys() == TABLE.values.keys()
