"""What the command `attack` has found in a run, read for the page."""

from collections.abc import Mapping
from typing import Any

from experiments.common.files.json_rows import read_json
from experiments.common.report.runs import Run
from experiments.common.scores.results import seed_folders
from experiments.persona_leakage.measures.attacks import ATTACK_FILE
from gdpo_jax.errors import UserError

__all__ = ["Attack", "attacks", "entries"]

Attack = Mapping[str, Any]


def attacks(run: Run) -> list[tuple[int, Attack]]:
    """The attacks of a run by seed. Raises UserError for a damaged file."""
    found = []
    for seed, folder in seed_folders(run.path):
        path = folder / ATTACK_FILE
        if not path.is_file():
            continue
        value = read_json(path)
        if not isinstance(value, dict) or not all(
            isinstance(value.get(name), kind)
            for name, kind in (("about", dict), ("requests", list), ("arms", dict))
        ):
            raise UserError(
                f"{path} is no file of this project; delete it, and run the command `attack` again"
            )
        found.append((seed, value))
    return found


def entries(run: Run) -> dict[str, list[Mapping[str, Any]]]:
    """What was found of each arm, in the order of the page's tables: an entry a seed."""
    found = attacks(run)
    return {
        arm.name: own
        for arm in run.results.arms
        if (own := [attack["arms"][arm.name] for _, attack in found if arm.name in attack["arms"]])
    }
