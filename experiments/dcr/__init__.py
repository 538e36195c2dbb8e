"""DCR (arXiv 2603.03323): contrastive refinement before alignment, and over-refusal measured."""
