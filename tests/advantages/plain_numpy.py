"""The estimators once more, in float64 NumPy with loops, written from their formulas alone.

Values are `[B, G, K, R]` with NaN for what is missing; sums are `[B, G, R]`.
"""

import itertools

import numpy as np


def places(values):
    """All (group, rank) pairs."""
    return itertools.product(range(values.shape[0]), range(values.shape[-1]))


def is_live(column):
    present = column[~np.isnan(column)]
    return len(present) > 1 and present.max() > present.min()


def z_scores(values, *, eps=0.0, ddof=1):
    out = np.where(np.isnan(values), np.nan, 0.0)
    for (b, r), k in itertools.product(places(values), range(values.shape[2])):
        column = values[b, :, k, r]
        if is_live(column):
            sd = np.nanstd(column, ddof=ddof)
            out[b, :, k, r] = (column - np.nanmean(column)) / (sd + eps)
    return out


def leave_one_out_z(values, *, eps):
    """NeMo-RL: mean and sd of the other members; unscaled where the others are equal."""
    out = np.where(np.isnan(values), np.nan, 0.0)
    for (b, r), k in itertools.product(places(values), range(values.shape[2])):
        column = values[b, :, k, r]
        if not is_live(column):
            continue
        for g in np.flatnonzero(~np.isnan(column)):
            others = np.delete(column, g)
            others = others[~np.isnan(others)]
            scale = others.std(ddof=1) + eps if is_live(others) else 1.0
            out[b, g, k, r] = (column[g] - others.mean()) / scale
    return out


def weighted_sum(terms, weights=1.0):
    weights = np.broadcast_to(weights, terms.shape[2])[None, None, :, None]
    total = np.nansum(terms * weights, axis=2)
    return np.where(np.isnan(terms).all(axis=2), np.nan, total)


def filled(values):
    """A missing reward is the mean of its group, unless the sample has no reward at all."""
    out = values.copy()
    for (b, r), k in itertools.product(places(values), range(values.shape[2])):
        column = values[b, :, k, r]
        some = ~np.isnan(values[b, :, :, r]).all(axis=1)
        if not np.isnan(column).all():
            out[b, np.isnan(column) & some, k, r] = np.nanmean(column)
    return out


def leave_one_out_each(values):
    """Every reward against the other samples that have it."""
    columns = [leave_one_out(values[:, :, k]) for k in range(values.shape[2])]
    return np.stack(columns, axis=2)


def centre(sums):
    """Each sum minus the mean of its group; 0 for a group of one."""
    out = np.where(np.isnan(sums), np.nan, 0.0)
    for b, r in places(sums):
        column = sums[b, :, r]
        if is_live(column):
            out[b, :, r] = column - np.nanmean(column)
    return out


def counts(sums):
    return np.sum(~np.isnan(sums), axis=1, keepdims=True)


def leave_one_out(sums):
    n = counts(sums)
    return centre(sums) * n / np.maximum(n - 1, 1)


def normalise(sums, eps=0.0):
    return z_scores(sums[:, :, None, :], eps=eps)[:, :, 0]


def whiten(sums, *, eps=0.0, variance_eps=0.0, lengths=None):
    """Over all valid sums, once per token if lengths are given."""
    valid = ~np.isnan(sums)
    times = np.ones(sums.shape) if lengths is None else np.broadcast_to(lengths, sums.shape)
    votes = np.repeat(sums[valid], times[valid].astype(int))
    if len(votes) < 2 or votes.max() == votes.min():
        return np.where(valid, 0.0, np.nan)
    return (sums - votes.mean()) / (np.sqrt(votes.var(ddof=1) + variance_eps) + eps)


def condition(values, target, judge, at_least, otherwise):
    out = values.copy()
    met = values[:, :, judge] >= at_least
    failed = 0.0 if otherwise == "zero" else np.nan
    missing = np.isnan(values[:, :, target])
    out[:, :, target] = np.where(met, values[:, :, target], np.where(missing, np.nan, failed))
    out[:, :, target][np.isnan(values[:, :, judge])] = np.nan
    return out


def gd2po(values, weights, *, mode, tau=0.2, keep_ratio=True, lengths=None):
    z = z_scores(values) * np.asarray(weights)[None, None, :, None]
    conflict = (z > 1e-8).any(axis=2) & (z < -1e-8).any(axis=2)
    if mode == "snr":
        rho = np.nansum(z, axis=2) / (np.nansum(np.abs(z), axis=2) + 1e-8)
        conflict &= np.abs(rho) < tau
    sums = weighted_sum(z)
    present = counts(sums)
    sums = np.where(conflict, np.nan, sums)
    if keep_ratio:
        sums = sums * counts(sums) / np.maximum(present, 1)
    return whiten(sums, lengths=lengths)


def per_reward(values):
    columns = [values[:, :, k] for k in range(values.shape[2])]
    return (
        np.array([np.nanmean(c) for c in columns]),
        np.array([np.nanstd(c, ddof=1) for c in columns]),
    )


def sa_mrpo(values, weights, bounds, gamma):
    low, high = np.array(bounds, float).T
    saturation = np.clip((per_reward(values)[0] - low) / (high - low), 0, 1)
    return whiten(weighted_sum(z_scores(values), weights * (1 - saturation) ** gamma))


def saw(values, weights):
    mean, sd = per_reward(values)
    variation = sd / (np.abs(mean) + 1e-8)
    share = variation / (variation.sum() + 1e-8)
    return whiten(weighted_sum(z_scores(values), weights * len(weights) * share))


def dvao(values, weights):
    sums = np.where(np.isnan(values).all(axis=2), np.nan, 0.0)
    for b, r in places(values):
        columns = values[b, :, :, r]
        live = [k for k in range(len(weights)) if is_live(columns[:, k])]
        scale = sum(weights[k] * np.nanstd(columns[:, k]) for k in live)
        for k in live:
            centred = columns[:, k] - np.nanmean(columns[:, k])
            sums[b, :, r] += weights[k] * np.nan_to_num(centred) / scale
    return sums


def corr_grpo(values, weights, eps=1e-6):
    sums = np.where(np.isnan(values).all(axis=2), np.nan, 0.0)
    for b, r in places(values):
        columns = values[b, :, :, r] * np.asarray(weights)
        filled = np.array(
            [np.where(np.isnan(c), np.nanmean(c), c) - np.nanmean(c) for c in columns.T]
        )
        live = [k for k in range(len(weights)) if is_live(columns[:, k])]
        total = np.corrcoef(filled[live]).sum() if live else 0.0
        sums[b, :, r] += filled[live].sum(axis=0) / np.sqrt(total + eps)
    return sums


def corpo(sums, threshold):
    mean = np.nanmean(sums, axis=1, keepdims=True)
    return sums - np.maximum(mean, threshold)


def peer(
    values,
    members,
    weights,
    *,
    group_eps=0.0,
    batch_eps=0.0,
    variance_eps=0.0,
    lengths=None,
    missing_is_zero=False,
    empty_row_is_zero=False,
    leave_one_out=False,
    lone_is_raw=False,
    one_reward_is_grpo=False,
):
    """GDPO as a peer runs it; the options are the columns of the table in docs/estimators.md."""
    outside = ~members[:, :, None, None] & np.ones(values.shape, bool)
    if missing_is_zero:
        values = np.where(np.isnan(values), 0.0, values)
    values = np.where(outside, np.nan, values)
    if one_reward_is_grpo and values.shape[2] == 1:
        return np.where(outside[:, :, 0], np.nan, z_scores(values, eps=group_eps)[:, :, 0])
    z_of = leave_one_out_z if leave_one_out else z_scores
    z = z_of(values, eps=group_eps)
    if lone_is_raw:
        alone = np.sum(~np.isnan(values), axis=1, keepdims=True) == 1
        z = np.where(alone, values, z)
    sums = weighted_sum(z, weights)
    if empty_row_is_zero:
        sums = np.where(np.isnan(sums) & members[:, :, None], 0.0, sums)
    return whiten(sums, eps=batch_eps, variance_eps=variance_eps, lengths=lengths)
