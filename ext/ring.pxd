"""The ring's algorithm and memory, for Cython. What each function promises stands in the headers."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "ring_wait.h" nogil:
    enum RingWait:
        RING_SPIN
        RING_YIELD
        RING_BLOCK

    ctypedef struct RingPark:
        uint32_t wakes
        uint32_t asleep

    ctypedef struct RingPatience:
        uint32_t turns
        bint announced

    void ring_relax()
    void ring_pause(RingPark* park, int wait, RingPatience* patience, int64_t deadline_ns)
    bint ring_time_is_up(const RingPatience* patience, int wait, int64_t deadline_ns)


cdef extern from "ring.h" nogil:
    enum RingMode:
        RING_INDEX
        RING_STAMPED

    enum RingPolicy:
        RING_REFUSE
        RING_WAIT_FOR_ROOM
        RING_DROP_OLDEST

    enum RingState:
        RING_FREE
        RING_ACTIVE

    ctypedef struct RingProducerLine:
        uint64_t tail
        uint64_t refused

    ctypedef struct RingConsumerLine:
        uint64_t head
        uint64_t lost
        uint64_t state
        uint64_t held

    ctypedef struct Ring:
        RingProducerLine* producer
        RingConsumerLine* consumers
        RingPark* data_park
        RingPark* room_park
        uint64_t capacity
        uint32_t record_bytes
        uint32_t consumer_count
        uint32_t consumer
        uint32_t mode
        uint32_t policy
        uint32_t wait
        uint32_t shares
        uint32_t slowest

    bint ring_push(Ring* ring, const void* record, size_t bytes)
    size_t ring_push_batch(Ring* ring, const void* source, size_t count, size_t bytes)
    size_t ring_claim(Ring* ring, size_t count_max, size_t bytes, void** first)
    void ring_publish(Ring* ring, size_t count, size_t bytes)
    void ring_count_refused(Ring* ring, uint64_t count)
    void ring_count_held(Ring* ring)
    void ring_close(Ring* ring)
    size_t ring_peek(Ring* ring, size_t count_max, size_t bytes, const void** first)
    void ring_release(Ring* ring, size_t count)
    bint ring_pop(Ring* ring, void* target, size_t bytes)
    size_t ring_pop_batch(Ring* ring, void* target, size_t count_max, size_t bytes)
    uint64_t ring_length(const Ring* ring)
    bint ring_is_closed(const Ring* ring)
    bint ring_is_drained(const Ring* ring)


cdef extern from "ring_lossy.h" nogil:
    void ring_overwrite(Ring* ring, const void* source, size_t count, size_t bytes)
    size_t ring_take_latest(Ring* ring, void* target, size_t count_max, size_t bytes)


cdef extern from "ring_memory.h" nogil:
    const uint32_t RING_LANES_MAX
    const size_t CURSOR_STRIDE "ANYTICK_CURSOR_STRIDE"

    enum RingKind:
        RING_SPSC
        RING_BROADCAST
        RING_MPSC

    ctypedef struct RingIdentity:
        uint64_t magic
        uint32_t version
        uint32_t kind
        uint32_t mode
        uint32_t policy
        uint32_t wait
        uint32_t record_bytes
        uint64_t capacity
        uint32_t lane_count
        uint32_t consumer_count
        uint64_t record_type
        uint64_t first_cursor
        uint64_t total_bytes
        uint64_t checksum

    ctypedef struct RingBlock:
        RingIdentity identity

    uint64_t ring_hash(const void* data, size_t bytes)
    uint64_t ring_total_bytes(const RingIdentity* identity)
    const char* ring_check_shape(const RingIdentity* shape)
    const char* ring_check(const RingIdentity* identity, uint64_t bytes)
    const char* ring_check_cursors(RingBlock* block, const RingIdentity* identity)
    void ring_format(RingBlock* block, RingIdentity* identity)
    void ring_open(
        Ring* ring, RingBlock* block, const RingIdentity* identity, uint32_t lane, uint32_t consumer
    )
    void ring_adopt(Ring* ring)
    void ring_join(Ring* ring)
    void ring_leave(Ring* ring, uint32_t consumer)
    int ring_allocate(int descriptor, uint64_t bytes)
    int ring_take_role(int descriptor, uint32_t role)
    void ring_drop_role(int descriptor, uint32_t role)
    bint ring_role_is_held(int descriptor, uint32_t role)
