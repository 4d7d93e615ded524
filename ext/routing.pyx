"""Routing policies: LinUCB and the baselines it has to beat (policies in Python: ext/python_router.pyx)."""

cimport cython
cimport numpy as cnp
from libc.math cimport isfinite
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from ext.linucb cimport LinUcb
from ext.rng cimport draw64, uniform_of

cnp.import_array()

# 2**58: sixteen venues of so many lots still add up within 64 bits.
cdef int64_t LOTS_LIMIT = <int64_t>1 << 58


cdef int arms_of(int venue_count) except -1:
    if not 1 <= venue_count <= ARM_MAX // 2:
        raise ValueError(f"venue_count must be 1 to {ARM_MAX // 2}, was {venue_count}")
    return 2 * venue_count


cdef void answer_with_arm(const RouteRequest* request, RouteAnswer* answer, int arm) noexcept nogil:
    """Send the whole child to one arm."""
    answer.leg_count = 1
    answer.arm = arm
    answer.score = 0.0
    answer.propensity = 1.0
    answer.legs[0].venue = request.arms[arm].venue
    answer.legs[0].style = request.arms[arm].style
    answer.legs[0].size_lots = request.size_lots


cdef int cheapest_take(const RouteRequest* request, uint64_t used) noexcept nogil:
    """Return the taking arm with the lowest quoted cost whose bit in `used` is clear, or -1."""
    cdef int arm, best = -1
    for arm in range(request.arm_count):
        if request.arms[arm].style != STYLE_TAKE or (used >> arm) & 1:
            continue
        if request.arms[arm].available_lots <= 0:
            continue
        if best < 0 or request.arms[arm].quoted_cost_ticks < request.arms[best].quoted_cost_ticks:
            best = arm
    return best


cdef void sweep(const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
    """Take what is displayed, cheapest venue first, the rest at the cheapest of all."""
    cdef int arm, first
    cdef int64_t left = request.size_lots, piece
    cdef uint64_t used = 0
    answer.leg_count = 0
    answer.arm = -1
    answer.score = 0.0
    answer.propensity = 1.0
    first = cheapest_take(request, 0)
    arm = first
    while arm >= 0 and left > 0 and answer.leg_count < LEG_MAX:
        used |= <uint64_t>1 << arm
        piece = request.arms[arm].available_lots
        piece = piece if piece < left else left
        answer.legs[answer.leg_count].venue = request.arms[arm].venue
        answer.legs[answer.leg_count].style = STYLE_TAKE
        answer.legs[answer.leg_count].size_lots = piece
        answer.leg_count += 1
        left -= piece
        arm = cheapest_take(request, used)
    if left > 0 and answer.leg_count > 0:
        answer.legs[0].size_lots += left


cdef class Router:
    """Base of the compiled routing policies."""

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        """Fill `answer`: legs of positive size that add up to the request, or none at all."""
        sweep(request, answer)

    cdef void reward(self, int arm, const double* context, double value) noexcept nogil:
        """Learn from the arm's outcome; higher is better."""

    cdef void begin_window(self) noexcept nogil:
        """Note that a training window ended: choices fixed per window are made now."""

    def begin(self):
        """Note that a training window ended (see `begin_window`)."""
        self.begin_window()

    def decide(self, contexts, quoted_cost_ticks, available_lots, *, size_lots, side=1, decision_id=0):
        """Route one child order; the Python view of `route`, for tests and research.

        Parameters
        ----------
        contexts : array, shape (2 * venues, 8)
            Arms in the order (venue 0 take, venue 0 post, venue 1 take, ...).
        quoted_cost_ticks : array, shape (2 * venues,)
        available_lots : array of int, shape (2 * venues,)

        Returns
        -------
        tuple
            ``(arm, [(venue, style, size_lots), ...])``; arm is -1 where the policy splits.
        """
        cdef RouteRequest request
        cdef RouteAnswer answer
        cdef int arm, index
        rows = np.ascontiguousarray(contexts, dtype=np.float64)
        costs = np.ascontiguousarray(quoted_cost_ticks, dtype=np.float64)
        lots = np.ascontiguousarray(available_lots, dtype=np.int64)
        arms = self.arm_count or (rows.shape[0] if rows.ndim == 2 else 0)
        if rows.shape != (arms, CONTEXT_SIZE) or arms % 2 or not 2 <= arms <= ARM_MAX:
            wanted = self.arm_count or "2 * venues"
            raise ValueError(f"contexts must have shape ({wanted}, {CONTEXT_SIZE}), was {rows.shape}")
        if costs.shape != (arms,) or lots.shape != (arms,):
            raise ValueError(
                f"costs and lots must be one number per arm, {arms} each, were {costs.shape} and {lots.shape}"
            )
        if not (np.isfinite(rows).all() and np.isfinite(costs).all()):
            raise ValueError("contexts and costs must be finite")
        # Far below 2**63, so that sums over venues stay within it.
        if (lots < 0).any() or (lots >= LOTS_LIMIT).any():
            raise ValueError("available lots must not be negative, and below 2**58")
        if not 0 < size_lots < LOTS_LIMIT:
            raise ValueError(f"size_lots must be positive and below 2**58, was {size_lots}")
        if side != 1 and side != -1:
            raise ValueError(f"side must be +1 or -1, was {side}")
        cdef double[:, ::1] values = rows
        memset(&request, 0, sizeof(RouteRequest))
        memset(&answer, 0, sizeof(RouteAnswer))
        request.decision_id = decision_id
        request.size_lots = size_lots
        request.side = side
        request.arm_count = arms
        request.venue_count = request.arm_count // 2
        for arm in range(request.arm_count):
            memcpy(request.arms[arm].context, &values[arm, 0], CONTEXT_SIZE * sizeof(double))
            request.arms[arm].quoted_cost_ticks = costs[arm]
            request.arms[arm].available_lots = lots[arm]
            request.arms[arm].venue = arm // 2
            request.arms[arm].style = arm % 2
        self.route(&request, &answer)
        legs = [
            (answer.legs[index].venue, answer.legs[index].style, answer.legs[index].size_lots)
            for index in range(answer.leg_count)
        ]
        return answer.arm, legs

    def learn(self, int arm, context, double value):
        """Reward `arm`, played at `context` (8 numbers), with `value`."""
        cdef double[::1] row = np.ascontiguousarray(context, dtype=np.float64)
        cdef int arms = self.arm_count or ARM_MAX
        if not 0 <= arm < arms:
            raise ValueError(f"arm must be below {arms}, was {arm}")
        if row.shape[0] != CONTEXT_SIZE:
            raise ValueError(f"context must have {CONTEXT_SIZE} numbers, had {row.shape[0]}")
        if not (isfinite(value) and np.isfinite(row).all()):
            raise ValueError("context and value must be finite")
        self.reward(arm, &row[0], value)


@cython.final
@cython.auto_pickle(False)
cdef class LinUcbRouter(Router):
    """LinUCB over (venue, style) arms."""

    cdef readonly LinUcb bandit

    def __cinit__(self, int venue_count, *, double alpha=1.0, double ridge=1.0):
        self.name = "linucb"
        self.arm_count = arms_of(venue_count)
        self.bandit = LinUcb(self.arm_count, CONTEXT_SIZE, alpha=alpha, ridge=ridge)

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        cdef double best = 0.0, value
        cdef int arm, chosen = -1
        for arm in range(request.arm_count):
            if request.arms[arm].available_lots <= 0:
                continue       # that side of the venue shows nothing to trade with or to join
            value = self.bandit.score(arm, request.arms[arm].context)
            if chosen < 0 or value > best:
                best = value
                chosen = arm
        answer.leg_count = 0
        if chosen >= 0:
            answer_with_arm(request, answer, chosen)
            answer.score = <float>best

    cdef void reward(self, int arm, const double* context, double value) noexcept nogil:
        self.bandit.learn(arm, context, value)


@cython.final
@cython.auto_pickle(False)
cdef class EpsilonGreedyRouter(Router):
    """The arm with the best average reward so far, and a random one every now and then."""

    cdef double epsilon
    cdef uint64_t seed
    cdef double[ARM_MAX] total
    cdef double[ARM_MAX] plays

    def __cinit__(self, int venue_count, *, double epsilon=0.05, uint64_t seed=1):
        self.name = "epsilon_greedy"
        self.arm_count = arms_of(venue_count)
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon must be 0 to 1, was {epsilon}")
        self.epsilon = epsilon
        self.seed = seed
        memset(self.total, 0, sizeof(self.total))
        memset(self.plays, 0, sizeof(self.plays))

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        cdef uint64_t bits = draw64(self.seed, request.decision_id, 77)
        cdef int arm, best = -1, choices = 0
        cdef int[ARM_MAX] offered
        cdef double value, top = 0.0
        for arm in range(self.arm_count):
            if request.arms[arm].available_lots <= 0:
                continue
            offered[choices] = arm
            choices += 1
            value = self.total[arm] / self.plays[arm] if self.plays[arm] > 0.0 else 1e18
            if best < 0 or value > top:
                top = value
                best = arm
        answer.leg_count = 0
        if best < 0:
            return
        arm = best
        if uniform_of(bits) < self.epsilon:
            arm = offered[draw64(self.seed, request.decision_id, 78) % <uint64_t>choices]
        answer_with_arm(request, answer, arm)
        answer.score = <float>top
        answer.propensity = <float>(self.epsilon / choices + (1.0 - self.epsilon if arm == best else 0.0))

    cdef void reward(self, int arm, const double* context, double value) noexcept nogil:
        self.total[arm] += value
        self.plays[arm] += 1.0


@cython.final
@cython.auto_pickle(False)
cdef class SingleBestRouter(Router):
    """Always the venue whose quotes were cheapest, on average, in the window before.

    Parameters
    ----------
    post : bool
        Post there instead of taking; quotes are then compared on our own side, maker fees included.
    """

    cdef double[LEG_MAX] cost
    cdef int64_t[LEG_MAX] seen      # decisions at which the venue showed that side
    cdef int venue
    cdef int style

    def __cinit__(self, *, bint post=False):
        self.name = "single_post" if post else "single_best"
        self.style = STYLE_POST if post else STYLE_TAKE
        self.venue = -1

    cdef int cheapest(self, int venue_count) noexcept nogil:
        """Return the venue with the lowest average so far, -1 when none showed anything."""
        cdef int venue, best = -1
        cdef double average, lowest = 0.0
        for venue in range(venue_count):
            if self.seen[venue] > 0:
                average = self.cost[venue] / <double>self.seen[venue]
                if best < 0 or average < lowest:
                    lowest = average
                    best = venue
        return best

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        cdef int arm, venue
        for arm in range(request.arm_count):
            # An absent quote says nothing of what the venue costs.
            if request.arms[arm].style == self.style and request.arms[arm].available_lots > 0:
                venue = request.arms[arm].venue
                self.cost[venue] += request.arms[arm].quoted_cost_ticks
                self.seen[venue] += 1
        venue = self.venue
        if not 0 <= venue < request.venue_count:
            venue = max(self.cheapest(request.venue_count), 0)
        answer_with_arm(request, answer, 2 * venue + self.style)

    cdef void begin_window(self) noexcept nogil:
        cdef int venue = self.cheapest(LEG_MAX)
        if venue < 0:
            return
        self.venue = venue
        memset(self.cost, 0, sizeof(self.cost))
        memset(self.seen, 0, sizeof(self.seen))


@cython.final
@cython.auto_pickle(False)
cdef class SweepRouter(Router):
    """Best-price sweep: take what is displayed, cheapest venue first."""

    def __init__(self):
        self.name = "sweep"


@cython.final
@cython.auto_pickle(False)
cdef class ProRataRouter(Router):
    """Take at every venue in proportion to what it displays."""

    def __init__(self):
        self.name = "pro_rata"

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        cdef int arm
        cdef int64_t displayed = 0, left = request.size_lots, piece
        cdef const ArmView* view
        for arm in range(request.arm_count):
            if request.arms[arm].style == STYLE_TAKE:
                displayed += request.arms[arm].available_lots
        if displayed <= 0:
            sweep(request, answer)
            return
        answer.leg_count = 0
        answer.arm = -1
        answer.score = 0.0
        answer.propensity = 1.0
        for arm in range(request.arm_count):
            view = &request.arms[arm]
            if view.style != STYLE_TAKE or view.available_lots <= 0:
                continue
            # Rounding down each share leaves less than one lot per venue; the first leg takes it.
            piece = <int64_t>(<double>request.size_lots * <double>view.available_lots / <double>displayed)
            if piece > 0:
                answer.legs[answer.leg_count].venue = view.venue
                answer.legs[answer.leg_count].style = STYLE_TAKE
                answer.legs[answer.leg_count].size_lots = piece
                answer.leg_count += 1
                left -= piece
        if answer.leg_count == 0:
            sweep(request, answer)
        elif left > 0:
            answer.legs[0].size_lots += left


@cython.final
@cython.auto_pickle(False)
cdef class RoundRobinRouter(Router):
    """Take at one venue after the other."""

    cdef uint64_t turn

    def __init__(self):
        self.name = "round_robin"
        self.turn = 0

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        answer_with_arm(request, answer, 2 * <int>(self.turn % <uint64_t>request.venue_count))
        self.turn += 1


@cython.final
@cython.auto_pickle(False)
cdef class ArmProbeRouter(Router):
    """Every arm for every parent: parent number n plays arm n modulo the number of arms.

    With a plan that repeats each parent once per arm, this measures what every fixed arm would have
    cost: the yardstick of regret.
    """

    def __init__(self):
        self.name = "arm_probe"

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        answer_with_arm(request, answer, <int>((request.decision_id >> 16) % <uint64_t>request.arm_count))
