"""A program of its own: standard input goes to standard error, but for JAX's dumps of C++ stacks.

JAX says on several lines and with a stack that it ends a process because another one is gone; one
message stands in place of these. All other lines pass as they come. Nothing is imported but the
standard library, since every process of a run starts one.
"""

import os
import re
import select
import sys
import time

# "E1129 21:43:01.193790 3123 coordination_service_agent.cc:289] Polled an error ..."
_NOTICE = re.compile(rb"E\d{4} [\d:.]+\s+\d+ coordination_service\w*\.cc:\d+\] ")
_END = re.compile(rb"F\d{4} [\d:.]+\s+\d+ [\w.]+:\d+\] Terminating process because the JAX distr")
_HELD = 2.0  # seconds in which the end follows its notice
_MESSAGE = (
    b"error: JAX has ended this process: another process of the run is gone or does not answer, "
    b"and its own messages say why. Start all processes again with the same command; the run goes "
    b"on after its last checkpoint\n"
)


def main() -> None:
    """Reads until all that writes has ended."""
    rest, held, deadline, said, ended = b"", b"", 0.0, False, False
    while True:
        waiting = [max(deadline - time.monotonic(), 0.0)] if held else []
        if not select.select([0], [], [], *waiting)[0]:
            # It was a notice alone.
            held = _show(held)
            continue
        block = os.read(0, 65536)
        *lines, rest = (rest + block).splitlines(keepends=True) or [b""]
        if not block or rest.endswith(b"\n"):
            lines, rest = [*lines, rest], b""
        for line in lines:
            said = said or line.startswith(b"error: ")
            if ended:
                continue
            if _END.match(line):
                # What this process found out by itself says more.
                own = [one for one in held.splitlines(keepends=True) if one.startswith(b"error: ")]
                ended, held = True, _show(b"".join(own) if said else _MESSAGE)
            elif held or _NOTICE.match(line):
                deadline = deadline if held else time.monotonic() + _HELD
                held += line
            else:
                _show(line)
        if held and time.monotonic() > deadline:
            held = _show(held)
        if not block:
            _show(held)
            return


def _show(text: bytes) -> bytes:
    """Write all of `text`; returns nothing left."""
    while text:
        text = text[os.write(2, text) :]
    return b""


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        sys.exit(1)
