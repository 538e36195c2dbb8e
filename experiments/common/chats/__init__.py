"""Conversations with a model: a policy of gdpo_jax or an endpoint, and a cache of its answers."""
