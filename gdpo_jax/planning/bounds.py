"""How long a compiled program takes at least, by what its chips can do at best."""

import dataclasses

from gdpo_jax.planning.chips import Pod
from gdpo_jax.planning.work import Work

__all__ = ["Bound", "bound_of"]


@dataclasses.dataclass(frozen=True)
class Bound:
    """Seconds of one run: of its products, its memory traffic and its exchanges, each alone, at
    the chip's published rates; the longest of them is what the run takes at least. estimate: of the
    compiler itself, without exchanges; None where it gives none."""

    compute: float
    bandwidth: float
    network: float
    estimate: float | None

    @property
    def seconds(self) -> float:
        return max(self.compute, self.bandwidth, self.network)

    @property
    def name(self) -> str:
        """What bounds it: compute, bandwidth or network."""
        return max(("compute", "bandwidth", "network"), key=lambda name: getattr(self, name))


def bound_of(work: Work, pod: Pod) -> Bound:
    """The bound of a program on the chips of `pod`."""
    chip = pod.chip
    return Bound(
        compute=work.flops / chip.flops,
        bandwidth=work.traffic / chip.bandwidth,
        network=sum(each.times * each.sent / pod.rate(each.group) for each in work.collectives),
        estimate=work.cycles / chip.cycles if work.cycles and chip.cycles else None,
    )
