"""Records from files, and records to batches: shuffled, sharded over processes, resumable to the
exact record.
"""

from gdpo_jax.data.balanced import balanced_batches
from gdpo_jax.data.digests import records_digest
from gdpo_jax.data.files import read_records, require_fields
from gdpo_jax.data.padding import bucket_for, pad_right
from gdpo_jax.data.pipeline import RecordIterator, record_batches
from gdpo_jax.data.user_batches import user_batches, user_slots

__all__ = [
    "RecordIterator",
    "balanced_batches",
    "bucket_for",
    "pad_right",
    "read_records",
    "record_batches",
    "records_digest",
    "require_fields",
    "user_batches",
    "user_slots",
]
