"""One self-contained page about finished runs.

`report` writes it; a section of it is a function of the runs. Those that take no metric are given
as they are, such as `differences`; the others are made: `trade_off("cost", "quality")`.
"""
