"""`sweep`: settings of refinement against each other on validation prompts."""

from collections.abc import Callable
from typing import Annotated, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from experiments.common.runs.experiment import Experiment
from experiments.common.runs.options import Invocation, unset
from experiments.common.runs.pipeline import train_arm
from experiments.dcr.data.prompts import SEEMING, TOXIC
from experiments.dcr.refinement import Refinement
from experiments.dcr.separation import SweepRow, best_of, variants
from experiments.dcr.separation import sweep as run_sweep
from gdpo_jax.errors import UserError
from gdpo_jax.policies import check_layer

__all__ = ["sweeping"]


def sweeping(experiment: Experiment) -> Callable[..., None]:
    """The command `sweep` of an experiment."""
    plain, own_plain, _ = unset(experiment, [arm.name for arm in experiment.compared])

    def sweep(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        layers: tuple[int, ...] = (),
        margins: tuple[float, ...] = (),
        scales: tuple[float, ...] = (),
        poolings: tuple[Literal["last", "mean"], ...] = (),
        seed: int = 0,
    ) -> None:
        """Refine with all combinations of settings, and print the separation of validation prompts.

        The base is trained first if it is not. Runs are kept beside the seed's arms: the same
        command goes on. Separation is no over-refusal yet: train arms with the best settings.

        The cosine is that of seemingly toxic and toxic prompts, the probe's number the area under
        its curve on prompts that it has not seen; bold is the highest silhouette.

        Args:
            layers: behind which layers, counted from 1; the preset's unless given.
            margins: m of the circle loss, likewise.
            scales: g of the circle loss, likewise.
            poolings: of a prompt's hidden states, likewise.
            seed: of the base and of refinement.
        """
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        choices = {"layer": layers, "margin": margins, "scale": scales, "pooling": poolings}
        choices = {name: values for name, values in choices.items() if values}
        if not choices:
            raise UserError(
                "nothing to choose from; give --layers, --margins, --scales, --poolings"
            )
        preset = run.settings()
        settings = variants(preset.stage("refine", Refinement), **choices)
        if preset.pretrained is None:  # before the base is trained
            for each in settings:
                check_layer(preset.decoder, each.layer)
        space = run.open()
        records = space.data.records["validation"]
        rows = run_sweep(
            train_arm(space, experiment.arm("base"), seed).merged(),
            experiment.examples["contrast"](space.data, space.preset),
            [record for record in records if record["kind"] in (SEEMING, TOXIC)],
            settings,
            prompt=lambda row: space.prompt(row["prompt"]),
            folder=space.arm_dir("sweep", seed),
            seed=seed,
        )
        _tell(rows, Console())

    return sweep


def _tell(rows: list[SweepRow], console: Console) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in ("layer", "pooling", "margin", "scale"):
        table.add_column(heading)
    for heading in ("silhouette", "cosine", "probe"):
        table.add_column(f"{heading}\nbefore, after", justify="right")
    best = best_of(rows)
    for row in rows:
        chosen = row.settings
        options = ("usual" if x is None else f"{x:g}" for x in (chosen.margin, chosen.scale))
        pairs = [
            (row.before.silhouette, row.after.silhouette),
            (row.before.similarity["seeming/toxic"], row.after.similarity["seeming/toxic"]),
            (row.before.auc, row.after.auc),
        ]
        cells = [f"{before:.3f}, {after:.3f}" for before, after in pairs]
        style = "bold" if row is best else None
        table.add_row(str(chosen.layer), chosen.pooling, *options, *cells, style=style)
    console.print(table)
