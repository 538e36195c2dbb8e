"""Several short groups in one row: which row, prompt area and bin each prompt and completion gets.

A packed row has the form of a shared row, `[ prompt area | bin 1 | ... | bin N ]`, but several
prompts stand behind one another in the area, and several completions in a bin, each behind a prompt
of its own row. Long completions get a bin each, short ones share it, so the blocks of scores that
are computed stay few.

Planning runs on the host over token counts and is deterministic. Groups are packed within a cell,
the groups that one device holds in one micro-batch, so that no token moves between devices. In the
shape descriptions: `M` cells of `b` groups, `r` rows a cell, `A` prompt tokens and `N` bins of `W`
tokens a row.
"""

from collections.abc import Sequence
from typing import NamedTuple

import chex
import numpy as np
from jaxtyping import Array, Int

AnyArray = Array | np.ndarray

NO_PROMPT, NO_COMPLETION = -1, -2  # different, so that padding sees no padding
IMPOSSIBLE = 2**30  # rows of a shape that does not hold some group


class RowShape(NamedTuple):
    """Size of one packed row: prompt tokens, and bins of so many completion tokens each."""

    prompt_tokens: int
    bins: int
    bin_tokens: int

    @property
    def tokens(self) -> int:
        """Tokens that a row computes."""
        return self.prompt_tokens + self.bins * self.bin_tokens


@chex.dataclass(frozen=True)
class PackedGroups:
    """Packed rows, and where to find the log-prob of every completion token.

    prompts, completions: tokens. positions as in a row of its own. prompt_group, completion_group:
    which group of its row a token belongs to. completion_start: the slot of its bin where its
    completion begins. predictors: the slot of the row whose hidden state predicts the token.
    places: of each completion token among the `r * N * W` of its cell.
    """

    prompts: Int[AnyArray, "M r A"]
    prompt_positions: Int[AnyArray, "M r A"]
    prompt_group: Int[AnyArray, "M r A"]
    completions: Int[AnyArray, "M r N W"]
    completion_positions: Int[AnyArray, "M r N W"]
    completion_group: Int[AnyArray, "M r N W"]
    completion_start: Int[AnyArray, "M r N W"]
    predictors: Int[AnyArray, "M r N W"]
    places: Int[AnyArray, "B G C"]


class Placement(NamedTuple):
    """Of one cell's groups: row and first slot of the prompt, bin and first slot of completions."""

    rows: int
    row: Sequence[int]
    prompt_start: Sequence[int]
    bin: Sequence[Sequence[int]]
    start: Sequence[Sequence[int]]


def row_shapes(prompt_size: int, num_samples: int, length: int) -> list[RowShape]:
    """The few shapes that packed rows may take, so that few programs compile.

    Prompt areas of one, two or four prompt widths; bins for a quarter of a group to two groups.
    """
    quarter, half, whole = (-(-num_samples // part) for part in (4, 2, 1))
    pairs = [(1, quarter), (1, half), (2, half), (1, whole), (2, whole), (4, whole)]
    pairs.append((1, 2 * num_samples))
    shapes = [RowShape(areas * prompt_size, bins, length) for areas, bins in pairs]
    return list(dict.fromkeys(shapes))


def place_groups(
    prompt_lengths: Sequence[int],
    lengths: Sequence[Sequence[int]],
    shape: RowShape,
    *,
    max_rows: int,
) -> Placement | None:
    """First fit, groups by falling size and completions by falling length.

    None if a group does not fit a row, or if more than `max_rows` rows are needed.
    """
    count = len(prompt_lengths)
    sizes = [prompt_lengths[g] + sum(lengths[g]) for g in range(count)]
    row, prompt_start = [0] * count, [0] * count
    bins: list[Sequence[int]] = [()] * count
    starts: list[Sequence[int]] = [()] * count
    filled: list[list[int]] = []  # of each row: prompt tokens, then the tokens of each bin
    for g in sorted(range(count), key=lambda g: -sizes[g]):
        for index in range(max_rows):
            fresh = index == len(filled)
            fill = [0] * (1 + shape.bins) if fresh else filled[index]
            placed = None
            if fill[0] + prompt_lengths[g] <= shape.prompt_tokens:
                placed = _fill_bins(fill[1:], lengths[g], shape.bin_tokens)
            if placed is not None:
                row[g], prompt_start[g] = index, fill[0]
                bins[g], starts[g], levels = placed
                filled[index:] = [[fill[0] + prompt_lengths[g], *levels], *filled[index + 1 :]]
                break
            if fresh:
                return None
        else:
            return None
    return Placement(max(len(filled), 1), row, prompt_start, bins, starts)


def _fill_bins(
    levels: list[int], lengths: Sequence[int], size: int
) -> tuple[list[int], list[int], list[int]] | None:
    """Bin and first slot of each completion, and the new levels; None if they do not fit."""
    bins, starts = [0] * len(lengths), [0] * len(lengths)
    for sample in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        for index, level in enumerate(levels):
            if level + lengths[sample] <= size:
                bins[sample], starts[sample] = index, level
                levels[index] = level + lengths[sample]
                break
        else:
            return None
    return bins, starts, levels


def rows_needed(
    prompt_lengths: Int[np.ndarray, "M b"],
    lengths: Int[np.ndarray, "M b G"],
    shape: RowShape,
    *,
    max_tokens: int,
) -> int:
    """The most rows that any cell needs; IMPOSSIBLE if one does not fit `max_tokens` tokens."""
    placements = [
        place_groups(prompt, own, shape, max_rows=max_tokens // shape.tokens)
        for prompt, own in zip(prompt_lengths.tolist(), lengths.tolist())
    ]
    return max(IMPOSSIBLE if placed is None else placed.rows for placed in placements)


def round_rows(rows: int) -> int:
    """`rows` or a little more: 1, 2, 3, 4, 6, 8, 12, ..., so that few programs compile."""
    power = 1 << max(rows - 1, 0).bit_length()
    return power * 3 // 4 if power >= 4 and rows <= power * 3 // 4 else power


def pack_groups(
    prompts: Int[np.ndarray, "M b P"],
    prompt_lengths: Int[np.ndarray, "M b"],
    completions: Int[np.ndarray, "M b G C"],
    lengths: Int[np.ndarray, "M b G"],
    shape: RowShape,
    *,
    rows: int,
    pad_id: int,
) -> PackedGroups:
    """The groups of every cell in `rows` rows of that shape; `places` is [M, b, G, C] still.

    Raises ValueError if they do not fit.
    """
    cells = prompts.shape[0]
    area = (cells, rows, shape.prompt_tokens)
    bins = (cells, rows, shape.bins, shape.bin_tokens)
    packed = PackedGroups(
        prompts=np.full(area, pad_id, np.int32),
        prompt_positions=np.zeros(area, np.int32),
        prompt_group=np.full(area, NO_PROMPT, np.int32),
        completions=np.full(bins, pad_id, np.int32),
        completion_positions=np.zeros(bins, np.int32),
        completion_group=np.full(bins, NO_COMPLETION, np.int32),
        completion_start=np.full(bins, -1, np.int32),
        predictors=np.zeros(bins, np.int32),
        places=np.zeros(completions.shape, np.int32),
    )
    for m in range(cells):
        sizes, widths = prompt_lengths[m].tolist(), lengths[m].tolist()
        placed = place_groups(sizes, widths, shape, max_rows=rows)
        if placed is None:
            raise ValueError(f"{len(sizes)} groups do not fit {rows} rows of {shape}")
        for g, (row, start, size) in enumerate(zip(placed.row, placed.prompt_start, sizes)):
            at = (m, row, slice(start, start + size))
            packed.prompts[at] = prompts[m, g, :size]
            packed.prompt_positions[at] = np.arange(size)
            packed.prompt_group[at] = g
            for i, (bin_, first, width) in enumerate(
                zip(placed.bin[g], placed.start[g], widths[g])
            ):
                at = (m, row, bin_, slice(first, first + width))
                slots = np.arange(width)
                behind = bin_ * shape.bin_tokens + first + slots
                packed.completions[at] = completions[m, g, i, :width]
                packed.completion_positions[at] = size + slots
                packed.completion_group[at] = g
                packed.completion_start[at] = first
                packed.predictors[at] = shape.prompt_tokens + behind - 1
                packed.predictors[m, row, bin_, first : first + min(width, 1)] = start + size - 1
                packed.places[m, g, i, :width] = row * shape.bins * shape.bin_tokens + behind
    return packed
