"""The journal's buffer, and the verification of journaled records, in C.

The buffer belongs to the engine thread; it is drained between batches by the same thread
(engine/journal.py writes what comes out to the file).
"""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from ext.layout cimport JOURNAL_END, JOURNAL_RUN, JournalRecord

import numpy as np

cnp.import_array()

VARIANT = CRC32C_VARIANT.decode()

# The dtype comes from the C declaration itself, so the two cannot drift.
cdef JournalRecord[1] _layout
cdef object RECORD_DTYPE = np.asarray(<JournalRecord[:1]>_layout).dtype

cdef enum:
    RUN_ID_BITS = 15
    PAYLOAD_BYTES = 64

cdef tuple RULES = ("", "version", "crc32c", "kind", "sequence", "chain")
cdef enum Rule:
    RULE_NONE
    RULE_VERSION
    RULE_CRC
    RULE_KIND
    RULE_SEQUENCE
    RULE_CHAIN


def crc32c(bytes data not None):
    """Return the CRC-32C of some bytes, with the instruction this build uses."""
    return crc32c_of(<const uint8_t*>data, len(data))


def crc32c_portable(bytes data not None):
    """Return the CRC-32C of some bytes by tables; agrees with `crc32c` on every machine."""
    return crc32c_of_portable(<const uint8_t*>data, len(data))


def start_chain(uint64_t run_id):
    """Return the chain before a run's first record."""
    return mix_chain(run_id, 0)


@cython.final
@cython.auto_pickle(False)
cdef class JournalBuffer:
    """Records of one run that wait to be written, in memory allocated once.

    Parameters
    ----------
    capacity : int
        Records between two drains, at least 1.
    run_id : int
        15 bits, as in every client order id of the run; the chain starts from it.
    """

    def __cinit__(self, uint64_t capacity, *, uint64_t run_id=0):
        if not 1 <= capacity <= <uint64_t>1 << 32:
            raise ValueError(f"capacity must be from 1 to 2**32 records, was {capacity}")
        if run_id >> RUN_ID_BITS:
            raise ValueError(f"run_id must fit {RUN_ID_BITS} bits, was {run_id}")
        self.records = <JournalRecord*>malloc(capacity * sizeof(JournalRecord))
        if self.records == NULL:
            raise MemoryError(f"no memory for a journal buffer of {capacity} records")
        # Not zero, which compilers turn into a lazy calloc: every page is mapped now, not at its
        # first record.
        memset(self.records, 0xFF, capacity * sizeof(JournalRecord))
        self.capacity = capacity
        self.run_id = run_id
        self.chain = start_chain(run_id)

    def __dealloc__(self):
        free(self.records)

    @property
    def pending(self):
        """Records appended since the last drain."""
        return self.count

    def append(self, uint8_t kind, int64_t ts_ns, bytes payload not None):
        """Append one record from Python; return False, and mark the overflow, when there is no room."""
        if len(payload) != PAYLOAD_BYTES:
            raise ValueError(f"payload must be {PAYLOAD_BYTES} bytes, was {len(payload)}")
        if not JOURNAL_RUN <= kind <= JOURNAL_END:
            raise ValueError(f"kind must be from {JOURNAL_RUN} to {JOURNAL_END}, was {kind}")
        journal_append(self, kind, ts_ns, <const uint8_t*>payload)
        return not self.overflowed

    def drain(self):
        """Return a copy of the waiting records and make room; sequence and chain go on."""
        cdef cnp.ndarray drained
        if self.overflowed:
            raise AssertionError("the loop reserves room before it appends, was an overflow")
        drained = np.empty(self.count, dtype=RECORD_DTYPE)
        memcpy(cnp.PyArray_DATA(drained), self.records, self.count * sizeof(JournalRecord))
        self.count = 0
        return drained


cdef Rule _broken_rule(const JournalRecord* record, uint64_t chain, uint64_t sequence) noexcept nogil:
    cdef uint64_t tail
    if record.version != RECORD_VERSION:
        return RULE_VERSION
    memcpy(&tail, &record.crc32c, sizeof(tail))
    tail = (tail >> 32) << 32   # the checksum itself counts as 0; _reserved does count
    if record.crc32c != frame_crc(record.sequence, record.ts_ns, tail, record.payload):
        return RULE_CRC
    if not JOURNAL_RUN <= record.kind <= JOURNAL_END:
        return RULE_KIND
    if record.sequence != sequence:
        return RULE_SEQUENCE
    if record.chain != mix_chain(chain, record.crc32c):
        return RULE_CHAIN
    return RULE_NONE


def verify_records(cnp.ndarray records not None, uint64_t start_chain, uint64_t start_sequence):
    """Return the first record that breaks a rule, and the rule.

    Parameters
    ----------
    records : array of JOURNAL_DTYPE, shape (n,), contiguous
    start_chain : int
        Chain of the record before the first of these, or `start_chain(run_id)`.
    start_sequence : int
        Expected sequence of the first of these.

    Returns
    -------
    index : int
        -1 when every record holds.
    rule : str
        '', 'version', 'crc32c', 'kind', 'sequence' or 'chain'.
    """
    if records.dtype != RECORD_DTYPE or records.ndim != 1 or not cnp.PyArray_IS_C_CONTIGUOUS(records):
        raise TypeError(f"records must be a contiguous array of JOURNAL_DTYPE, was {records.dtype}")
    cdef const JournalRecord* record = <const JournalRecord*>cnp.PyArray_DATA(records)
    cdef Py_ssize_t count = cnp.PyArray_SIZE(records), index
    cdef Rule rule = RULE_NONE
    cdef uint64_t chain = start_chain
    with nogil:
        for index in range(count):
            rule = _broken_rule(&record[index], chain, start_sequence + <uint64_t>index)
            if rule != RULE_NONE:
                break
            chain = record[index].chain
    return (-1, "") if rule == RULE_NONE else (index, RULES[rule])
