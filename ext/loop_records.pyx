"""What a loop records for Python between two drains: training samples, the equity curve, fills."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import numpy as np

from ext.features cimport FEATURE_COUNT, FeatureState, features_fill
from ext.layout cimport ExecutionReport, check

cnp.import_array()

SAMPLE_DTYPE = np.dtype(
    [("ts_ns", "<i8"), ("label_ts_ns", "<i8"), ("move_x2", "<i8"), ("features", "<f4", (FEATURE_COUNT,))]
)
EQUITY_DTYPE = np.dtype([
    ("ts_ns", "<i8"), ("mid_x2", "<i8"), ("position_lots", "<i8"), ("cash_ticklots", "<i8"),
    ("fee_nano", "<i8"), ("filled_lots", "<i8"),
])


@cython.final
@cython.auto_pickle(False)
cdef class LoopRecords:
    """Buffers of a fixed size: the loop returns early to have them drained before one is full."""

    def __cinit__(self):
        self.samples = <FeatureSample*>calloc(RECORDS_MAX, sizeof(FeatureSample))
        self.equity = <EquitySample*>calloc(RECORDS_MAX, sizeof(EquitySample))
        self.fills = <ExecutionReport*>calloc(RECORDS_MAX, sizeof(ExecutionReport))
        if self.samples == NULL or self.equity == NULL or self.fills == NULL:
            raise MemoryError("LoopRecords")

    def __dealloc__(self):
        free(self.samples)
        free(self.equity)
        free(self.fills)

    cdef void sample(self, const FeatureState* features) noexcept nogil:
        """Open a training sample, or close the open one with the move that followed it."""
        cdef FeatureSample* sample = &self.samples[self.sample_count]
        if not features.two_sided:
            self.sample_left = self.sample_stride
            self.sample_open = False
        elif self.sample_open:
            sample.label_ts_ns = features.last_ts_ns
            sample.move_x2 = features.mid_x2 - sample.move_x2
            self.sample_count += 1
            self.sample_open = False
            self.sample_left = self.sample_stride - self.sample_horizon
        else:
            sample.ts_ns = features.last_ts_ns
            sample.move_x2 = features.mid_x2
            features_fill(features, sample.features)
            self.sample_open = True
            self.sample_left = self.sample_horizon

    cdef void add_equity(self, int64_t now_ns, int64_t mid_x2, const Account* account) noexcept nogil:
        cdef EquitySample* sample = &self.equity[self.equity_count]
        if self.equity_count == RECORDS_MAX:
            self.overflowed = True
            return
        sample.ts_ns = now_ns
        sample.mid_x2 = mid_x2
        sample.position_lots = account.position_lots
        sample.cash_ticklots = account.cash_ticklots
        sample.fee_nano = account.fee_nano
        sample.filled_lots = account.filled_lots
        self.equity_count += 1

    cdef void add_fill(self, const ExecutionReport* report) noexcept nogil:
        check(self.fill_count < RECORDS_MAX, "fills are drained before their buffer is full")
        if self.fill_count == RECORDS_MAX:
            self.overflowed = True
            return
        self.fills[self.fill_count] = report[0]
        self.fill_count += 1

    cdef take_samples(self):
        cdef FeatureSample keep
        out = copy_records(self.samples, self.sample_count, SAMPLE_DTYPE)
        keep = self.samples[self.sample_count]
        self.sample_count = 0
        self.samples[0] = keep      # one may be open
        return out

    cdef take_equity(self):
        out = copy_records(self.equity, self.equity_count, EQUITY_DTYPE)
        self.equity_count = 0
        return out

    cdef take_fills(self):
        out = copy_records(self.fills, self.fill_count, np.dtype("V64"))
        self.fill_count = 0
        return out


cdef copy_records(const void* first, uint32_t count, dtype):
    cdef cnp.ndarray out = np.empty(count, dtype=dtype)
    memcpy(cnp.PyArray_DATA(out), first, <size_t>count * dtype.itemsize)
    return out
