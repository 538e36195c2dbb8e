import json
import math

import numpy as np
import pytest

from experiments.common.scores.comparisons import Comparison
from experiments.common.scores.intervals import wilson
from experiments.common.scores.metric import Metric
from experiments.common.scores.summaries import finite, plain, read_summary, summarize, write_json
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError

TABLE = Table(
    ids=("a", "b", "c"),
    values={"hit": np.array([1.0, 0.0, 0.0]), "gap": np.array([0.5, math.nan, 1.5])},
    groups={"said": ("outright", "hinted", "hinted")},
    clusters=("p", "q", "q"),
)


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "run" / "scores.json"
    write_json(path, summarize(TABLE, samples=20))
    again = read_summary(path)
    assert (again.ids, again.groups, again.clusters) == (TABLE.ids, TABLE.groups, ("0", "1", "1"))
    assert again.values.keys() == TABLE.values.keys()
    for name, column in TABLE.values.items():
        np.testing.assert_array_equal(again.values[name], column)


def test_the_keys_of_the_file_are_those_of_finished_runs():
    """By hand, a file of the first version: it is still read, and still written alike."""
    summary = summarize(TABLE, samples=20)
    assert (summary["num_conversations"], summary["num_contexts"]) == (3, 2)
    assert summary["conversations"] == {
        "sample_id": ["a", "b", "c"],
        "context": [0, 1, 1],
        "groups": {"said": ["outright", "hinted", "hinted"]},
        "values": {"hit": [1.0, 0.0, 0.0], "gap": [0.5, None, 1.5]},
    }
    hinted = summary["splits"]["said"]["hinted"]
    assert hinted["num_conversations"] == 2
    assert hinted["metrics"]["hit"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "count": 2}


def test_a_metric_may_ask_for_wilson_s_interval():
    metrics = (Metric("hit", "hit", interval="wilson"),)
    alone = TABLE.rows([0, 1])
    assert summarize(alone, metrics, samples=9)["metrics"]["hit"] == plain(wilson(1, 2))


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"conversations": {"sample_id": []}}',
        '{"conversations": {"sample_id": ["a"], "context": [0], "groups": {}, "values": {"x": []}}'
        "}",
    ],
)
def test_no_metrics_file(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"x\.json is no metrics file of this project"):
        read_summary(path)


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


def test_what_json_lacks_is_null():
    assert [finite(value) for value in (1.5, math.nan, -math.inf, None)] == [1.5, None, None, None]
    nothing = Comparison(math.nan, math.nan, math.nan, math.nan, math.nan, systems=1, count=0)
    assert plain(nothing) == {
        **dict.fromkeys(("difference", "low", "high", "p_value", "p_holm")),
        "systems": 1,
        "count": 0,
    }
