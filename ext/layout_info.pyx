"""What the compiler made of ext/layout.h, so that a test can compare it with the numpy dtypes."""

from libc.string cimport memcpy

from . cimport layout


cdef extern from *:
    """
    #if defined(__clang__)
    #define ANYTICK_COMPILER __VERSION__
    #else
    #define ANYTICK_COMPILER "gcc " __VERSION__
    #endif
    """
    const char* ANYTICK_COMPILER


COMPILER = (<bytes>ANYTICK_COMPILER).decode("ascii", "replace")
DEBUG_BUILD = bool(layout.DEBUG_BUILD)
RECV_NOT_RECORDED = layout.RECV_NOT_RECORDED

STRUCT_BYTES = {
    "MarketEvent": sizeof(layout.MarketEvent),
    "QuoteView": sizeof(layout.QuoteView),
    "OrderCommand": sizeof(layout.OrderCommand),
    "ExecutionReport": sizeof(layout.ExecutionReport),
    "JournalRecord": sizeof(layout.JournalRecord),
    "DecisionPayload": sizeof(layout.DecisionPayload),
    "RewardPayload": sizeof(layout.RewardPayload),
    "ParentPayload": sizeof(layout.ParentPayload),
}


cdef union AnyRecord:
    layout.MarketEvent market_event
    layout.QuoteView quote_view
    layout.OrderCommand order_command
    layout.ExecutionReport execution_report
    layout.JournalRecord journal_record
    layout.DecisionPayload decision_payload
    layout.RewardPayload reward_payload
    layout.ParentPayload parent_payload


# Cython turns a whole struct into a dict, but an array of bytes in one into a zero-terminated string.
cdef dict journal_fields(const layout.JournalRecord* record):
    return {
        "sequence": record.sequence,
        "ts_ns": record.ts_ns,
        "chain": record.chain,
        "crc32c": record.crc32c,
        "version": record.version,
        "kind": record.kind,
        "_reserved": record._reserved,
        "payload": list(record.payload[:sizeof(record.payload)]),
    }


cdef dict reward_fields(const layout.RewardPayload* record):
    return {
        "decision_id": record.decision_id,
        "reward": record.reward,
        "cost_ticks": record.cost_ticks,
        "filled_lots": record.filled_lots,
        "size_lots": record.size_lots,
        "arm": record.arm,
        "censored": record.censored,
        "_reserved": list(record._reserved[:sizeof(record._reserved)]),
    }


def decode(str struct, const unsigned char[::1] raw):
    """Return the fields that C sees in the bytes of one record.

    Parameters
    ----------
    struct : str
        A key of `STRUCT_BYTES`.
    raw : bytes
        As long as the struct.
    """
    cdef AnyRecord record
    if raw.shape[0] != STRUCT_BYTES[struct]:
        raise ValueError(f"{struct} takes {STRUCT_BYTES[struct]} bytes, was {raw.shape[0]}")
    memcpy(&record, &raw[0], raw.shape[0])
    if struct == "MarketEvent":
        return record.market_event
    if struct == "QuoteView":
        return record.quote_view
    if struct == "OrderCommand":
        return record.order_command
    if struct == "ExecutionReport":
        return record.execution_report
    if struct == "JournalRecord":
        return journal_fields(&record.journal_record)
    if struct == "DecisionPayload":
        return record.decision_payload
    if struct == "RewardPayload":
        return reward_fields(&record.reward_payload)
    return record.parent_payload
