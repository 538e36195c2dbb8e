"""Chips by their published figures, and the devices that a plan compiles for.

A plan needs no chip. Where libtpu is installed, JAX compiles for a TPU pod on any machine; for
everything else, CPU devices are forced, one for each chip.
"""

import contextlib
import dataclasses
import importlib.util
import math
import os
from collections.abc import Sequence
from typing import Any

import jax

from gdpo_jax.errors import UserError

__all__ = ["CHIPS", "Chip", "Pod", "open_pod", "plan_devices"]

GIB = 2**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator; rates are peaks that its maker publishes, so that times are lower bounds."""

    flops: float  # of bfloat16 products with float32 sums, a second
    memory: int  # bytes that a program may take
    bandwidth: float  # bytes a second from and to that memory
    network: float  # bytes a second that it sends to the other chips of its group
    cycles: float = 0.0  # a second, of a TPU's matrix unit, in which its compiler estimates
    group: int | None = None  # chips joined by `network`; None: all of a pod
    outside: float = 0.0  # bytes a second that a chip sends out of its group
    shapes: str = ""  # of a TPU's pods, as examples


# TPU: rates of cloud.google.com/tpu/docs (v5e, v5p, v6e). Interconnects are given there in both
# directions together, or in bits a second; here it is what goes out. Memory is what their compiler
# allows a program (its message where one does not fit). Cycles: peak products over those of one
# cycle, in 4 units of 128 x 128 a core (v5e has one, v5p two) or of 256 x 256 (v6e).
# GPU: NVIDIA's data sheets (H100 SXM, H200 SXM, A100 80GB SXM, L4) and its white paper of Ada (RTX
# 4090), without sparsity. NVLink or PCIe in one direction; behind a machine of eight, one port of
# 400 (H100, H200) or 200 Gb/s (A100) for each GPU, and 25 Gb/s for the cards without NVLink. Memory
# is the nominal one: JAX takes three quarters of it unless XLA_PYTHON_CLIENT_MEM_FRACTION is set.
CHIPS: dict[str, Chip] = {
    "v5e": Chip(
        flops=197e12,
        memory=int(15.75 * GIB),
        bandwidth=819e9,
        network=200e9,
        cycles=197e12 / (2 * 4 * 128**2),
        shapes="2x2, 4x4, 8x16",
    ),
    "v5p": Chip(
        flops=459e12,
        memory=int(95.74 * GIB),
        bandwidth=2765e9,
        network=600e9,
        cycles=459e12 / (2 * 8 * 128**2),
        shapes="2x2x1, 2x2x4, 4x4x4",
    ),
    "v6e": Chip(
        flops=918e12,
        memory=int(31.25 * GIB),
        bandwidth=1640e9,
        network=448e9,
        cycles=918e12 / (2 * 4 * 256**2),
        shapes="2x2, 4x4, 8x16",
    ),
    "h100": Chip(
        flops=989e12, memory=int(80e9), bandwidth=3350e9, network=450e9, group=8, outside=50e9
    ),
    "h200": Chip(
        flops=989e12, memory=int(141e9), bandwidth=4800e9, network=450e9, group=8, outside=50e9
    ),
    "a100": Chip(
        flops=312e12, memory=int(80e9), bandwidth=2039e9, network=300e9, group=8, outside=25e9
    ),
    "rtx4090": Chip(
        flops=165e12, memory=int(24e9), bandwidth=1008e9, network=32e9, group=8, outside=3e9
    ),
    "l4": Chip(flops=121e12, memory=int(24e9), bandwidth=300e9, network=32e9, group=8, outside=3e9),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pod:
    """Chips to plan for. name: as it was asked for; devices: what programs are compiled for;
    compiler: "tpu" or "cpu", whose plan it is."""

    name: str
    chip: Chip
    devices: Sequence[Any]
    compiler: str

    def rate(self, group: int) -> float:
        """Bytes a second that each chip sends to others of so many that exchange."""
        inside = self.chip.group is None or group <= self.chip.group
        return self.chip.network if inside else self.chip.outside

    @property
    def source(self) -> str:
        """A line that says what the figures are."""
        if self.compiler == "tpu":
            return f"{self.name}: compiled by the TPU compiler (libtpu), on no TPU"
        why = "libtpu is not installed (extra tpu)" if self.chip.shapes else "it is no TPU"
        return (
            f"{self.name}: compiled for {len(self.devices)} forced CPU devices, because {why}: "
            "parameters and optimizer are exact; temporary memory and exchanges are those of XLA's "
            "CPU compiler, which computes bfloat16 products in float32"
        )


def open_pod(text: str) -> Pod:
    """The chips of TYPE:SHAPE, such as v5e:4x4, v5p:2x2x4 or h100:8.

    Raises UserError for a type or shape that is not known.
    """
    # Nothing is computed: a TPU or GPU of this machine is left to who uses it.
    jax.config.update("jax_platforms", "cpu")
    name, _, shape = text.partition(":")
    sizes = shape.split("x")
    if name not in CHIPS or not all(size.isdecimal() and int(size) > 0 for size in sizes):
        known = ", ".join(CHIPS)
        raise UserError(
            f"--chips {text!r}: give TYPE:SHAPE, such as v5e:4x4 or h100:8; types are {known}"
        )
    chip, count = CHIPS[name], math.prod(map(int, sizes))
    if not chip.shapes or importlib.util.find_spec("libtpu") is None:
        return Pod(text, chip, plan_devices(count), "cpu")
    return Pod(text, chip, _topology(text, chip, count), "tpu")


def _topology(text: str, chip: Chip, count: int) -> Sequence[Any]:
    from jax.experimental import topologies

    # JAX can write programs for chips that are not there, and not read them back.
    jax.config.update("jax_enable_compilation_cache", False)
    # libtpu reads these when it is loaded: there is no TPU to be asked for what it is, and none
    # that two processes would drive at a time.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "none")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Hosts have four chips or more unless told otherwise.
    bounds = {"chips_per_host_bounds": (1, 1, 1)} if count == 1 else {}
    try:
        return topologies.get_topology_desc(text, platform="tpu", **bounds).devices
    except (jax.errors.JaxRuntimeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--chips {text!r} is no pod that libtpu knows ({reason}); use {chip.shapes}, ..."
        ) from error


def plan_devices(count: int) -> list[jax.Device]:
    """`count` devices of this machine, forced CPU ones where no backend has started yet.

    Raises UserError where there are fewer.
    """
    with contextlib.suppress(RuntimeError):  # raised where a backend has started
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices()
    if len(devices) < count:
        raise UserError(
            f"the mesh has {count} devices and this machine {len(devices)}; a dry run needs no "
            "accelerator: set JAX_PLATFORMS=cpu, or give a smaller --mesh"
        )
    return devices[:count]
