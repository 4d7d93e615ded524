"""The memory under a ring, on the heap or shared between processes, and who holds which role."""

from libc.stdint cimport uint32_t

from .ring cimport Ring, RingBlock, RingIdentity


cdef class RingMemory:
    cdef RingIdentity identity      # our copy, checked; what stands in the block is never trusted again
    cdef RingBlock* block           # owned: freed or unmapped in __dealloc__
    cdef int descriptor             # -1 on the heap
    cdef readonly str name          # None on the heap
    cdef readonly object dtype

    cdef int take_role(self, uint32_t role, str title) except -1
    cdef void reap(self) noexcept
    cdef bint is_held(self, uint32_t role)


cdef uint32_t consumer_role(uint32_t consumer) noexcept nogil
cdef RingMemory memory_create(
    int kind, Py_ssize_t capacity, object dtype, dict options, uint32_t lane_count, uint32_t consumer_count
)
cdef RingMemory memory_attach(int kind, str name, object dtype)
cdef int memory_reopen(RingMemory memory) except? -2
cdef Ring* handle_open(RingMemory memory, uint32_t lane, uint32_t consumer) except NULL
