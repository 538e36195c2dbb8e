"""What compiled programs send between devices."""

from typing import NamedTuple

from gdpo_jax.planning.hlo import parse
from gdpo_jax.planning.work import COLLECTIVES

CALLS = (
    "body",
    "calls",
    "to_apply",
    "called_computations",
    "branch_computations",
    "true_computation",
    "false_computation",
)


class Collective(NamedTuple):
    """Whether it runs inside of a loop, its name, and the sizes of its arrays on one device."""

    in_loop: bool
    operation: str
    sizes: list[tuple[int, ...]]


def collectives_of(text: str) -> list[Collective]:
    """All of a program, but for those of scalars; of every loop, whichever of them run."""
    computations = parse(text).computations

    def called(name: str, *keys: str) -> set[str]:
        instructions = computations[name].instructions.values()
        return {other for each in instructions for other in each.called(*keys)}

    inside, found = set(), {body for name in computations for body in called(name, "body")}
    while found - inside:
        inside |= found
        found = {other for name in found for other in called(name, *CALLS)}
    return [
        Collective(name in inside, operation, sizes)
        for name, computation in computations.items()
        for each in computation.instructions.values()
        if (operation := each.op.removesuffix("-start")) in COLLECTIVES
        and (sizes := [array.dims for array in each.arrays if array.dims])
    ]
