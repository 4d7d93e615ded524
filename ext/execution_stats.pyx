"""What an executor's parents cost, by group and day of arrival, and where their lots were filled."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

from ext.parent_order cimport WorkingParent

cnp.import_array()

DAY_STATS_DTYPE = np.dtype([
    ("cost_ticklots", "<f8"), ("fee_ticklots", "<f8"), ("notional_ticklots", "<f8"),
    ("child_cost_ticklots", "<f8"), ("reward", "<f8"), ("parents", "<i8"), ("lots", "<i8"),
    ("cancelled_lots", "<i8"), ("taker_lots", "<i8"), ("decisions", "<i8"), ("child_lots", "<i8"),
])

cdef enum:
    DAY_SECONDS = 86_400


@cython.final
@cython.auto_pickle(False)
cdef class ExecutionStats:
    """Sums over completed parents and their children."""

    def __cinit__(self, *, int groups, int64_t first_day, int64_t day_count, int window_max):
        if day_count < 1 or groups < 1 or window_max < 1:
            raise ValueError("day_count, groups and window_max must be positive")
        self.days = <DayStats*>calloc(<size_t>(groups * day_count), sizeof(DayStats))
        self.venue_lots = <int64_t*>calloc(<size_t>window_max * 16, sizeof(int64_t))
        if self.days == NULL or self.venue_lots == NULL:
            raise MemoryError("ExecutionStats")
        self.group_count = groups
        self.first_day = first_day
        self.day_count = day_count
        self.window_max = window_max

    def __dealloc__(self):
        free(self.days)
        free(self.venue_lots)

    cdef begin_window(self):
        if self.window + 1 >= self.window_max:
            raise ValueError(f"at most {self.window_max} windows")
        self.window += 1

    cdef void add_child(self, const WorkingParent* parent, double cost, double reward) noexcept nogil:
        """Count a decision; `cost` in ticks per lot."""
        cdef DayStats* day = self.day_of(parent)
        day.decisions += 1
        day.reward += reward
        day.child_cost_ticklots += cost * <double>parent.child_lots
        day.child_lots += parent.child_lots

    cdef void add_parent(self, const WorkingParent* parent, double cost, double fee) noexcept nogil:
        """Count a parent that has ended; `cost` with fees, `fee` alone, in ticks times lots."""
        cdef DayStats* day = self.day_of(parent)
        day.parents += 1
        day.lots += parent.filled_lots
        day.taker_lots += parent.taker_lots
        day.cancelled_lots += parent.size_lots - parent.filled_lots
        day.cost_ticklots += cost
        day.fee_ticklots += fee
        day.notional_ticklots += 0.5 * <double>parent.arrival_mid_x2 * <double>parent.size_lots

    cdef DayStats* day_of(self, const WorkingParent* parent) noexcept nogil:
        cdef int64_t day = parent.arrival_ns // (<int64_t>DAY_SECONDS * 1_000_000_000) - self.first_day
        day = 0 if day < 0 else (self.day_count - 1 if day >= self.day_count else day)
        return &self.days[(parent.parent_id % self.group_count) * self.day_count + day]

    cdef day_array(self):
        cdef cnp.ndarray out = np.empty((self.group_count, self.day_count), dtype=DAY_STATS_DTYPE)
        memcpy(cnp.PyArray_DATA(out), self.days, out.nbytes)
        return out

    cdef lots_by_venue(self, int venue_count):
        cdef cnp.ndarray out = np.empty((self.window + 1, 16), dtype=np.int64)
        memcpy(cnp.PyArray_DATA(out), self.venue_lots, out.nbytes)
        return out[:, :venue_count].copy()
