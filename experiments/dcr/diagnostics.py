"""What is looked at inside of trained models: separation by layer, and the learning kernel.

Results are JSON beside the arms they are about, in RUN/seed-SEED/, where the page finds them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.dcr.bound import proposition_terms
from experiments.dcr.data.instructions import SOURCE
from experiments.dcr.data.prompts import KINDS
from experiments.dcr.kernel import block_means, kernel_norms, relative_norms
from experiments.dcr.separation import separation
from experiments.dcr.states import prompt_states, states_of_layers
from gdpo_jax.errors import UserError
from gdpo_jax.policies.partial import Mask
from gdpo_jax.prompts import Prompt
from gdpo_jax.recipe import Model

__all__ = [
    "KERNEL_FILE",
    "SEPARATION_FILE",
    "balanced",
    "bound_terms",
    "kernel_blocks",
    "origin_areas",
    "separation_by_layer",
]

KERNEL_FILE, SEPARATION_FILE = "kernel.json", "separation.json"


def balanced(
    records: Sequence[Mapping[str, Any]], count: int, *, seed: int = 0
) -> list[Mapping[str, Any]]:
    """So many records of each kind, drawn; instructions without a family are left out.

    Raises UserError for a count below 1, and a kind with fewer records.
    """
    drawn: list[Mapping[str, Any]] = []
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        found = [r for r in records if r["kind"] == kind and r["source"] != SOURCE]
        if not found and kind == "plain":  # of published sets that have none
            continue
        if not 1 <= count <= len(found):
            raise UserError(f"{count} prompts of kind {kind}, and the test has {len(found)}")
        drawn += [found[n] for n in sorted(rng.permutation(len(found))[:count])]
    return drawn


def separation_by_layer(
    model: Model,
    prompts: Sequence[Prompt],
    records: Sequence[Mapping[str, Any]],
    *,
    layers: Sequence[int],
    pooling: str = "last",
    seed: int = 0,
) -> list[dict[str, Any]]:
    """`separation` of the kinds of records behind each layer, as JSON rows.

    Every batch goes through the model once for all layers, and one state a prompt and layer is
    kept. Raises UserError as `states_of_layers` and `separation`.
    """
    kinds = [record["kind"] for record in records]
    clusters = [record["cluster"] for record in records]
    states = states_of_layers(model, prompts, layers=layers, pooling=pooling)
    return [
        {
            "layer": layer,
            **dataclasses.asdict(separation(states[:, place], kinds, clusters=clusters, seed=seed)),
        }
        for place, layer in enumerate(layers)
    ]


def kernel_blocks(
    model: Model,
    prompts: Sequence[Prompt],
    kinds: Sequence[str],
    *,
    top_k: int = 10,
    mask: Mask = True,
) -> dict[str, Any]:
    """Block means of `||K(x', x)|| / ||K(x', x')||` by kind of x' and x, as JSON values.

    ratio: that of a step on toxic prompts to what only seems toxic, beside what a step on other
    seemingly toxic prompts does to it. Raises UserError as `kernel_norms`.
    """
    norms = kernel_norms(model, prompts, top_k=top_k, mask=mask)
    blocks = block_means(relative_norms(norms), kinds)
    row = blocks["seeming"]
    return {"blocks": blocks, "ratio": row["toxic"] / row["seeming"], "prompts": len(prompts)}


def bound_terms(
    model: Model,
    prompts: Sequence[Prompt],
    kinds: Sequence[str],
    *,
    layer: int,
    top_k: int = 10,
) -> dict[str, float]:
    """The terms of Proposition 1 at a layer with all behind it frozen, as stage one has it: means
    over pairs of a seemingly toxic prompt and a toxic one (`BoundTerms`), as JSON values.

    Raises UserError as `proposition_terms`.
    """
    terms = proposition_terms(model, prompts, layer=layer, top_k=top_k)
    found = np.asarray(kinds)
    block = np.ix_(found == "seeming", found == "toxic")
    by_pair = {name: getattr(terms, name) for name in ("kernel", "features", "remainder", "bound")}
    means = {name: float(pairs[block].mean()) for name, pairs in by_pair.items()}
    return means | {"sensitivity": terms.sensitivity, "slope": terms.slope}


def origin_areas(
    model: Model,
    prompts: Sequence[Prompt],
    records: Sequence[Mapping[str, Any]],
    *,
    layer: int,
    own: str,
    other: str,
    pooling: str = "last",
    folds: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """Areas under the curve of three probes of hidden states, on prompts they have not seen.

    fair: seemingly toxic from toxic prompts, both of the set `own` (XSTest's contrasts). mixed:
    seemingly toxic ones of `own` from toxic ones of `other`, as DCR trains (arXiv 2603.03323).
    origin: toxic prompts of `own` from toxic ones of `other`, which differ in where they come from
    alone. Where `origin` is near `mixed`, a contrast of `mixed` can learn the data set.

    Raises UserError for a set without such prompts, and as `separation`.
    """
    states = prompt_states(model, prompts, layer=layer, pooling=pooling)
    pairs = {
        "fair": ((own, "seeming"), (own, "toxic")),
        "mixed": ((own, "seeming"), (other, "toxic")),
        "origin": ((own, "toxic"), (other, "toxic")),
    }
    found = {}
    for name, (first, second) in pairs.items():
        sides = [(record["source"], record["kind"]) for record in records]
        for source, kind in (first, second):
            if sides.count((source, kind)) < 2:
                raise UserError(f"the probe needs {kind} prompts of {source}; give such a set")
        chosen = [n for n, side in enumerate(sides) if side in (first, second)]
        found[name] = separation(
            states[chosen],
            ["seeming" if sides[n] == first else "toxic" for n in chosen],
            clusters=[records[n]["cluster"] for n in chosen],
            folds=folds,
            seed=seed,
        ).auc
    return found
