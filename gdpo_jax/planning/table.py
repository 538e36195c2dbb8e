"""Plans as tables: memory of each step, what it does and how long that takes, what it exchanges."""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from gdpo_jax.planning.chips import GIB, Pod
from gdpo_jax.planning.comparison import MeshPlan, best_plan, misfits, verdict
from gdpo_jax.planning.steps import PlannedStep
from gdpo_jax.policies import Policy, num_params
from gdpo_jax.training.mesh import AXES

__all__ = ["plan_rows", "print_comparison", "print_plan", "wide_console"]

MEMORY = ("parameters", "optimizer", "reference", "batch", "temporary", "of it caches", "total")
RATES = ("compute s", "bandwidth s", "network s", "bound", "compiler s")
WORK = ("runs", "TFLOP", "GB moved", "GB sent", *RATES)
SENT = ("mesh", "step", "kind", "number", "MB")


def wide_console() -> Console:
    """A console with room for these tables also where nothing says how wide the paper is."""
    return Console(width=None if sys.stdout.isatty() else 132)


def print_plan(
    title: str,
    policy: Policy,
    steps: Sequence[PlannedStep],
    *,
    mesh: jax.sharding.Mesh,
    console: Console,
) -> None:
    """The model's size, a line of shapes for each step, and a table of GiB a device."""
    shape = "x".join(str(mesh.shape[axis]) for axis in AXES)
    _say(console, f"{_described(title, policy)}, mesh data x fsdp x tensor {shape}")
    _say_shapes(console, steps)
    table = _table("GiB a device", ("", *MEMORY))
    for step in steps:
        table.add_row(step.name, *_memory_cells(step))
    console.print(table)


def print_comparison(
    title: str, policy: Policy, pod: Pod, plans: Sequence[MeshPlan], console: Console
) -> None:
    """All meshes in one table each of memory, work and exchanges, the best one marked; then why it
    is, and a line for each mesh that does not fit."""
    _say(console, _described(title, policy))
    _say(console, pod.source)
    for plan in plans:
        _say_shapes(console, plan.steps, f"{plan.name} ")
    best, rows = best_plan(plans), [(plan, step) for plan in plans for step in plan.steps]
    room = f"GiB a chip, of {pod.chip.memory / GIB:.2f}; meshes are data x fsdp x tensor"
    memory = _table(room, ("mesh", "step", *MEMORY, "fits"), left=2)
    work = _table("a run of each step, on each chip", ("mesh", "step", *WORK), left=2)
    sent = _table("exchanges of a run, and MB that a chip sends", SENT, left=3)
    for plan, step in rows:
        names = (f"{plan.name}{' *' if plan is best else ''}", step.name)
        fits = "no" if step in plan.too_large else "yes"
        memory.add_row(*names, *_memory_cells(step), fits)
        bound = plan.bound(step)
        if step.work is None or bound is None:
            continue
        work.add_row(
            *names,
            str(step.runs),
            f"{step.work.flops / 1e12:.3g}",
            f"{step.work.traffic / 1e9:.3g}",
            f"{step.work.sent / 1e9:.3g}",
            *(f"{value:.3g}" for value in (bound.compute, bound.bandwidth, bound.network)),
            bound.name,
            "" if bound.estimate is None else f"{bound.estimate:.3g}",
        )
        for kind, (count, size) in step.work.by_kind().items():
            sent.add_row(*names, kind, f"{count:,}", f"{size / 1e6:,.1f}")
    for table in (memory, work, sent):
        console.print(table)
    _say(console, verdict(plans))
    for line in misfits(plans):
        _say(console, line)


def plan_rows(plans: Iterable[MeshPlan]) -> list[dict[str, Any]]:
    """The figures as JSON-like rows, one for each mesh and step."""
    rows = []
    for plan in plans:
        for step in plan.steps:
            bound = plan.bound(step)
            row: dict[str, Any] = {
                "chips": plan.pod.name,
                "compiler": plan.pod.compiler,
                "mesh": plan.name,
                "step": step.name,
                "shapes": step.shapes,
                "runs": step.runs,
                "fits": step not in plan.too_large,
                "memory": {**step.memory._asdict(), "reference": step.reference, "all": step.total},
                "refused": step.refused,
            }
            if step.work is not None and bound is not None:
                row["flops"], row["traffic"] = step.work.flops, step.work.traffic
                row["sent"], row["exchanges"] = step.work.sent, step.work.by_kind()
                row["seconds"] = {
                    "compute": bound.compute,
                    "bandwidth": bound.bandwidth,
                    "network": bound.network,
                    "compiler": bound.estimate,
                }
            rows.append(row)
    return rows


def _described(title: str, policy: Policy) -> str:
    config = policy.config
    params = jax.eval_shape(policy.init, jax.random.key(0))
    return (
        f"{title}: {num_params(params) / 1e6:.0f}M parameters, {config.num_layers} layers, "
        f"{config.dtype} products, {config.remat} remat"
    )


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def _say_shapes(console: Console, steps: Sequence[PlannedStep], before: str = "") -> None:
    for step in steps:
        _say(console, f"{before}{step.name}: {step.shapes}")
        if step.refused:
            _say(console, f"{before}{step.name}: the compiler refused it: {step.refused}")


def _table(title: str, headings: Sequence[str], left: int = 1) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < left else "right")
    return table


def _memory_cells(step: PlannedStep) -> list[str]:
    memory = step.memory
    sizes = (
        memory.parameters,
        memory.optimizer,
        step.reference,
        memory.batch,
        memory.temporary,
        memory.caches,
        step.total,
    )
    return [f"{size / GIB:.2f}" for size in sizes]
