"""Group reward-decoupled policy optimization as pure functions (GDPO, arXiv 2601.05242).

The rooms, from the ground floor up: `advantages` and `objectives` (arrays only), `policies` and
`data`, `rollouts`, `training`. A module imports from lower floors only, and
`experiments` stands on top.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
