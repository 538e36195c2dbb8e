"""A program compiled ahead of time: what a chip must hold for it, and what it does in it.

Nothing is allocated. Sizes of parameters, optimizer slots and batches are exact; temporary memory
is what the compiler plans, and another backend's may differ.
"""

import re
from typing import Any, NamedTuple

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.planning.abstract import bytes_per_device
from gdpo_jax.planning.work import Work, work_of

__all__ = ["Compiled", "StepMemory", "compile_step_figures"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_NEEDED = re.compile(r"(?:Used |\()([\d.]+)([KMGT]?)(?: of|\) exceeds)")


class StepMemory(NamedTuple):
    """Bytes of one device. `state`: what stays between steps, of which `parameters` and
    `optimizer`; `batch`: the rows given to the step; `temporary`: the most that exists at a time
    inside, of which `caches` are keys and values of a sampler; `other`: results that replace
    nothing, what tiles of the chip add to the arguments, and the program itself."""

    parameters: int
    optimizer: int
    state: int
    batch: int
    temporary: int
    caches: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """What a device must hold at the worst moment; the donated state is counted once."""
        return self.state + self.batch + self.temporary + self.other


class Compiled(NamedTuple):
    """memory, and work of one run. refused: what the compiler said where the program does not fit
    on the chip, "" where it does; there is no work then, and `temporary` is what it asked for."""

    memory: StepMemory
    work: Work | None
    refused: str = ""


def compile_step_figures(
    lowered: jax.stages.Lowered,
    state: Any,
    batch: Any,
    *,
    chips: int,
    whole_state: bool = True,
    caches: int = 0,
    open_steps: int = 1,
) -> Compiled:
    """Compiles for `chips` devices, which hold `state` and `batch`.

    whole_state: the program is given all of the state, not only its parameters. caches, open_steps:
    as `StepMemory` and `work_of` say.

    Raises UserError where this backend reports no memory of a program.
    """
    exact = StepMemory(
        parameters=bytes_per_device(state.params),
        optimizer=bytes_per_device(state.opt_state),
        state=bytes_per_device(state),
        batch=bytes_per_device(batch),
        temporary=0,
        caches=caches,
    )
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        needed = _NEEDED.search(str(error))
        temporary = int(float(needed.group(1)) * _UNITS[needed.group(2)]) if needed else 0
        return Compiled(exact._replace(temporary=temporary), None, _first_sentence(str(error)))
    analysis = compiled.memory_analysis()
    if analysis is None:
        raise UserError(f"the {jax.default_backend()} backend reports no memory of a program")
    arguments = (exact.state if whole_state else exact.parameters) + exact.batch
    padding = max(0, int(analysis.argument_size_in_bytes) - arguments)
    results = int(analysis.output_size_in_bytes) - int(analysis.alias_size_in_bytes)
    memory = exact._replace(
        temporary=int(analysis.temp_size_in_bytes),
        other=padding + max(0, results) + int(analysis.generated_code_size_in_bytes),
    )
    return Compiled(memory, work_of(compiled.as_text(), chips, open_steps=open_steps))


def _first_sentence(message: str) -> str:
    return " ".join(message.split()).partition(". ")[0][:240]
