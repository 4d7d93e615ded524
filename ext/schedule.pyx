"""The loop's agenda."""

cimport cython
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcpy


cdef inline bint before(const DueItem* left, const DueItem* right) noexcept nogil:
    if left.due_ns != right.due_ns:
        return left.due_ns < right.due_ns
    return left.entry < right.entry


@cython.final
@cython.auto_pickle(False)
cdef class Schedule:
    """Items in order of time, equal times in order of entry."""

    def __cinit__(self):
        cdef uint32_t place
        self.capacity = 1024
        self.slab_capacity = 1024
        self.heap = <DueItem*>calloc(self.capacity, sizeof(DueItem))
        self.slab = <Payload*>calloc(self.slab_capacity, sizeof(Payload))
        if self.heap == NULL or self.slab == NULL:
            raise MemoryError("Schedule")
        for place in range(self.slab_capacity):
            self.slab[place].next = place + 1 if place + 1 < self.slab_capacity else NO_PLACE
        self.free_list = 0
        self.next_ns = INT64_MAX

    def __dealloc__(self):
        free(self.heap)
        free(self.slab)

    cdef bint push(self, int64_t due_ns, uint8_t kind, uint64_t tag, uint32_t place) noexcept nogil:
        """Add an item; False when memory is out."""
        cdef uint32_t child, parent
        cdef DueItem item
        cdef void* grown
        if self.count == self.capacity:
            grown = realloc(self.heap, 2 * <size_t>self.capacity * sizeof(DueItem))
            if grown == NULL:
                return False
            self.heap = <DueItem*>grown
            self.capacity *= 2
        item.due_ns = due_ns
        item.entry = self.entries
        item.tag = tag
        item.place = place
        item.kind = kind
        self.entries += 1
        child = self.count
        self.count += 1
        while child > 0:
            parent = (child - 1) >> 1
            if before(&self.heap[parent], &item):
                break
            self.heap[child] = self.heap[parent]
            child = parent
        self.heap[child] = item
        self.next_ns = self.heap[0].due_ns
        return True

    cdef bint push_payload(self, int64_t due_ns, uint8_t kind, const void* payload64) noexcept nogil:
        cdef uint32_t place
        cdef void* grown
        if self.free_list == NO_PLACE:
            grown = realloc(self.slab, 2 * <size_t>self.slab_capacity * sizeof(Payload))
            if grown == NULL:
                return False
            self.slab = <Payload*>grown
            for place in range(self.slab_capacity, 2 * self.slab_capacity):
                self.slab[place].next = place + 1 if place + 1 < 2 * self.slab_capacity else NO_PLACE
            self.free_list = self.slab_capacity
            self.slab_capacity *= 2
        place = self.free_list
        self.free_list = self.slab[place].next
        memcpy(self.slab[place].bytes, payload64, 64)
        return self.push(due_ns, kind, 0, place)

    cdef void pop(self, DueItem* out) noexcept nogil:
        """Take the first item. The caller knows there is one."""
        cdef uint32_t parent = 0, child
        cdef DueItem item
        out[0] = self.heap[0]
        self.count -= 1
        item = self.heap[self.count]
        while True:
            child = 2 * parent + 1
            if child >= self.count:
                break
            if child + 1 < self.count and before(&self.heap[child + 1], &self.heap[child]):
                child += 1
            if before(&item, &self.heap[child]):
                break
            self.heap[parent] = self.heap[child]
            parent = child
        if self.count > 0:
            self.heap[parent] = item
        self.next_ns = self.heap[0].due_ns if self.count > 0 else INT64_MAX

    cdef void take_payload(self, uint32_t place, void* payload64) noexcept nogil:
        """Copy a payload out and give its place back."""
        memcpy(payload64, self.slab[place].bytes, 64)
        self.slab[place].next = self.free_list
        self.free_list = place

    def drain_order(self, items):
        """Push (due_ns, tag) pairs and return them in the order they fall due; for tests."""
        cdef DueItem item
        for due_ns, tag in items:
            if not self.push(due_ns, DUE_TIMER, tag, NO_PLACE):
                raise MemoryError("Schedule")
        out = []
        while self.count:
            self.pop(&item)
            out.append((item.due_ns, item.tag))
        return out
