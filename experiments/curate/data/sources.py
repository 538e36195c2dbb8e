"""Cases by the name of their source: the embedded rows, or a folder of published workbooks."""

from collections.abc import Sequence
from pathlib import Path

from experiments.curate.data.ablations import ABLATIONS
from experiments.curate.data.build_cases import CONTROL, build_cases, check_names
from experiments.curate.data.cases import Case
from experiments.curate.data.construction import CURATE, Construction
from experiments.curate.data.own import own_tables
from experiments.curate.data.scenarios import SCENARIOS
from experiments.curate.data.workbooks import read_workbooks

__all__ = ["OWN", "open_cases"]

OWN = "own"


def open_cases(
    source: str | Path = OWN,
    scenarios: Sequence[str] = SCENARIOS,
    *,
    limit: int | None = None,
    seed: int = 0,
    construction: Construction = CURATE,
) -> list[Case]:
    """The cases of "own" rows or of a folder of published workbooks, scenario by scenario.

    limit: at most so many rows of each scenario, the same for all scenarios, balanced over
    categories. seed: of the draws and of the rows. Raises UserError as `read_workbooks` and
    `build_cases`; unknown names before any file is read.
    """
    check_names(scenarios)
    if source == OWN:
        tables = own_tables()
    else:
        ablations = any(name.removesuffix(CONTROL) in ABLATIONS for name in scenarios)
        tables = read_workbooks(Path(source), ablations=ablations)
    return build_cases(tables, scenarios, construction=construction, seed=seed, limit=limit)
