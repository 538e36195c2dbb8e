"""How `pytest --jaxtyping-packages=...,typechecker.checked` checks annotations (BUILD.md)."""

from beartype import BeartypeConf, beartype

# An int is a float, as type checkers have it (PEP 484).
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
