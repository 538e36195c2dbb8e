"""Records to batches: shuffled, sharded over processes, resumable to the exact record."""

from gdpo_jax.data.padding import bucket_for, pad_right
from gdpo_jax.data.pipeline import RecordIterator, record_batches

__all__ = ["RecordIterator", "bucket_for", "pad_right", "record_batches"]
