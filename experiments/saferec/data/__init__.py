"""Conversations to learn from: builders, stored rows, injected sensitivities, and targets."""
