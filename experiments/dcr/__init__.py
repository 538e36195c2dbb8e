"""DCR: contrastive refinement before safety tuning, against over-refusal (arXiv 2603.03323)."""
