"""Refusing a second thread: for objects that work without the GIL and keep no lock.

`busy` is set and read with the GIL held, so a plain flag is enough.
"""


cdef inline int refuse_busy(bint busy, str what) except -1:
    if busy:
        raise RuntimeError(f"the {what} is at work in another thread")
    return 0
