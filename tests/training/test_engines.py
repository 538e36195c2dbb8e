"""What a run reads: engines, and records that are encoded; what they answer is checked."""

import dataclasses

import jax
import pytest
import toy
from toy import assert_same, once, rows_of

from gdpo_jax.errors import UserError
from gdpo_jax.objectives import (
    ObjectiveConfig,
    SamplerCorrection,
)


@pytest.fixture(scope="module")
def mesh():
    return toy.mesh_of(1)


@dataclasses.dataclass(frozen=True)
class Silent:
    """An engine that reports no log-probs."""

    inner: object

    def generate(self, *arguments, **options):
        rollout = self.inner.generate(*arguments, **options)
        return rollout.replace(log_probs=None, sampled_log_probs=None)


def test_an_engine_without_log_probs_trains_and_measures_no_mismatch(mesh, tmp_path):
    engine = Silent(toy.engine_on(mesh))
    state = once(tmp_path / "silent", mesh, engine=engine)
    (row,) = rows_of(tmp_path / "silent")
    assert not [name for name in row if name.startswith(("rollout/", "sampler/"))]
    assert_same(state.params, once(tmp_path / "told", mesh).params)
    objective = ObjectiveConfig(correction=SamplerCorrection())
    with pytest.raises(UserError, match=r"objective\.correction needs log-probs, and the engine"):
        once(tmp_path / "a", mesh, engine=engine, objective=objective)
    with pytest.raises(UserError, match='old_log_probs="sampler" needs log-probs'):
        once(tmp_path / "b", mesh, engine=engine, config={"old_log_probs": "sampler"})


def test_log_probs_drawn_from_are_what_the_update_compares(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Truncated:
        inner: object

        def generate(self, *arguments, **options):
            rollout = self.inner.generate(*arguments, **options)
            return rollout.replace(sampled_log_probs=rollout.log_probs + 0.25)

    once(tmp_path, mesh, engine=Truncated(toy.engine_on(mesh)))
    (row,) = rows_of(tmp_path)
    assert row["sampler/gap_mean"] == pytest.approx(0.25, abs=1e-4)


def test_an_engine_that_answers_something_else_is_named(mesh, tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Short:
        inner: object

        def generate(self, *arguments, **options):
            rollout = jax.device_get(self.inner.generate(*arguments, **options))
            of_samples = ("completions", "mask", "log_probs", "finished")
            return rollout.replace(**{name: rollout[name][:, :-1] for name in of_samples})

    with pytest.raises(UserError, match=r"engine returned completions \(8, 3, 6\), mask \(8, 3, 6"):
        once(tmp_path, mesh, engine=Short(toy.engine_on(mesh)))


BAD_RECORDS = [
    (lambda record: record["question"], r"record 0 of the batch has no field 'question', which"),
    (lambda record: record["question"], r"its fields are \['id', 'prompt'\]"),
    (lambda record: 1 / 0, r"`encode` raised ZeroDivisionError: .*\non record 0 of the batch"),
    (lambda record: "abc", "prompt of record 0 of the batch is str; `encode` must give a list"),
    (lambda record: [1.5, 2.0], r"holds something that is no token id: \[1.5, 2.0\]"),
    (lambda record: [1, 16], "prompt of record 0 of the batch holds token id 16; .* 0 to 15"),
    (lambda record: [-1], "holds token id -1"),
]


@pytest.mark.parametrize(("encode", "message"), BAD_RECORDS, ids=range(len(BAD_RECORDS)))
def test_records_that_cannot_be_encoded_are_named(mesh, tmp_path, encode, message):
    with pytest.raises(UserError, match=message):
        once(tmp_path / "rl", mesh, encode=encode)
    with pytest.raises(UserError, match=message):
        toy.sft(
            tmp_path / "sft",
            mesh,
            config=toy.sft_config(steps=1),
            encode=lambda record: (encode(record), [1]),
        )


def test_a_bucket_beyond_the_positions_is_as_wide_as_they_are(mesh, tmp_path):
    # 48 positions, completions of 6 and 4 tokens.
    records = [{"id": i, "prompt": [1] * 42} for i in range(8)]
    changes = {"records": toy.records_for(mesh, 8, source=records)}
    once(tmp_path / "rl", mesh, config={"prompt_buckets": (4, 512)}, **changes)
    assert len(rows_of(tmp_path / "rl")) == 1
    toy.sft(
        tmp_path / "sft",
        mesh,
        config=toy.sft_config(steps=1, prompt_buckets=(512,), completion_buckets=(4, 64)),
        records=toy.records_for(mesh, 8, source=records),
        encode=lambda record: (record["prompt"], [1, 2]),
    )
    longer = [{"id": i, "prompt": [1] * 43} for i in range(8)]
    changes = {"records": toy.records_for(mesh, 8, source=longer)}
    with pytest.raises(UserError, match=r"prompt of 43 tokens is longer than every bucket \[4, 42"):
        once(tmp_path / "long", mesh, config={"prompt_buckets": (4, 512)}, **changes)
