"""The base of all forecasts, and the one that enters the interpreter for each."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.string cimport memcpy

from ext.layout cimport monotonic_ns

import numpy as np

cnp.import_array()


@cython.auto_pickle(False)
cdef class SignalSource:
    """No model: the forecast is 0.

    A source is used by one thread at a time.
    """

    cdef float signal(self, const float* features) noexcept nogil:
        return 0.0

    def forecast(self, cnp.ndarray features not None):
        """Return the forecast for one row, as the loop would get it.

        Parameters
        ----------
        features : array of float32, shape (feature_count,)
        """
        check_rows(self, features, 1)
        return self.signal(<const float*>cnp.PyArray_DATA(features))

    def measure(self, cnp.ndarray rows not None, Py_ssize_t count):
        """Time single forecasts from compiled code, back to back, in ns.

        Parameters
        ----------
        rows : array of float32, shape (n, feature_count)
            Taken in turns.
        count : int
            Timed calls.

        Returns
        -------
        array of int64, shape (2, count)
            The calls, and the same clock read around nothing.
        """
        cdef Py_ssize_t call, row = 0, row_count = check_rows(self, rows, 2)
        cdef const float* features = <const float*>cnp.PyArray_DATA(rows)
        cdef Py_ssize_t stride = cnp.PyArray_SIZE(rows) // row_count
        cdef cnp.ndarray taken = np.empty((2, count), dtype=np.int64)
        cdef int64_t* ns = <int64_t*>cnp.PyArray_DATA(taken)
        cdef int64_t begun
        with nogil:
            for call in range(count):
                begun = monotonic_ns()
                self.signal(features + row * stride)
                ns[call] = monotonic_ns() - begun
                row = row + 1 if row + 1 < row_count else 0
            for call in range(count):
                begun = monotonic_ns()
                ns[count + call] = monotonic_ns() - begun
        return taken


@cython.final
@cython.auto_pickle(False)
cdef class SessionSignal(SignalSource):
    """The forecast of any inference session, called with the GIL once per decision.

    Parameters
    ----------
    session : engine.inference.session.InferenceSession
        Anything with its `row_shape` and `signal`.

    Notes
    -----
    An exception stops the run: it is kept in `error`, and the forecast is 0 from then on.
    """

    cdef object session
    cdef object inputs
    cdef readonly object error

    def __init__(self, session):
        self.session = session
        self.inputs = np.zeros(session.row_shape, dtype=np.float32)
        self.feature_count = self.inputs.size
        self.error = None

    cdef float signal(self, const float* features) noexcept nogil:
        cdef float value = 0.0
        with gil:
            if self.error is None:
                try:
                    memcpy(cnp.PyArray_DATA(self.inputs), features, self.feature_count * sizeof(float))
                    value = self.session.signal(self.inputs)
                except Exception as error:
                    self.error = error
        return value


cdef Py_ssize_t check_rows(SignalSource source, cnp.ndarray rows, int dimensions) except -1:
    """Return how many rows there are; refuse what is not contiguous float32 of the source's width."""
    width = source.feature_count or (rows.shape[dimensions - 1] if rows.ndim == dimensions else 0)
    if (
        rows.ndim != dimensions or rows.dtype != np.float32 or not cnp.PyArray_IS_C_CONTIGUOUS(rows)
        or rows.shape[dimensions - 1] != width or rows.size == 0
    ):
        expected = (width,) if dimensions == 1 else ("n", width)
        shape = (<object>rows).shape
        raise ValueError(
            f"features must be contiguous float32 of shape {expected}, was {rows.dtype}{shape}"
        )
    return rows.size // width
