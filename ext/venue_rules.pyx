"""Reading a venue's rules."""

from libc.math cimport isfinite
from libc.string cimport memset

from .venue_rules cimport OFFER_MAX, QUEUE_FLOW, QUEUE_OPTIMISTIC, QUEUE_PESSIMISTIC, VenueRules

cdef tuple FEES = ("taker_fee_bps", "maker_fee_bps", "taker_fee_per_lot", "maker_fee_per_lot")
QUEUE_MODES = {"flow": QUEUE_FLOW, "optimistic": QUEUE_OPTIMISTIC, "pessimistic": QUEUE_PESSIMISTIC}


cdef int read_rules(rules, VenueRules* out) except -1:
    """Fill the struct from a mapping; raise ValueError for what no venue does."""
    memset(out, 0, sizeof(VenueRules))
    out.order_latency_ns = rules["order_latency_ns"]
    out.order_jitter_ns = rules.get("order_jitter_ns", 0)
    out.ack_latency_ns = rules["ack_latency_ns"]
    out.feed_latency_ns = rules["feed_latency_ns"]
    out.taker_fee_bps = rules.get("taker_fee_bps", 0.0)
    out.maker_fee_bps = rules.get("maker_fee_bps", 0.0)
    out.taker_fee_per_lot = rules.get("taker_fee_per_lot", 0.0)
    out.maker_fee_per_lot = rules.get("maker_fee_per_lot", 0.0)
    out.last_look_q16 = round(rules.get("last_look", 0.0) * 65536)
    out.last_look_stale_q16 = round(rules.get("last_look_stale", 0.0) * 65536)
    out.flow_q16 = round(rules.get("flow", 0.0) * 65536)
    out.depth_levels = rules.get("depth_levels", 0)
    out.depth_step_q8 = round(rules.get("depth_step", 0.0) * 256)
    out.depth_size_q8 = round(rules.get("depth_size", 0.0) * 256)
    out.queue_mode = QUEUE_MODES[rules.get("queue_mode", "flow")]
    out.tick_size_ticks = rules.get("tick_size_ticks", 1)
    if not 0 <= out.depth_levels < OFFER_MAX:
        raise ValueError(f"depth_levels must be 0 to {OFFER_MAX - 1}, was {out.depth_levels}")
    for name in FEES:
        if not isfinite(rules.get(name, 0.0)):
            raise ValueError(f"{name} must be finite, was {rules[name]}")
    for name in ("order_latency_ns", "order_jitter_ns", "ack_latency_ns", "feed_latency_ns"):
        if rules.get(name, 0) < 0:
            raise ValueError(f"{name} must not be negative, was {rules[name]}")
    if out.tick_size_ticks < 1:
        raise ValueError(f"tick_size_ticks must be positive, was {out.tick_size_ticks}")
    return 0
