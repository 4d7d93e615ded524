"""What a loop records for Python between two drains: training samples, the equity curve, fills."""

from libc.stdint cimport int64_t, uint32_t

from ext.features cimport FEATURE_COUNT, FeatureState
from ext.layout cimport ExecutionReport


cdef struct Account:
    int64_t position_lots
    int64_t cash_ticklots          # -price * lots for buys, + for sells
    int64_t fee_nano
    int64_t filled_lots
    int64_t fills
    int64_t orders


cdef struct EquitySample:
    int64_t ts_ns
    int64_t mid_x2
    int64_t position_lots
    int64_t cash_ticklots
    int64_t fee_nano
    int64_t filled_lots


cdef struct FeatureSample:
    int64_t ts_ns
    int64_t label_ts_ns
    int64_t move_x2                # change of the mid (x2) until label_ts_ns
    float[FEATURE_COUNT] features


cdef class LoopRecords:
    cdef FeatureSample* samples    # owned, RECORDS_MAX like the others
    cdef EquitySample* equity      # owned
    cdef ExecutionReport* fills    # owned
    cdef uint32_t sample_count
    cdef uint32_t equity_count
    cdef uint32_t fill_count
    cdef int64_t sample_stride
    cdef int64_t sample_horizon
    cdef int64_t sample_left       # events until the next look; the loop counts down
    cdef bint sample_open
    cdef bint record_fills
    cdef bint overflowed           # something was not recorded: our bug, run() raises

    cdef void sample(self, const FeatureState* features) noexcept nogil
    cdef void add_equity(self, int64_t now_ns, int64_t mid_x2, const Account* account) noexcept nogil
    cdef void add_fill(self, const ExecutionReport* report) noexcept nogil
    cdef take_samples(self)
    cdef take_equity(self)
    cdef take_fills(self)


cdef enum:
    RECORDS_MAX = 16384


cdef inline bint records_have_room(LoopRecords records) noexcept nogil:
    """Tell whether one more point of the equity curve and one more fill can be kept."""
    return records.equity_count < RECORDS_MAX and records.fill_count < RECORDS_MAX


cdef inline bint records_have_sample_room(LoopRecords records, uint32_t events) noexcept nogil:
    """Tell whether each of so many events may add a training sample."""
    return records.sample_count + events < RECORDS_MAX
