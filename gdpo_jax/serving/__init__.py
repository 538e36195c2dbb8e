"""A trained policy behind OpenAI's protocol, and an engine that samples at such a server."""

from gdpo_jax.serving.engine import ServerEngine, server_engine

__all__ = ["ServerEngine", "server_engine"]
