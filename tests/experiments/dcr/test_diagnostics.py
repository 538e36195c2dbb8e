"""What is looked at inside of models, on a small one that knows nothing."""

import math

import pytest

from experiments.dcr.diagnostics import balanced, kernel_blocks, origin_areas, separation_by_layer
from experiments.dcr.separation import separation
from experiments.dcr.states import prompt_states
from gdpo_jax.errors import UserError
from tests.experiments.dcr.small_model import ROWS, small_model

RECORDS = [{**row, "source": "generated", "text": row["prompt"]} for row in ROWS]


def test_kinds_are_drawn_in_equal_numbers_and_instructions_stay_out():
    extra = [{"kind": "plain", "source": "instructions"}] * 9
    drawn = balanced([*RECORDS, *extra], 3, seed=1)
    assert [row["kind"] for row in drawn] == ["plain"] * 3 + ["seeming"] * 3 + ["toxic"] * 3
    assert drawn == balanced(RECORDS, 3, seed=1)
    with pytest.raises(UserError, match="9 prompts of kind plain, and the test has 8"):
        balanced(RECORDS, 9)


def test_separation_in_one_pass_is_that_of_every_layer_by_itself():
    model, prompts = small_model(), [record["prompt"] for record in RECORDS]
    rows = separation_by_layer(model, prompts, RECORDS, layers=(1, 3), pooling="mean", seed=2)
    assert [row["layer"] for row in rows] == [1, 3]
    for row in rows:
        states = prompt_states(model, prompts, layer=row["layer"], pooling="mean")
        alone = separation(
            states, [r["kind"] for r in RECORDS], clusters=[r["cluster"] for r in RECORDS], seed=2
        )
        assert row["similarity"] == pytest.approx(dict(alone.similarity), abs=1e-6)
        assert (row["silhouette"], row["auc"]) == pytest.approx((alone.silhouette, alone.auc))


def test_blocks_are_beside_each_prompts_own_kernel():
    kinds = ["seeming", "seeming", "toxic", "toxic"]
    prompts = [r["prompt"] for kind in ("seeming", "toxic") for r in ROWS if r["kind"] == kind][::4]
    found = kernel_blocks(small_model(), prompts, kinds, top_k=3)
    row = found["blocks"]["seeming"]
    assert found["ratio"] == pytest.approx(row["toxic"] / row["seeming"])
    assert found["prompts"] == 4 and all(math.isfinite(value) for value in row.values())


def test_the_origin_probe_compares_sets_of_one_kind():
    own = [{**row, "source": "xstest"} for row in RECORDS if row["kind"] != "plain"]
    other = [
        {**row, "source": "hh", "prompt": "game game queue", "cluster": f"hh {n}"}
        for n, row in enumerate(row for row in RECORDS if row["kind"] == "toxic")
    ]
    records = [*own, *other]
    prompts = [record["prompt"] for record in records]
    options = {"layer": 1, "own": "xstest", "other": "hh", "folds": 4}
    areas = origin_areas(small_model(), prompts, records, **options)
    # Toxic prompts of the other set all have one wording, so their origin is plain to see.
    assert areas["origin"] == 1.0 and 0 <= areas["fair"] <= 1
    with pytest.raises(UserError, match="the probe needs toxic prompts of nowhere"):
        origin_areas(small_model(), prompts, records, layer=1, own="xstest", other="nowhere")
