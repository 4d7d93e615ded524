"""Disjoint LinUCB (Li, Chu, Langford & Schapire 2010, algorithm 1) without a matrix inverse.

Each arm keeps A^-1 and theta. Scoring computes v = A^-1 x and q = x'v; when the arm is rewarded the
same two give the Sherman-Morrison update, so a step costs one matrix-vector product and one rank-1
update. A^-1 is symmetric, so v is summed column by column: lanes stay independent, the order of
additions is fixed, and every SIMD width gives the same bits.
"""

from libc.stdint cimport uint64_t


cdef class LinUcb:
    cdef readonly int arm_count
    cdef readonly int context_size
    cdef readonly double alpha
    cdef readonly double ridge
    cdef readonly uint64_t updates
    cdef double* inverse        # owned; [arm][context][context], symmetric
    cdef double* theta          # owned; [arm][context]
    cdef double* scratch        # owned; [context]

    cdef double score(self, int arm, const double* context) noexcept nogil
    cdef int select(self, const double* contexts, size_t stride, double* best_score) noexcept nogil
    cdef void learn(self, int arm, const double* context, double reward) noexcept nogil
