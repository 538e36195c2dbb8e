"""From outputs of any system to numbers: which text answers which record, oracles, baselines."""
