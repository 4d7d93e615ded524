"""Contextual bandit: one ridge regression per arm and an upper confidence bound on its answer."""

cimport cython
cimport numpy as cnp
from libc.math cimport isfinite, sqrt
from libc.stdlib cimport calloc, free

import numpy as np

cnp.import_array()


cdef inline void times_symmetric(
    const double* matrix, const double* vector, double* product, int size
) noexcept nogil:
    cdef int row, column
    cdef double weight
    cdef const double* line
    for row in range(size):
        product[row] = 0.0
    for column in range(size):
        weight = vector[column]
        line = &matrix[column * size]
        for row in range(size):
            product[row] += line[row] * weight


cdef inline double dot(const double* left, const double* right, int size) noexcept nogil:
    cdef int index
    cdef double total = 0.0
    for index in range(size):
        total += left[index] * right[index]
    return total


@cython.final
@cython.auto_pickle(False)
cdef class LinUcb:
    """Disjoint LinUCB.

    Parameters
    ----------
    arm_count : int
        1 to 4,096.
    context_size : int
        1 to 256; `context_size` numbers describe an arm at a decision.
    alpha : float
        Width of the confidence bound; 0 is greedy.
    ridge : float
        Prior strength: A starts as ``ridge * I``.

    Notes
    -----
    After any sequence of updates ``theta(arm)`` equals the ridge regression of that arm's rewards on
    its contexts. Source: Li et al., "A contextual-bandit approach to personalized news article
    recommendation", WWW 2010.
    """

    def __cinit__(self, int arm_count, int context_size, *, double alpha=1.0, double ridge=1.0):
        cdef int arm, index
        if not 1 <= arm_count <= 4096:
            raise ValueError(f"arm_count must be 1 to 4096, was {arm_count}")
        if not 1 <= context_size <= 256:
            raise ValueError(f"context_size must be 1 to 256, was {context_size}")
        if not (isfinite(alpha) and alpha >= 0.0):
            raise ValueError(f"alpha must be finite and not negative, was {alpha}")
        if not (isfinite(ridge) and ridge > 0.0 and isfinite(1.0 / ridge)):
            raise ValueError(f"ridge must be finite and positive, as must be its inverse, was {ridge}")
        self.arm_count = arm_count
        self.context_size = context_size
        self.alpha = alpha
        self.ridge = ridge
        self.inverse = <double*>calloc(<size_t>arm_count * context_size * context_size, sizeof(double))
        self.theta = <double*>calloc(<size_t>arm_count * context_size, sizeof(double))
        self.scratch = <double*>calloc(context_size, sizeof(double))
        if self.inverse == NULL or self.theta == NULL or self.scratch == NULL:
            raise MemoryError("LinUcb")
        for arm in range(arm_count):
            for index in range(context_size):
                self.inverse[(arm * context_size + index) * context_size + index] = 1.0 / ridge

    def __dealloc__(self):
        free(self.inverse)
        free(self.theta)
        free(self.scratch)

    cdef double score(self, int arm, const double* context) noexcept nogil:
        cdef int size = self.context_size
        cdef double spread
        times_symmetric(&self.inverse[arm * size * size], context, self.scratch, size)
        spread = dot(context, self.scratch, size)
        # Rounding can leave a tiny negative number where the exact value is tiny and positive.
        spread = sqrt(spread if spread > 0.0 else 0.0)
        return dot(&self.theta[arm * size], context, size) + self.alpha * spread

    cdef int select(self, const double* contexts, size_t stride, double* best_score) noexcept nogil:
        """Return the arm with the highest bound; the lowest index wins a tie."""
        cdef int arm, best = 0
        cdef double value
        for arm in range(self.arm_count):
            value = self.score(arm, <const double*>(<const char*>contexts + arm * stride))
            if arm == 0 or value > best_score[0]:
                best_score[0] = value
                best = arm
        return best

    cdef void learn(self, int arm, const double* context, double reward) noexcept nogil:
        cdef int size = self.context_size, row, column
        cdef double* inverse = &self.inverse[arm * size * size]
        cdef double* theta = &self.theta[arm * size]
        cdef double* v = self.scratch
        cdef double shrink, error, weight
        times_symmetric(inverse, context, v, size)
        shrink = 1.0 / (1.0 + dot(context, v, size))
        error = (reward - dot(theta, context, size)) * shrink
        for row in range(size):
            theta[row] += v[row] * error
        for column in range(size):
            weight = v[column] * shrink
            for row in range(size):
                inverse[column * size + row] -= v[row] * weight
        self.updates += 1

    def scores(self, contexts):
        """Return each arm's upper confidence bound, shape (arm_count,).

        Parameters
        ----------
        contexts : array, shape (arm_count, context_size) or (context_size,)
            One context per arm, or one shared by all.
        """
        cdef double[:, ::1] rows = self._rows(contexts)
        cdef cnp.ndarray out = np.empty(self.arm_count)
        cdef double* values = <double*>cnp.PyArray_DATA(out)
        cdef int arm
        for arm in range(self.arm_count):
            values[arm] = self.score(arm, &rows[arm, 0])
        return out

    def pull(self, contexts):
        """Return the arm to play; see `scores` for the argument."""
        cdef double[:, ::1] rows = self._rows(contexts)
        cdef double value = 0.0
        cdef int arm
        with nogil:
            arm = self.select(&rows[0, 0], self.context_size * sizeof(double), &value)
        return arm

    def update(self, int arm, context, double reward):
        """Learn that `arm`, played at `context` (context_size,), earned `reward`."""
        cdef double[::1] row = np.ascontiguousarray(context, dtype=np.float64)
        if not 0 <= arm < self.arm_count:
            raise ValueError(f"arm must be below {self.arm_count}, was {arm}")
        if row.shape[0] != self.context_size:
            raise ValueError(f"context must have {self.context_size} numbers, had {row.shape[0]}")
        if not (np.isfinite(reward) and np.isfinite(row).all()):
            raise ValueError("context and reward must be finite")
        with nogil:
            self.learn(arm, &row[0], reward)

    def _rows(self, contexts):
        rows = np.ascontiguousarray(contexts, dtype=np.float64)
        if rows.ndim == 1:
            rows = np.ascontiguousarray(np.broadcast_to(rows, (self.arm_count, rows.shape[0])))
        if rows.shape != (self.arm_count, self.context_size):
            raise ValueError(
                f"contexts must have shape ({self.arm_count}, {self.context_size}), was {rows.shape}"
            )
        return rows

    def coefficients(self, int arm):
        """Return theta of `arm`, shape (context_size,)."""
        if not 0 <= arm < self.arm_count:
            raise ValueError(f"arm must be below {self.arm_count}, was {arm}")
        return np.array(<double[:self.context_size]>&self.theta[arm * self.context_size])
