"""What one core of this machine can do at most: read memory in order, chase links, read the clock.

Benchmarks run these beside their scenarios, so that a figure can be read against the machine that it was
taken on. Nothing here waits for another core; that limit stands in `ext/ring_probe.pyx`.
"""

cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t

import numpy as np

from .layout cimport monotonic_ns

cnp.import_array()


def read_stream(const uint64_t[::1] words not None):
    """Read every word once, in order.

    Parameters
    ----------
    words : array of uint64, shape (n,)
        n is a multiple of 8; much larger than the cache to reach memory.

    Returns
    -------
    took_ns : int
    total : int
        Sum of the words modulo 2**64, so that no compiler can leave the reads out.
    """
    cdef Py_ssize_t index, count = words.shape[0]
    cdef uint64_t first = 0, second = 0, third = 0, fourth = 0
    cdef int64_t begun_ns
    if count == 0 or count % 8:
        raise ValueError(f"words come in whole cache lines of 8, was {count}")
    begun_ns = monotonic_ns()
    with nogil:
        # Four sums: one alone would wait for its own addition, not for memory.
        for index in range(0, count, 8):
            first += words[index] + words[index + 4]
            second += words[index + 1] + words[index + 5]
            third += words[index + 2] + words[index + 6]
            fourth += words[index + 3] + words[index + 7]
    return monotonic_ns() - begun_ns, first + second + third + fourth


def chase_links(const int64_t[::1] links not None, Py_ssize_t steps):
    """Follow links one after another, each read waiting for the one before.

    Parameters
    ----------
    links : array of int64, shape (n,)
        links[i] is the next index; all within 0 to n - 1.
    steps : int

    Returns
    -------
    took_ns : int
    place : int
        Where the last step arrived.
    """
    cdef Py_ssize_t _step
    cdef int64_t place = 0, begun_ns
    found = np.asarray(links)
    if not len(found) or found.min() < 0 or found.max() >= len(found):
        raise ValueError("links stay within their array")
    begun_ns = monotonic_ns()
    with nogil:
        for _step in range(steps):
            place = links[place]
    return monotonic_ns() - begun_ns, place


def read_clock(Py_ssize_t count):
    """Read the monotonic clock `count` times; return the ns that all of it took."""
    cdef Py_ssize_t _index
    cdef int64_t begun_ns = monotonic_ns(), last_ns = begun_ns
    with nogil:
        for _index in range(count):
            last_ns = monotonic_ns()
    return last_ns - begun_ns
