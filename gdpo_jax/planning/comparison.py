"""Several meshes for the same work: which fit, which is best, and what would fit."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from gdpo_jax.errors import UserError
from gdpo_jax.planning.bounds import Bound, bound_of
from gdpo_jax.planning.chips import GIB, Pod
from gdpo_jax.planning.steps import PlannedStep
from gdpo_jax.policies import DecoderConfig
from gdpo_jax.training import MeshConfig

__all__ = ["MeshPlan", "best_plan", "candidate_meshes", "misfits", "plan_meshes", "verdict"]

# Of a step of training; the supervised step is a stage of its own.
TRAINING = ("sampler", "log-probs", "policy step")


@dataclasses.dataclass(frozen=True)
class MeshPlan:
    """The steps on one mesh. problem: why there are none, "" where there are."""

    mesh: MeshConfig
    steps: Sequence[PlannedStep]
    pod: Pod
    problem: str = ""

    @property
    def name(self) -> str:
        """Data x fsdp x tensor."""
        return f"{self.mesh.data}x{self.mesh.fsdp}x{self.mesh.tensor}"

    @property
    def too_large(self) -> list[PlannedStep]:
        """Steps that need more memory than a chip has."""
        return [step for step in self.steps if step.refused or step.total > self.pod.chip.memory]

    @property
    def fits(self) -> bool:
        return not self.problem and not self.too_large

    def bound(self, step: PlannedStep) -> Bound | None:
        """Of one run of a step that the compiler did not refuse."""
        return None if step.work is None else bound_of(step.work, self.pod)

    @property
    def seconds(self) -> float:
        """Of a step of training at least, or of the supervised step where nothing else is planned:
        the bounds of its programs, as often as they run."""
        training = [step for step in self.steps if step.name in TRAINING]
        bounds = [(step, self.bound(step)) for step in training or self.steps]
        return sum(step.runs * bound.seconds for step, bound in bounds if bound is not None)


def candidate_meshes(config: DecoderConfig, chips: int) -> list[MeshConfig]:
    """One mesh for each number of chips that can share the heads, features and vocabulary of this
    decoder; the others cut the rest of the parameters."""

    def shares(count: int) -> bool:
        sizes = (config.num_kv_heads, config.num_heads, config.d_ff, config.vocab_size)
        return chips % count == 0 and all(size % count == 0 for size in sizes)

    counts = [count for count in range(1, chips + 1) if shares(count)]
    whole = [MeshConfig(1, chips // count, count) for count in counts]
    legal = [mesh for mesh in whole if config.d_model % mesh.fsdp == 0]
    return legal or [MeshConfig(chips, 1, 1)]


def plan_meshes(
    meshes: Sequence[MeshConfig],
    pod: Pod,
    plan: Callable[[MeshConfig], Sequence[PlannedStep]],
) -> Iterator[MeshPlan]:
    """The plan of each mesh as it is there; one over which the sizes do not divide keeps the error
    as its problem."""
    for mesh in meshes:
        try:
            yield MeshPlan(mesh, plan(mesh), pod)
        except UserError as error:
            yield MeshPlan(mesh, (), pod, str(error))


def best_plan(plans: Sequence[MeshPlan]) -> MeshPlan | None:
    """Of those that fit, the one whose bound is lowest; None where none fits."""
    return min((plan for plan in plans if plan.fits), key=lambda plan: plan.seconds, default=None)


def verdict(plans: Sequence[MeshPlan]) -> str:
    """One line: the best mesh and why, or that none fits."""
    best = best_plan(plans)
    if best is None:
        return "no mesh fits"
    named = [step for step in best.steps if step.name in TRAINING] or best.steps
    parts = [
        f"{step.name} {step.runs * bound.seconds:.3g} s ({bound.name})"
        for step in named
        if (bound := best.bound(step)) is not None
    ]
    most = max(step.total for step in best.steps) / GIB
    others = [
        f"{plan.name} {plan.seconds / best.seconds:.2f} times"
        for plan in plans
        if plan.fits and plan is not best and best.seconds > 0
    ]
    rest = f"; {', '.join(others)} as long" if others else ""
    return (
        f"best: {best.name}, at least {best.seconds:.3g} s a step: {', '.join(parts)}; "
        f"at most {most:.2f} GiB a chip{rest}"
    )


def misfits(plans: Sequence[MeshPlan]) -> list[str]:
    """A line for each mesh that does not fit, with what would."""
    fitting = [plan.name for plan in plans if plan.fits]
    lines = []
    for plan in plans:
        if plan.problem:
            lines.append(f"{plan.name}: {plan.problem}")
        elif plan.too_large:
            worst = max(plan.too_large, key=lambda step: step.total)
            needs = f"needs {worst.total / GIB:.2f} GiB a chip"
            if worst.refused and not worst.memory.temporary:
                needs = f"was refused by the compiler ({worst.refused})"
            way = f"fits: {', '.join(fitting)}" if fitting else _way_out(worst, plan.pod)
            lines.append(
                f"{plan.name} does not fit: the {worst.name} {needs}, and a {plan.pod.name} chip "
                f"has {plan.pod.chip.memory / GIB:.2f}; {way}{_reserved(worst, plan.pod)}"
            )
    return lines


def _reserved(step: PlannedStep, pod: Pod) -> str:
    """The TPU compiler holds temporary memory alone against the chip's. Where it is told what else
    lies there, it computes more again in the backward pass."""
    rest = step.total - step.memory.temporary
    if pod.compiler != "tpu" or step.refused or rest >= pod.chip.memory:
        return ""
    return (
        "; the compiler may make room with "
        f"LIBTPU_INIT_ARGS=--xla_tpu_user_reserved_hbm_bytes={rest}"
    )


def _way_out(step: PlannedStep, pod: Pod) -> str:
    """What would make room, by proportion: state shrinks with the chips that cut it, and what is
    temporary with the rows that a chip computes at a time."""
    limit, memory = pod.chip.memory, step.memory
    state = memory.total - memory.temporary + step.reference
    count = len(pod.devices)
    if state >= limit:
        chips = count * 2
        while state * count // chips + memory.temporary * count // chips > limit:
            chips *= 2
        return (
            f"parameters and optimizer alone are {state / GIB:.2f} GiB: about {chips} such chips "
            "would fit (--mesh with more fsdp or tensor), or adapters (--lora-rank)"
        )
    share = -(-memory.temporary // (limit - state))
    return (
        f"by proportion {share} times fewer rows at a time would fit (--prompts-per-step, "
        f"--micro-batch, --num-samples), or {share} times as many chips on tensor"
    )
