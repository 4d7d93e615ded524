/* One block of memory that holds a ring: what it is, then per lane its cursors and slots.
 *
 *     identity | park for records | park for room | lane 0: producer line, consumer lines, slots | lane 1 ...
 *
 * The block is the same on the heap and in shared memory. A lane has one producer. An SPSC ring is one lane
 * with one consumer, a broadcast ring one lane with several, an MPSC ring several lanes that one consumer
 * visits in turn: a producer that dies can leave no hole in another's lane, and no cursor has two writers.
 * The magic word is stored last, so a block whose creator died half-way is no ring.
 */
#ifndef ANYTICK_RING_MEMORY_H
#define ANYTICK_RING_MEMORY_H

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "ring.h"
#include "ring_lossy.h"

#define RING_MAGIC 0x474E52594E41ull /* "ANYRNG" */
#define RING_VERSION 1u
#define RING_CAPACITY_MAX (1ull << 32)
#define RING_RECORD_BYTES_MAX 4096u
#define RING_LANES_MAX 64u
#define RING_CONSUMERS_MAX 64u

enum RingKind { RING_SPSC = 1, RING_BROADCAST = 2, RING_MPSC = 3 };

/* Written once by the creator. Attachers work on a copy that ring_check has accepted; the copy lives in a
 * Python object, so only the block asks for a line of its own. */
typedef struct {
    uint64_t magic;
    uint32_t version;
    uint32_t kind;
    uint32_t mode;
    uint32_t policy;
    uint32_t wait;
    uint32_t record_bytes;
    uint64_t capacity;          /* records per lane                                               */
    uint32_t lane_count;
    uint32_t consumer_count;    /* per lane                                                       */
    uint64_t record_type;       /* hash of the record's fields, so that both sides agree          */
    uint64_t first_cursor;
    uint64_t total_bytes;
    uint64_t checksum;          /* of all before it, magic excluded                               */
} RingIdentity;

_Static_assert(sizeof(RingIdentity) == 80, "RingIdentity has no hidden padding after its checksum");
_Static_assert(offsetof(RingIdentity, checksum) == 72, "RingIdentity has no hidden padding before its checksum");

typedef struct {
    _Alignas(ANYTICK_CURSOR_STRIDE) RingIdentity identity;
    RingPark data_park;
    RingPark room_park;
} RingBlock;

_Static_assert(offsetof(RingBlock, data_park) == ANYTICK_CURSOR_STRIDE, "the identity has a line of its own");

/* FNV-1a: finds damage, not forgery. */
static inline uint64_t ring_hash(const void *data, size_t bytes) {
    const uint8_t *byte = data;
    uint64_t hash = 0xCBF29CE484222325ull;
    for (size_t index = 0; index < bytes; index++) hash = (hash ^ byte[index]) * 0x100000001B3ull;
    return hash;
}

static inline uint64_t ring_checksum(const RingIdentity *identity) {
    return ring_hash(&identity->version, offsetof(RingIdentity, checksum) - offsetof(RingIdentity, version));
}

static inline uint64_t ring_slot_bytes(const RingIdentity *identity) {
    return identity->mode == RING_STAMPED ? ring_stamped_bytes(identity->record_bytes) : identity->record_bytes;
}

static inline uint64_t ring_lane_bytes(const RingIdentity *identity) {
    uint64_t slots = identity->capacity * ring_slot_bytes(identity), line = ANYTICK_CURSOR_STRIDE;
    slots = (slots + line - 1) & ~(line - 1);
    return sizeof(RingProducerLine) + identity->consumer_count * sizeof(RingConsumerLine) + slots;
}

static inline uint64_t ring_total_bytes(const RingIdentity *identity) {
    return sizeof(RingBlock) + identity->lane_count * ring_lane_bytes(identity);
}

/* Return the first rule that the shape breaks, or NULL. Nothing overflows: each factor is bounded first. */
static inline const char *ring_check_shape(const RingIdentity *shape) {
    if (shape->kind < RING_SPSC || shape->kind > RING_MPSC) return "kind must be 1 (SPSC), 2 (broadcast) or 3 (MPSC)";
    if (shape->mode < RING_INDEX || shape->mode > RING_STAMPED) return "mode must be 1 (index) or 2 (stamped)";
    if (shape->policy < RING_REFUSE || shape->policy > RING_DROP_OLDEST) return "policy must be 1 to 3";
    if (shape->wait < RING_SPIN || shape->wait > RING_BLOCK) return "wait must be 1 to 3";
    if (shape->capacity == 0 || shape->capacity > RING_CAPACITY_MAX || shape->capacity & (shape->capacity - 1))
        return "capacity must be a power of two up to 2^32";
    if (shape->record_bytes == 0 || shape->record_bytes % 8 || shape->record_bytes > RING_RECORD_BYTES_MAX)
        return "records must be of 8 to 4096 bytes, whole words";
    if (shape->lane_count < 1 || shape->lane_count > RING_LANES_MAX) return "lanes must be 1 to 64";
    if (shape->consumer_count < 1 || shape->consumer_count > RING_CONSUMERS_MAX) return "consumers must be 1 to 64";
    if (shape->kind != RING_MPSC && shape->lane_count != 1) return "only an MPSC ring has several lanes";
    if (shape->kind != RING_BROADCAST && shape->consumer_count != 1) return "only a broadcast ring has several consumers";
    if (shape->policy == RING_DROP_OLDEST && shape->mode == RING_STAMPED) return "a stamped ring cannot drop the oldest";
    return NULL;
}

/* The same for an identity found in memory that somebody else wrote. */
static inline const char *ring_check(const RingIdentity *identity, uint64_t bytes) {
    if (identity->magic != RING_MAGIC) return "magic word missing: no ring, or its creator died before it was ready";
    if (identity->version != RING_VERSION) return "layout version must be 1";
    if (identity->checksum != ring_checksum(identity)) return "header checksum differs";
    const char *rule = ring_check_shape(identity);
    if (rule) return rule;
    if (identity->total_bytes != ring_total_bytes(identity)) return "header's total bytes must follow from its shape";
    if (bytes != identity->total_bytes) return "size must be what the header says";
    return NULL;
}

static inline RingProducerLine *ring_lane(RingBlock *block, const RingIdentity *identity, uint32_t lane) {
    return (RingProducerLine *)((uint8_t *)(block + 1) + lane * ring_lane_bytes(identity));
}

/* Lay a ring out in zeroed memory of ring_total_bytes. */
static inline void ring_format(RingBlock *block, RingIdentity *identity) {
    identity->version = RING_VERSION;
    identity->total_bytes = ring_total_bytes(identity);
    identity->checksum = ring_checksum(identity);
    identity->magic = RING_MAGIC;
    for (uint32_t lane = 0; lane < identity->lane_count; lane++) {
        RingProducerLine *producer = ring_lane(block, identity, lane);
        RingConsumerLine *consumers = (RingConsumerLine *)(producer + 1);
        uint8_t *slots = (uint8_t *)(consumers + identity->consumer_count);
        size_t stride = ring_slot_bytes(identity);
        producer->tail = producer->intent = identity->first_cursor;
        producer->closed = identity->kind == RING_MPSC; /* until a producer takes the lane */
        for (uint32_t index = 0; index < identity->consumer_count; index++) {
            consumers[index].head = identity->first_cursor;
            consumers[index].state = identity->kind == RING_BROADCAST ? RING_FREE : RING_ACTIVE;
        }
        /* Touches every page now, not on the first lap. A stamp that equals its cursor says "not yet". */
        memset(slots, 0, identity->capacity * stride);
        if (identity->mode == RING_STAMPED)
            for (uint64_t index = 0; index < identity->capacity; index++) {
                uint64_t cursor = identity->first_cursor + index;
                uint8_t *slot = slots + (cursor & (identity->capacity - 1)) * stride;
                *ring_stamp(slot, identity->record_bytes) = cursor;
            }
    }
    uint64_t magic = identity->magic;
    memcpy(&block->identity.version, &identity->version, sizeof(*identity) - offsetof(RingIdentity, version));
    store_release(&block->identity.magic, magic);
}

/* Return the first rule that the cursors break, or NULL. */
static inline const char *ring_check_cursors(RingBlock *block, const RingIdentity *identity) {
    for (uint32_t lane = 0; lane < identity->lane_count; lane++) {
        RingProducerLine *producer = ring_lane(block, identity, lane);
        RingConsumerLine *consumers = (RingConsumerLine *)(producer + 1);
        for (uint32_t index = 0; index < identity->consumer_count; index++) {
            uint64_t state = load_acquire(&consumers[index].state), head = load_acquire(&consumers[index].head);
            uint64_t tail = load_acquire(&producer->tail);
            /* The ring runs while we look: the tail had passed the head before it, and by no more than
             * the capacity the head after it. */
            uint64_t head_after = load_acquire(&consumers[index].head);
            if (state > RING_ACTIVE) return "a consumer's state must be 0 or 1";
            if (state == RING_FREE || identity->policy == RING_DROP_OLDEST) continue;
            /* A stamped record is taken before its tail is seen. */
            if ((int64_t)(tail - head) < -1
                || (identity->kind != RING_BROADCAST && (int64_t)(tail - head_after) > (int64_t)identity->capacity))
                return "cursors must be within one capacity of each other";
        }
    }
    return NULL;
}

/* Make the private handle of one lane, for its producer or its consumer or both. */
static inline void ring_open(Ring *ring, RingBlock *block, const RingIdentity *identity, uint32_t lane, uint32_t consumer) {
    memset(ring, 0, sizeof(*ring));
    ring->producer = ring_lane(block, identity, lane);
    ring->consumers = (RingConsumerLine *)(ring->producer + 1);
    ring->slots = (uint8_t *)(ring->consumers + identity->consumer_count);
    ring->data_park = &block->data_park;
    ring->room_park = &block->room_park;
    ring->capacity = identity->capacity;
    ring->record_bytes = identity->record_bytes;
    ring->slot_bytes = (uint32_t)ring_slot_bytes(identity);
    ring->ahead = RING_FETCH_AHEAD_BYTES / ring->slot_bytes;
    ring->consumer_count = identity->consumer_count;
    ring->consumer = consumer;
    ring->mode = identity->mode;
    ring->policy = identity->policy;
    ring->wait = identity->wait;
    ring->shares = identity->kind == RING_BROADCAST;
    ring->tail = load_acquire(&ring->producer->tail);
    ring->head = ring->tail_seen = load_acquire(&ring->consumers[consumer].head);
    /* Full until it has looked. */
    ring->head_seen = ring->tail - ring->capacity;
}

/* Go on where a producer stopped, perhaps killed between a stamp and the tail that follows it. */
static inline void ring_adopt(Ring *ring) {
    if (ring->mode == RING_STAMPED) {
        uint8_t *slot = ring_slot(ring, ring->tail, ring->slot_bytes);
        if (load_acquire(ring_stamp(slot, ring->record_bytes)) == ring->tail + 1) ring_move_tail(ring, ring->tail + 1);
        ring->head_seen = ring->tail - ring->capacity;
    }
    store_release(&ring->producer->closed, 0);
}

/* Join a broadcast ring as a consumer whose place was free: from the next record on. */
static inline void ring_join(Ring *ring) {
    RingConsumerLine *own = &ring->consumers[ring->consumer];
    store_release(&own->head, load_acquire(&ring->producer->tail));
    store_release(&own->lost, 0);
    store_release(&own->state, RING_ACTIVE);
    /* See ring_look_for_room: a producer that missed the announcement looked before this read, so it
     * overwrites nothing from here on. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    ring->head = ring->tail_seen = load_acquire(&ring->producer->tail);
    store_release(&own->head, ring->head);
}

static inline void ring_leave(Ring *ring, uint32_t consumer) {
    store_release(&ring->consumers[consumer].state, RING_FREE);
    if (ring->wait == RING_BLOCK) ring_wake(ring->room_park);
}

/* Roles in shared memory are locks on single bytes of the file (open file description locks where the
 * system has them). The kernel gives a dead holder's lock back, so no role is ever orphaned. Byte 0..63
 * are the lanes' producers, byte 64.. their consumers. */
#ifdef F_OFD_SETLK
#define RING_SETLK F_OFD_SETLK
#define RING_GETLK F_OFD_GETLK
#else
#define RING_SETLK F_SETLK
#define RING_GETLK F_GETLK
#endif

static inline struct flock ring_role_lock(short type, uint32_t role) {
    struct flock lock;
    memset(&lock, 0, sizeof(lock));
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = role;
    lock.l_len = 1;
    return lock;
}

/* Allocate, not only size: a full file system is an error here and not a signal at the first push. */
static inline int ring_allocate(int descriptor, uint64_t bytes) {
#ifdef __linux__
    return posix_fallocate(descriptor, 0, (off_t)bytes);
#else
    return ftruncate(descriptor, (off_t)bytes) == 0 ? 0 : errno;
#endif
}

/* 0, or an errno: EAGAIN or EACCES when somebody living has the role. */
static inline int ring_take_role(int descriptor, uint32_t role) {
    struct flock lock = ring_role_lock(F_WRLCK, role);
    return fcntl(descriptor, RING_SETLK, &lock) == 0 ? 0 : errno;
}

static inline void ring_drop_role(int descriptor, uint32_t role) {
    struct flock lock = ring_role_lock(F_UNLCK, role);
    fcntl(descriptor, RING_SETLK, &lock);
}

/* Whether another open file has the role; our own locks do not show. */
static inline bool ring_role_is_held(int descriptor, uint32_t role) {
    struct flock lock = ring_role_lock(F_WRLCK, role);
    return fcntl(descriptor, RING_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

#endif
