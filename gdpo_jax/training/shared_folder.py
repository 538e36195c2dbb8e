"""Whether all processes of a run see the same folder."""

import contextlib
import secrets
import socket
import time
from pathlib import Path

import jax

from gdpo_jax.errors import UserError
from gdpo_jax.training.processes import exchange_bytes, together

__all__ = ["check_shared"]

_PATIENCE = 15.0  # seconds until a file of another machine is seen, as on NFS
_AGAIN = 0.1


def check_shared(folder: Path) -> None:
    """Returns if what process 0 writes into `folder` is there for all; process 0 makes the folder.

    Raises:
        UserError: on all processes; names one whose folder is another one, and its machine.
    """
    if jax.process_count() == 1:
        return
    token = secrets.token_hex(8).encode()
    [token, *_] = exchange_bytes(token, len(token))
    probe = folder / f".shared-{token.decode()}"

    def write() -> None:
        if jax.process_index() == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                probe.touch()
            except OSError as error:
                raise UserError(f"{folder} cannot be written: {error.strerror}") from error

    def look() -> None:
        deadline = time.monotonic() + _PATIENCE
        while not probe.exists():
            if time.monotonic() > deadline:
                raise UserError(
                    f"{folder.absolute()} on {socket.gethostname()} (process "
                    f"{jax.process_index()}) is not the folder of process 0: each process has one "
                    "of its own. All write their part of a checkpoint into one folder; give all of "
                    "them the same one on a disk that all machines see (NFS, Filestore, Lustre, "
                    "a mounted bucket)"
                )
            # Some network file systems look again only when the folder is listed.
            with contextlib.suppress(FileNotFoundError):
                next(folder.iterdir(), None)
            time.sleep(_AGAIN)

    together(write)
    try:
        together(look)
    finally:
        if jax.process_index() == 0:
            probe.unlink(missing_ok=True)
