"""Meshes compared: bounds by published rates, the best mesh, and what would fit."""

import io

import jax
import pytest
from rich.console import Console

from gdpo_jax.errors import UserError
from gdpo_jax.planning.bounds import bound_of
from gdpo_jax.planning.chips import CHIPS, GIB, Pod, open_pod
from gdpo_jax.planning.comparison import (
    MeshPlan,
    best_plan,
    candidate_meshes,
    misfits,
    plan_meshes,
    verdict,
)
from gdpo_jax.planning.compiled import StepMemory, compile_step_figures
from gdpo_jax.planning.steps import PlannedStep
from gdpo_jax.planning.table import plan_rows, print_comparison
from gdpo_jax.planning.work import Collective, Work
from gdpo_jax.policies.families import llama3, smollm2
from gdpo_jax.training import MeshConfig
from gdpo_jax.training.state import TrainState
from tests.training import toy

V5E = Pod("v5e:4x4", CHIPS["v5e"], [None] * 16, "tpu")


def work(flops=0.0, traffic=0.0, sent=0.0, cycles=0, group=16):
    exchange = Collective("all-reduce", 2, int(sent / 2), group, ((4,),))
    return Work(int(flops), int(traffic), cycles, (exchange,) if sent else ())


def step(name, gib, work=None, *, temporary=1.0, **more):
    memory = StepMemory(GIB, 2 * GIB, int((gib - temporary) * GIB), 0, int(temporary * GIB))
    return PlannedStep(name, "16 prompts", memory, work=work, **more)


def plans():
    fast, slow = work(flops=197e12), work(sent=800e9)
    steps = (
        (step("sampler", 17.5, fast), step("policy step", 9)),
        (step("sampler", 8, fast), step("policy step", 9, slow)),
        (step("sampler", 8, fast), step("policy step", 9, fast, runs=2)),
    )
    meshes = (MeshConfig(1, 16, 1), MeshConfig(1, 4, 4), MeshConfig(1, 2, 8))
    found = [MeshPlan(mesh, each, V5E) for mesh, each in zip(meshes, steps)]
    return [*found, MeshPlan(MeshConfig(1, 1, 16), [], V5E, "kv_heads of size 8")]


def test_a_bound_is_the_longest_of_three():
    found = bound_of(work(flops=197e12, traffic=2 * 819e9, sent=3 * 200e9, cycles=10**9), V5E)
    assert (found.compute, found.bandwidth, found.network) == pytest.approx((1.0, 2.0, 3.0))
    assert found.seconds == found.network and found.name == "network"
    # 4 units of 128 x 128: about 1.5 GHz.
    assert found.estimate == pytest.approx(1 / 1.503, rel=1e-3)


def test_gpus_exchange_within_a_machine_faster_than_outside():
    pod = Pod("h100:16", CHIPS["h100"], [None] * 16, "cpu")
    inside, outside = (bound_of(work(sent=450e9, group=group), pod).network for group in (8, 16))
    assert (inside, outside) == pytest.approx((1.0, 9.0))
    assert bound_of(work(cycles=5), pod).estimate is None


def test_the_best_mesh_is_the_fastest_one_that_fits_and_the_line_says_why():
    found = plans()
    assert best_plan(found) is found[2]
    assert verdict(found) == (
        "best: 1x2x8, at least 3 s a step: sampler 1 s (compute), policy step 2 s (compute); "
        "at most 9.00 GiB a chip; 1x4x4 1.67 times as long"
    )
    too_large, illegal = misfits(found)
    assert too_large == (
        "1x16x1 does not fit: the sampler needs 17.50 GiB a chip, and a v5e:4x4 chip has 15.75; "
        "fits: 1x4x4, 1x2x8"
    )
    assert illegal == "1x1x16: kv_heads of size 8"


def test_where_nothing_fits_the_line_says_what_would():
    alone = [MeshPlan(MeshConfig(1, 16, 1), [step("policy step", 40, temporary=20.0)], V5E)]
    assert verdict(alone) == "no mesh fits"
    assert "about 64 such chips would fit" in misfits(alone)[0]
    rows = [MeshPlan(MeshConfig(1, 16, 1), [step("policy step", 40, temporary=30.0)], V5E)]
    assert "6 times fewer rows at a time" in misfits(rows)[0]
    # Beside ten GiB of parameters and slots the compiler has what is left.
    assert misfits(rows)[0].endswith(f"--xla_tpu_user_reserved_hbm_bytes={10 * GIB}")
    assert "LIBTPU_INIT_ARGS" not in misfits(alone)[0]


def test_tables_name_every_mesh_and_mark_the_best():
    paper = io.StringIO()
    print_comparison("toy", toy.POLICY, V5E, plans(), Console(file=paper, width=132))
    shown = paper.getvalue()
    assert "1x2x8 *" in shown and "1x4x4 *" not in shown and "all-reduce" in shown
    assert "compiled by the TPU compiler" in shown and "17.50" in shown
    rows = plan_rows(plans())
    assert [row["fits"] for row in rows] == [False, True, True, True, True, True]
    assert rows[3]["exchanges"] == {"all-reduce": (2, 800e9)}
    assert rows[3]["seconds"]["network"] == pytest.approx(4.0)


def test_meshes_that_are_legal_for_a_model_are_the_candidates():
    names = [(each.fsdp, each.tensor) for each in candidate_meshes(llama3("3.1-8B"), 16)]
    assert names == [(16, 1), (8, 2), (4, 4), (2, 8)]
    assert [each.tensor for each in candidate_meshes(smollm2("135M"), 4)] == [1]

    def refuse(mesh):
        raise UserError(f"{mesh.tensor} is too many")

    [plan] = plan_meshes([MeshConfig(1, 1, 16)], V5E, refuse)
    assert plan.problem == "16 is too many" and not plan.fits


class Refused:
    """A program that a compiler does not take."""

    def __init__(self, message):
        self.message = message

    def compile(self):
        raise jax.errors.JaxRuntimeError(self.message)


def test_a_refused_program_says_what_it_asked_for():
    state = TrainState(step=(), healthy=(), params=(), opt_state=(), advantage_state=(), key=())
    message = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (17.47G) exceeds available HBM (15.75G). More follows."
    )
    found = compile_step_figures(Refused(message), state, (), chips=16)
    assert found.memory.temporary == pytest.approx(17.47 * GIB, rel=1e-6) and found.work is None
    assert found.refused.endswith("available HBM (15.75G)")
    used = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Used 512.50M of 100.00M hbm."
    found = compile_step_figures(Refused(used), state, (), chips=16)
    assert found.memory.temporary == 512.5 * 2**20
    with pytest.raises(Exception, match="another"):
        compile_step_figures(Refused("another"), state, (), chips=16)


@pytest.mark.parametrize("text", ["v5e", "v9:2x2", "h100:0", "v5e:4x"])
def test_chips_that_are_not_known_are_an_error(text):
    with pytest.raises(UserError, match="types are v5e, v5p, v6e, h100"):
        open_pod(text)


def test_gpus_are_planned_on_forced_devices():
    pod = open_pod("h100:4")
    assert len(pod.devices) == 4 and pod.compiler == "cpu" and "it is no TPU" in pod.source
