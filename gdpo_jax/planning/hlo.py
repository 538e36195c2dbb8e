"""The text of a compiled program as computations of instructions, and how often each one runs.

A compiled program is one computation that calls others: bodies of loops, branches, fusions. XLA's
own `cost_analysis` counts the body of a loop once, however often it runs, so that programs with
scanned layers are read here instead.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

from gdpo_jax.errors import UserError

__all__ = ["ArrayType", "Computation", "Instruction", "Module", "parse", "visits"]

# Operations whose brackets hold a value in place of operands.
LITERAL = ("constant", "parameter")
ITEM_BITS = {"pred": 8, "token": 0, "opaque": 0}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\) -> .*\{$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(\w+)=\{?((?:%[\w.\-]+(?:, )?)+)\}?")
_KNOWN_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')


@dataclasses.dataclass(frozen=True)
class ArrayType:
    """One array of an instruction's result. on_chip: it lies in the small memory inside of the
    chip (memory space 1 of a TPU), not in the chip's main memory."""

    dtype: str
    dims: tuple[int, ...]
    on_chip: bool

    @property
    def size(self) -> int:
        """Bytes, without the padding of tiles."""
        bits = ITEM_BITS.get(self.dtype)
        if bits is None:
            bits = int(re.sub(r"^\D+(\d+).*", r"\1", self.dtype))
        return math.prod(self.dims) * bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line: its result's arrays, operation, names of operands (the value itself of a constant,
    the number of a parameter), and everything behind them."""

    name: str
    op: str
    arrays: tuple[ArrayType, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    def called(self, *keys: str) -> list[str]:
        """Names of the computations that stand under any of `keys`."""
        found = _CALLED.findall(self.attributes)
        return [name for key, names in found if key in keys for name in _NAME.findall(names)]


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in the order in which they run."""

    name: str
    instructions: Mapping[str, Instruction]

    @property
    def root(self) -> Instruction:
        return next(each for each in self.instructions.values() if each.root)


@dataclasses.dataclass(frozen=True)
class Module:
    """All computations by name, and the one that the program begins with."""

    computations: Mapping[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """The module of `compiled.as_text()`.

    Raises UserError where the text has no entry, as that of a program that is not XLA's.
    """
    computations: dict[str, Computation] = {}
    entry, name, lines = None, None, {}
    for line in text.splitlines():
        if name is None:
            if head := _COMPUTATION.match(line):
                name, lines = head.group(2), {}
                entry = name if head.group(1) else entry
        elif line == "}":
            computations[name] = Computation(name, lines)
            name = None
        elif instruction := _instruction(line):
            lines[instruction.name] = instruction
    if entry is None:
        raise UserError("the compiled program has no text that could be read: no ENTRY in it")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction | None:
    left, found, right = line.partition(" = ")
    if not found:
        return None
    root = left.lstrip().startswith("ROOT ")
    name = left.strip().removeprefix("ROOT ").removeprefix("%")
    end = _closing(right, 0) + 1 if right.startswith("(") else right.find(" ")
    types, rest = right[:end], right[end:].lstrip()
    op, _, rest = rest.partition("(")
    end = _closing("(" + rest, 0) - 1
    arrays = tuple(
        ArrayType(dtype, tuple(int(size) for size in dims.split(",") if size), "S(1)" in layout)
        for dtype, dims, layout in _ARRAY.findall(types)
    )
    return Instruction(
        name=name,
        op=op,
        arrays=arrays,
        operands=(rest[:end],) if op in LITERAL else tuple(_NAME.findall(rest[:end])),
        attributes=rest[end + 1 :],
        root=root,
    )


def _closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` closes."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if depth == 0:
            return place
    return len(text)


def visits(
    module: Module, *, open_steps: int = 1
) -> Iterator[tuple[Computation, Instruction, int, bool]]:
    """(computation, instruction, how often it runs, whether inside of a fusion), in order.

    open_steps: how often the body of a loop runs that also ends on what it computes, such as a
    sampler's where all rows may have stopped. Only the first such loop in the program is taken to
    run, as if nothing stopped before the limit: the loops behind it continue where it ended.
    """
    open_loops: list[str] = []

    def walk(name: str, times: int, fused: bool) -> Iterator:
        computation = module.computations[name]
        for instruction in computation.instructions.values():
            yield computation, instruction, times, fused
            if instruction.op == "while":
                trips = _trips(module, instruction)
                if trips is None:
                    open_loops.append(instruction.name)
                    trips = open_steps if len(open_loops) == 1 else 0
                if trips:
                    [body] = instruction.called("body")
                    yield from walk(body, times * trips, fused)
            elif instruction.op == "fusion":
                for called in instruction.called("calls"):
                    yield from walk(called, times, True)
            elif instruction.op in ("call", "conditional", "async-start"):
                keys = ("to_apply", "calls", "called_computations", "branch_computations")
                keys += ("true_computation", "false_computation")
                for called in instruction.called(*keys):
                    yield from walk(called, times, fused)

    return walk(module.entry, 1, False)


def _trips(module: Module, loop: Instruction) -> int | None:
    """How often a loop runs, or None where what it computes decides.

    Loops count from zero up to a constant, by ones, or by as many as the compiler has put into one
    turn of the body.
    """
    if known := _KNOWN_TRIPS.search(loop.attributes):
        return int(known.group(1))
    [name] = loop.called("condition")
    condition = module.computations[name]
    root, values = condition.root, condition.instructions
    limits, counters = _constants(values, root.operands), _places(values, root.operands)
    if root.op == "fusion":
        [called] = root.called("calls")
        inner = module.computations[called]
        root = inner.root
        limits += _constants(inner.instructions, root.operands)
    if root.op != "compare" or "direction=LT" not in root.attributes or len(limits) != 1:
        return None
    [name] = loop.called("body")
    step = _step(module.computations[name], counters[0]) if counters else 1
    return -(-limits[0] // step)


def _step(body: Computation, place: int) -> int:
    """What one turn adds to the counter at this place of the loop's values; 1 where it is hidden
    in a fusion."""
    values = body.instructions
    each = values[body.root.operands[place]]
    while each.op in ("copy", "bitcast"):
        each = values[each.operands[0]]
    added = _constants(values, each.operands) if each.op == "add" else []
    return added[0] if len(added) == 1 else 1


def _places(values: Mapping[str, Instruction], names: Sequence[str]) -> list[int]:
    found = [values[name].attributes for name in names if values[name].op == "get-tuple-element"]
    return [int(re.search(r"index=(\d+)", attributes).group(1)) for attributes in found]


def _constants(values: Mapping[str, Instruction], names: Sequence[str]) -> list[int]:
    found = [values[name] for name in names if name in values]
    return [
        int(each.operands[0])
        for each in found
        if each.op == "constant" and each.operands[0].isdecimal()
    ]
