"""DCR: can a model learn to tell toxic prompts from those that only look it, before tuning?"""
