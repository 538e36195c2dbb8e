import io
import json

import numpy as np
import pytest
from rich.console import Console

from experiments.saferec.evaluation.metrics import MetricTable, score_lists
from experiments.saferec.evaluation.summaries import (
    compare,
    print_summary,
    read_summary,
    summarize,
    write_json,
)
from experiments.saferec.lists.parsing import Recommendation
from gdpo_jax.errors import UserError
from tests.experiments.saferec.films import record

RECORDS = [
    record(("Up", 2009), sample_id="a", said_outright=True),
    record(("Big", 1988), sample_id="b", said_outright=False, prompt="other"),
    record(("Big", 1988), sample_id="c", said_outright=False, prompt="other"),
]
UP, BIG = Recommendation("Up", 2009, 0, 0), Recommendation("Big", 1988, 0, 0)


def table_of(*lists) -> MetricTable:
    return score_lists(lists, RECORDS, ks=(1, 10))


def result_of(table, **fields):
    return {
        **summarize(table, samples=20),
        "convention": "fixed",
        "unknown": "safe",
        "oracle": "none [of them]",
        "k": [1, 10],
        **fields,
    }


def printed(result, width=80):
    console = Console(file=io.StringIO(), width=width)
    print_summary(result, console=console)
    return console.file.getvalue()


def test_summary_read_back(tmp_path):
    table = table_of([UP], [UP], [])
    path = tmp_path / "run" / "metrics.json"
    write_json(path, summarize(table, samples=20))
    again = read_summary(path)
    assert again.sample_ids == table.sample_ids
    assert again.groups == table.groups
    assert again.contexts == ("0", "1", "1")
    assert set(again.values) == set(table.values)
    for name, column in table.values.items():
        np.testing.assert_array_equal(again.values[name], column)


def test_summary_of_splits():
    summary = summarize(table_of([UP], [UP], []), samples=20)
    assert summary["num_conversations"] == 3
    assert summary["num_contexts"] == 2
    assert summary["metrics"]["recall@1"]["mean"] == pytest.approx(1 / 3)
    hinted = summary["splits"]["disclosure"]["hinted"]
    assert hinted["num_conversations"] == 2
    assert hinted["metrics"]["recall@1"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "count": 2}


def test_comparison():
    base, better = table_of([UP], [UP], []), table_of([UP], [BIG], [BIG])
    result = compare(base, better, samples=200)
    assert result["recall@1"]["difference"] == pytest.approx(2 / 3)
    assert result["recall@1"]["count"] == 3
    json.dumps(result, allow_nan=False)


def test_no_metrics_file(tmp_path):
    path = tmp_path / "x.json"
    for text in ("{}", "[]", '{"conversations": {"sample_id": []}}'):
        path.write_text(text)
        with pytest.raises(UserError, match=r"x\.json is no metrics file of this project"):
            read_summary(path)


def test_printed_tables_fit_eighty_columns():
    table = table_of([UP], [UP], [])
    comparison = compare(table, table_of([UP], [BIG], []), samples=20)
    text = printed(result_of(table, baseline="runs/[a]/metrics.json", comparison=comparison))
    for part in (
        "3 conversations, fixed convention",
        "Recall",
        "@10",
        "list length: 0.6667",
        "share without a list",
        "oracle: none [of them]; unknown films count as safe",
        "said outright (1)",
        "hinted (2)",
        "difference from runs/[a]/metrics.json",
    ):
        assert part in text
    assert "--bare-lists" not in text
    assert "\u2026" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_hint_where_no_output_holds_a_list():
    assert "--bare-lists" in printed(result_of(table_of([], [], [])))


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]
