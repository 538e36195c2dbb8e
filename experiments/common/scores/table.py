"""Values per item: one row for each item that was scored, one column for each metric."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gdpo_jax.errors import UserError


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """One row per item.

    `values` maps a metric to float64 [rows], NaN where it does not apply; `groups` maps a way to
    split to the label of every row; rows with one entry of `clusters` (a prompt, a user) are not
    independent of each other. Raises UserError for a column that is not one entry per row.
    """

    ids: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    groups: Mapping[str, tuple[str, ...]]
    clusters: tuple[str, ...]

    def __post_init__(self):
        columns = {**self.values, **self.groups, "clusters": self.clusters}
        for name, column in columns.items():
            if len(column) != len(self.ids):
                raise UserError(f"{name!r} has {len(column)} entries for {len(self.ids)} items")

    def __len__(self) -> int:
        return len(self.ids)

    def means(self) -> dict[str, float]:
        """The mean of every metric over the items it applies to."""
        return {name: nan_mean(column) for name, column in self.values.items()}

    def rows(self, keep: Sequence[int]) -> "Table":
        """The table of the rows with these positions."""
        return Table(
            ids=tuple(self.ids[i] for i in keep),
            values={name: column[list(keep)] for name, column in self.values.items()},
            groups={name: tuple(labels[i] for i in keep) for name, labels in self.groups.items()},
            clusters=tuple(self.clusters[i] for i in keep),
        )

    def split(self, group: str) -> dict[str, "Table"]:
        """One table per label of `group`, in order of label. Raises UserError for no such group."""
        if group not in self.groups:
            raise UserError(f"no split {group!r}; legal: {', '.join(self.groups) or '(none)'}")
        members: dict[str, list[int]] = {}
        for row, label in enumerate(self.groups[group]):
            members.setdefault(label, []).append(row)
        return {label: self.rows(members[label]) for label in sorted(members)}


def nan_mean(column: np.ndarray) -> float:
    """The mean of the entries that are not NaN; NaN if there is none."""
    known = column[~np.isnan(column)]
    return float(known.mean()) if known.size else math.nan


def pool_seeds(tables: Mapping[int, Table]) -> Table:
    """The rows of all seeds under one another, each id behind its seed.

    An item answered by several seeds stays in one cluster, so it is drawn with all its answers;
    intervals then speak of new items, not of new seeds. Metrics and groups are those that all seeds
    have. Raises UserError if the seeds were scored on different items.
    """
    (first_seed, first), *others = tables.items()
    for seed, table in others:
        if table.ids != first.ids:
            raise UserError(
                f"seed {seed} and seed {first_seed} were scored on different items; score both "
                "again"
            )
    shared = [name for name in first.values if all(name in t.values for t in tables.values())]
    groups = [name for name in first.groups if all(name in t.groups for t in tables.values())]
    return Table(
        ids=tuple(f"{seed}/{name}" for seed, table in tables.items() for name in table.ids),
        values={n: np.concatenate([t.values[n] for t in tables.values()]) for n in shared},
        groups={n: tuple(label for t in tables.values() for label in t.groups[n]) for n in groups},
        clusters=first.clusters * len(tables),
    )


def with_parts(table: Table, group: str, names: Sequence[str]) -> Table:
    """The table with a column "name/label" for every label of `group`: NaN in the other rows.

    `names` are the columns to be split. A table without the group stays as it is.
    """
    values = dict(table.values)
    for label in sorted(set(table.groups.get(group, ()))):
        inside = np.array([other == label for other in table.groups[group]])
        for name in names:
            if name in table.values:
                values[f"{name}/{label}"] = np.where(inside, table.values[name], np.nan)
    return dataclasses.replace(table, values=values)


__all__ = ["Table", "nan_mean", "pool_seeds", "with_parts"]
