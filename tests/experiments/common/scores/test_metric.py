import numpy as np
import pytest

from experiments.common.scores.metric import Metric, exact_columns, split_columns
from experiments.common.scores.table import Table
from gdpo_jax.errors import UserError

RATE = Metric("rate@5", "Rate@5", "less", beside="known@5", short="Rate", parts=("said",))
KNOWN = Metric("known@5", "known titles", short="known")


def table(clusters="ab"):
    return Table(
        ids=("x", "y"),
        values={name: np.array([0.0, 1.0]) for name in ("rate@5", "known@5", "empty", "emptyish")},
        groups={"said": ("outright", "hinted")},
        clusters=tuple(clusters),
    )


def test_what_it_is_called():
    assert RATE.heading == "Rate"
    assert Metric("words", "words").heading == "words"


def test_a_part_is_a_metric_of_its_own():
    part = RATE.part("hinted")
    assert (part.name, part.label) == ("rate@5/hinted", "Rate@5, hinted")
    assert part.heading == "Rate, hinted"
    assert (part.beside, part.better, part.parts) == ("known@5/hinted", "less", ())
    assert KNOWN.part("hinted").beside == ""


def test_a_metric_is_split_with_what_stands_beside_it():
    columns = set(split_columns(table(), (RATE, KNOWN)).values) - set(table().values)
    assert columns == {
        f"{name}/{label}" for name in ("rate@5", "known@5") for label in ("hinted", "outright")
    }
    assert split_columns(table(), (KNOWN,)).values.keys() == table().values.keys()


def test_exact_statistics_need_independent_rows():
    metrics = (Metric("empty", "empty", interval="wilson", parts=("said",)), KNOWN)
    split = split_columns(table(), metrics)
    assert exact_columns(split, metrics) == ["empty", "empty/hinted", "empty/outright"]
    assert exact_columns(table("aa"), metrics) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [({"better": "higher"}, "better='higher'; legal"), ({"interval": "t"}, "interval='t'; legal")],
)
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        Metric("x", "x", **options)
