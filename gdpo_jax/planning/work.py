"""What one chip does in a compiled program: operations, bytes of memory, and what it sends.

All counted from the program's text, loops as often as they run.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping

from gdpo_jax.planning.hlo import Computation, Instruction, Module, parse, visits

__all__ = ["Collective", "Work", "work_of"]

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
# What neither reads nor writes memory by itself.
FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional",
    "call", "after-all", "partition-id", "replica-id", "opt-barrier", "async-start", "async-update",
}  # fmt: skip
PARTIAL_READS = {"dynamic-slice", "slice", "gather"}
# What a fusion computes for the elements that are asked for: an input seen otherwise.
VIEWS = {"bitcast", "copy", "convert"}
_CYCLES = re.compile(r'estimated_cycles":"(\d+)"')
_CHANNEL = re.compile(r"channel_id=\d+")
_GROUPS = re.compile(r"replica_groups=(mesh\[.*?\].*? \{[^}]*\}|\S+)")


@dataclasses.dataclass(frozen=True)
class Collective:
    """One exchange between chips. times: how often it runs in the program; sent: bytes that one
    chip sends each time, by a ring; group: how many chips take part; sizes: dimensions of the
    arrays that come out."""

    kind: str
    times: int
    sent: int
    group: int
    sizes: tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one chip and one run of the program.

    flops: of matrix products, two a multiplication and addition. traffic: bytes read from and
    written to the chip's memory, each fusion's inputs and outputs once. cycles: the compiler's own
    estimate, without exchanges; 0 where it gives none.
    """

    flops: int
    traffic: int
    cycles: int
    collectives: tuple[Collective, ...]

    @property
    def sent(self) -> int:
        """Bytes that one chip sends."""
        return sum(each.times * each.sent for each in self.collectives)

    def by_kind(self) -> dict[str, tuple[int, int]]:
        """Of each kind of exchange, how many run, and the bytes that one chip sends in them."""
        found: dict[str, tuple[int, int]] = {}
        for each in self.collectives:
            count, sent = found.get(each.kind, (0, 0))
            found[each.kind] = (count + each.times, sent + each.times * each.sent)
        return dict(sorted(found.items()))


def work_of(text: str, chips: int, *, open_steps: int = 1) -> Work:
    """The work of the program with this text (`compiled.as_text()`) on each of `chips` chips.

    open_steps: as for `visits`. Raises UserError for a text that is not XLA's.
    """
    module = parse(text)
    flops = traffic = cycles = 0
    exchanges: dict[str, Collective] = {}
    for computation, instruction, times, fused in visits(module, open_steps=open_steps):
        if instruction.op in ("dot", "convolution"):
            flops += times * _flops(computation, instruction)
        kind = instruction.op.removesuffix("-start")
        if kind in COLLECTIVES:
            found = _collective(computation, instruction, kind, times, chips)
            # A TPU spreads one exchange over several fusions, which name the same channel.
            channel = _CHANNEL.search(instruction.attributes)
            key = channel.group(0) if channel else f"{computation.name} {instruction.name}"
            if key not in exchanges or found.times < exchanges[key].times:
                exchanges[key] = found
        if fused:
            continue
        traffic += times * _traffic(module, computation, instruction)
        if found := _CYCLES.search(instruction.attributes):
            cycles += times * int(found.group(1))
    return Work(flops, traffic, cycles, tuple(each for each in exchanges.values() if each.sent))


def _collective(
    computation: Computation, instruction: Instruction, kind: str, times: int, chips: int
) -> Collective:
    arrays = [
        array for name in instruction.operands for array in computation.instructions[name].arrays
    ]
    size, group = sum(array.size for array in arrays), _group_size(instruction, chips)
    # A TPU scatters a sum by a fusion that holds the sum and its slice.
    if kind == "all-reduce" and "all-reduce-scatter" in computation.name:
        kind = "reduce-scatter"
    sent = {
        "all-gather": size * (group - 1),
        "all-reduce": 2 * size * (group - 1) // group,
        "collective-permute": size,
    }.get(kind, size * (group - 1) // group)
    return Collective(kind, times, sent, group, tuple(array.dims for array in instruction.arrays))


def _group_size(instruction: Instruction, chips: int) -> int:
    """How many chips exchange with each other, from the three ways in which XLA writes groups."""
    found = _GROUPS.search(instruction.attributes)
    if found is None:
        return chips
    text = found.group(1)
    if text.startswith("mesh["):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", text))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", text[text.rindex("{") :])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    if text.startswith("["):
        return int(text[1:].partition("]")[0].split(",")[-1])
    first = re.match(r"\{\{([\d,]+)\}", text)
    return chips if first is None else len(first.group(1).split(","))


def _flops(computation: Computation, instruction: Instruction) -> int:
    [result] = instruction.arrays
    left, right = (computation.instructions[name].arrays[0] for name in instruction.operands[:2])
    if instruction.op == "dot":
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        axes = [int(axis) for axis in contracted.group(1).split(",") if axis] if contracted else []
        return 2 * math.prod(result.dims) * math.prod(left.dims[axis] for axis in axes)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    of_left, of_right, of_result = labels.groups()
    inputs = right.dims[of_right.index("i")]
    products = math.prod(result.dims[of_result.index(label)] for label in "bf") * inputs
    windows = _windows(instruction.attributes)
    for axis in range(len(of_result) - 2):
        label = str(axis)
        products *= _pairs(
            left.dims[of_left.index(label)],
            right.dims[of_right.index(label)],
            result.dims[of_result.index(label)],
            {name: sizes[axis] for name, sizes in windows.items() if len(sizes) > axis},
        )
    return 2 * products


def _windows(attributes: str) -> dict[str, list[str]]:
    found = re.search(r"window=\{([^}]*)\}", attributes)
    parts = found.group(1).split() if found else []
    return {name: sizes.split("x") for name, _, sizes in (part.partition("=") for part in parts)}


@functools.lru_cache(maxsize=4096)
def _valid(size: int, kernel: int, results: int, *numbers: int) -> int:
    stride, low, left_dilation, right_dilation = numbers
    last = (size - 1) * left_dilation
    return sum(
        0 <= place <= last and place % left_dilation == 0
        for result in range(results)
        for tap in range(kernel)
        for place in (result * stride + tap * right_dilation - low,)
    )


def _pairs(size: int, kernel: int, results: int, window: Mapping[str, str]) -> int:
    """Pairs of a result and a kernel's place along one axis that meet an input: a TPU writes a
    batch of products as a convolution whose other pairs fall on padding."""
    low = int(window.get("pad", "0_0").split("_")[0])
    numbers = (int(window.get(name, 1)) for name in ("lhs_dilate", "rhs_dilate"))
    return _valid(size, kernel, results, int(window.get("stride", 1)), low, *numbers)


def _traffic(module: Module, computation: Computation, instruction: Instruction) -> int:
    """Bytes that the instruction reads from and writes to the chip's main memory."""
    op = instruction.op
    if op in FREE or op.endswith("-done"):
        return 0
    given = [computation.instructions[name] for name in instruction.operands]
    if op in ("copy-start", "slice-start"):
        # The result names both places; what moves is the smaller one.
        moved = sorted(array.size for array in instruction.arrays)[-2:]
        ends = [array for array in instruction.arrays if array.size in moved]
        return moved[0] * sum(not array.on_chip for array in ends[:2])
    if op in PARTIAL_READS:
        return 2 * _outside(instruction)
    if op == "dynamic-update-slice":
        return 2 * _outside(given[1])
    if op != "fusion":
        return sum(_outside(each) for each in given) + _outside(instruction)
    [called] = instruction.called("calls")
    inner = module.computations[called]
    read = 0
    for number, each in enumerate(given):
        part, passed = _read(module, inner, number, each)
        read += _outside(each) if passed else part
    return read + _written(inner, instruction)


def _outside(instruction: Instruction) -> int:
    return sum(array.size for array in instruction.arrays if not array.on_chip)


def _read(module: Module, fusion: Computation, number: int, given: Instruction) -> tuple[int, bool]:
    """Bytes that a fusion reads of one input: of one that it only takes slices of, the slices, and
    nothing of one that it only writes a slice into. Whether its result is that input, of another
    shape or type."""
    values = fusion.instructions.values()
    names = {
        each.name for each in values if each.op == "parameter" and int(each.operands[0]) == number
    }
    total = 0
    for use in values:
        if not names & set(use.operands) or use.op in ("parameter", "constant"):
            continue
        first = use.operands[0] in names
        if use.op in VIEWS:
            names.add(use.name)
        elif use.op in PARTIAL_READS and first:
            total += sum(array.size for array in use.arrays)
        elif use.op == "fusion":
            [called] = use.called("calls")
            inner = module.computations[called]
            for place in (place for place, name in enumerate(use.operands) if name in names):
                read, passed = _read(module, inner, place, given)
                total += read
                if passed:
                    names.add(use.name)
        elif not (use.op == "dynamic-update-slice" and first):
            return _outside(given), False
    return min(total, _outside(given)), fusion.root.name in names


def _written(fusion: Computation, instruction: Instruction) -> int:
    """Bytes that a fusion writes: of a slice written into an array in place, the slice."""
    root = fusion.root
    parts = [fusion.instructions[name] for name in root.operands] if root.op == "tuple" else [root]
    total = 0
    for part, array in zip(parts, instruction.arrays, strict=False):
        if array.on_chip:
            continue
        while part.op in VIEWS and part.operands[0] in fusion.instructions:
            part = fusion.instructions[part.operands[0]]
        if part.op == "dynamic-update-slice":
            part = fusion.instructions[part.operands[1]]
            total += sum(each.size for each in part.arrays)
        else:
            total += array.size
    return total
