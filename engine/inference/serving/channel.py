"""Messages between a front and the processes that it has copied: a table of JSON each, and open descriptors.

A message arrives whole or not at all. The front's end never waits: neither to send, where a full one raises
`BlockingIOError`, nor to hear.
"""

from __future__ import annotations

import errno
import json
import os
import socket
from array import array
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

_BYTES_MAX: Final = 1 << 18
_RIGHTS_BYTES_MAX: Final = socket.CMSG_SPACE(4 * array("i").itemsize)


class Channel:
    """One end of a pair of sockets."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """Return an end that never waits, and one to give away."""
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        near.setblocking(False)
        return cls(near), cls(far)

    @classmethod
    def of(cls, descriptor: int) -> Channel:
        """Return the end that somebody gave away."""
        end = socket.socket(fileno=descriptor)
        end.setblocking(True)
        return cls(end)

    def fileno(self) -> int:
        """Return its descriptor, -1 when closed."""
        return self._socket.fileno()

    def send(self, table: Mapping[str, Any], *descriptors: int) -> None:
        """Send a message; the descriptors stay open here.

        Raises
        ------
        OSError
            The other end is closed, or the message does not fit.
        """
        text = json.dumps(table).encode()
        # A system set up for large messages would send what the other end then cuts.
        if len(text) > _BYTES_MAX:
            raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))
        # Not by `send_fds` and `recv_fds`, which drop the flags in Python 3.11. Without the one here, a front
        # whose SIGPIPE is as the system sets it would end where the other end has.
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))
        self._socket.sendmsg([text], [rights] if descriptors else [], socket.MSG_NOSIGNAL)

    def receive(self) -> tuple[dict[str, Any], list[int]] | None:
        """Return the next message and its descriptors, None when the other end is closed.

        Raises
        ------
        BlockingIOError
            There is none yet; at the front's end only.
        OSError
            Its descriptors are too many for this process, and it is lost.
        """
        try:
            text, rights, flags, _ = self._socket.recvmsg(
                _BYTES_MAX, _RIGHTS_BYTES_MAX, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionResetError:
            return None
        descriptors = array("i")
        for _, _, data in rights:
            descriptors.frombytes(data)
        if flags & socket.MSG_CTRUNC:
            # What did not come is closed, which whoever waits at its other end sees.
            for descriptor in descriptors:
                os.close(descriptor)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return (json.loads(text), descriptors.tolist()) if text else None

    def finish(self) -> None:
        """Send no more, which the other end hears as a close; this end still hears. Again is harmless."""
        # Not connected any more: the other end is gone, and has no need to hear it.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close this end; again is harmless."""
        self._socket.close()
