"""A parent order at work, and the records that tell of it.

PARENT at each state, DECISION at each choice, REWARD at each child's end.

Invariant: filled + open + cancelled = size at every instant, and what is at venues is part of what is open.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from ext.journal cimport JournalBuffer, journal_append
from ext.layout cimport (
    JOURNAL_DECISION, JOURNAL_PARENT, JOURNAL_REWARD, DecisionPayload, ParentPayload, RewardPayload, check,
)
from ext.routing cimport CONTEXT_SIZE, RouteAnswer, RouteRequest


cdef struct WorkingParent:
    uint32_t parent_id
    bint active
    bint closing             # past the deadline
    bint last_round          # the closing market orders were sent
    int side
    int slices
    int slice
    uint16_t version
    uint32_t legs
    int64_t size_lots
    int64_t filled_lots
    int64_t open_lots        # neither filled nor cancelled
    int64_t cancelled_lots
    int64_t taker_lots
    int64_t sent_lots        # at venues or on their way; part of what is open
    int64_t arrival_ns
    int64_t deadline_ns
    int64_t interval_ns
    int64_t arrival_mid_x2
    int64_t cost_x2          # sum of side * (2 * price - arrival_mid_x2) * lots
    int64_t fee_nano
    # The child at work, if any.
    bint child_active
    int arm
    int attempt
    int outstanding
    uint64_t decision_id
    int64_t child_lots
    int64_t child_filled
    int64_t child_cost_x2
    int64_t child_fee_nano
    int64_t decision_mid_x2
    double scale_ticks
    double[CONTEXT_SIZE] context


cdef inline void write_parent(
    JournalBuffer journal, int64_t now_ns, const WorkingParent* parent, uint8_t state
) noexcept nogil:
    cdef ParentPayload payload
    check(
        parent.filled_lots + parent.open_lots + parent.cancelled_lots == parent.size_lots,
        "filled + open + cancelled = size",
    )
    check(parent.sent_lots <= parent.open_lots, "what is at venues is part of what is open")
    memset(&payload, 0, sizeof(payload))
    payload.parent_id = parent.parent_id
    payload.state = state
    payload.side = <signed char>parent.side
    payload.version = parent.version
    payload.size_lots = parent.size_lots
    payload.filled_lots = parent.filled_lots
    payload.cancelled_lots = parent.cancelled_lots
    payload.open_lots = parent.open_lots
    payload.arrival_mid_x2 = parent.arrival_mid_x2
    payload.deadline_ns = parent.deadline_ns
    journal_append(journal, JOURNAL_PARENT, now_ns, &payload)


cdef inline void write_decision(
    JournalBuffer journal, int64_t now_ns, const WorkingParent* parent, const RouteRequest* request,
    const RouteAnswer* answer, float signal, uint16_t model_version,
) noexcept nogil:
    cdef DecisionPayload payload
    cdef int index
    memset(&payload, 0, sizeof(payload))
    payload.decision_id = parent.decision_id
    payload.parent_id = parent.parent_id
    payload.model_version = model_version
    payload.arm = <uint8_t>(answer.arm if answer.arm >= 0 else 255)
    payload.arm_count = <uint8_t>request.arm_count
    payload.score = answer.score
    payload.propensity = answer.propensity
    payload.signal = signal
    if answer.arm >= 0:
        for index in range(CONTEXT_SIZE):
            payload.context[index] = <float>parent.context[index]
    journal_append(journal, JOURNAL_DECISION, now_ns, &payload)


cdef inline void write_reward(
    JournalBuffer journal, int64_t now_ns, const WorkingParent* parent, double cost, double reward,
    bint censored,
) noexcept nogil:
    cdef RewardPayload payload
    memset(&payload, 0, sizeof(payload))
    payload.decision_id = parent.decision_id
    payload.cost_ticks = cost
    payload.reward = reward
    payload.filled_lots = parent.child_filled
    payload.size_lots = parent.child_lots
    payload.arm = <uint8_t>(parent.arm if parent.arm >= 0 else 255)
    payload.censored = censored
    journal_append(journal, JOURNAL_REWARD, now_ns, &payload)
