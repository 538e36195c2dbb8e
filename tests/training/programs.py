"""What compiled programs send between devices."""

import re
from typing import NamedTuple

OPERATIONS = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"


class Collective(NamedTuple):
    """Whether it runs inside of a loop, its name, and the sizes of its arrays on one device."""

    in_loop: bool
    operation: str
    sizes: list[tuple[int, ...]]


def collectives_of(hlo: str) -> list[Collective]:
    """All of a program, but for those of scalars."""
    computations = dict(
        re.findall(r"^(?:ENTRY )?%?([\w.\-]+) \([^\n]*\{\n(.*?)^\}", hlo, re.M | re.S)
    )
    inside, found = set(), set(re.findall(r"body=%?([\w.\-]+)", hlo))
    while found - inside:
        inside |= found
        names = {n for name in found for n in re.findall(r"%([\w.\-]+)", computations[name])}
        found = names & computations.keys()
    pattern = re.compile(rf"= (\([^)]*\)|\S+) ({OPERATIONS})(?:-start)?\(")
    return [
        Collective(name in inside, op, [tuple(map(int, dims.split(","))) for dims in sizes])
        for name, text in computations.items()
        for arrays, op in pattern.findall(text)
        if (sizes := re.findall(r"\[([\d,]+)\]", arrays))
    ]
