"""Routing policies: LinUCB and the baselines it has to beat (policies in Python: ext/python_router.pyx)."""

cimport cython
cimport numpy as cnp
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy, memset

import numpy as np

from ext.linucb cimport LinUcb
from ext.rng cimport draw64, uniform_of

cnp.import_array()


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
        if rows.ndim != 2 or rows.shape[1] != CONTEXT_SIZE or rows.shape[0] % 2 or rows.shape[0] > ARM_MAX:
            raise ValueError(f"contexts must have shape (2 * venues, {CONTEXT_SIZE}), was {rows.shape}")
        cdef double[:, ::1] values = rows
        memset(&request, 0, sizeof(RouteRequest))
        memset(&answer, 0, sizeof(RouteAnswer))
        request.decision_id = decision_id
        request.size_lots = size_lots
        request.side = side
        request.arm_count = <int>rows.shape[0]
        request.venue_count = request.arm_count // 2
        for arm in range(request.arm_count):
            memcpy(request.arms[arm].context, &values[arm, 0], CONTEXT_SIZE * sizeof(double))
            request.arms[arm].quoted_cost_ticks = quoted_cost_ticks[arm]
            request.arms[arm].available_lots = available_lots[arm]
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
        if row.shape[0] != CONTEXT_SIZE:
            raise ValueError(f"context must have {CONTEXT_SIZE} numbers, had {row.shape[0]}")
        self.reward(arm, &row[0], value)


@cython.final
@cython.auto_pickle(False)
cdef class LinUcbRouter(Router):
    """LinUCB over (venue, style) arms."""

    cdef readonly LinUcb bandit

    def __init__(self, int venue_count, *, double alpha=1.0, double ridge=1.0):
        self.name = "linucb"
        self.bandit = LinUcb(2 * venue_count, CONTEXT_SIZE, alpha=alpha, ridge=ridge)

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
    cdef int arm_count
    cdef double[ARM_MAX] total
    cdef double[ARM_MAX] plays

    def __init__(self, int venue_count, *, double epsilon=0.05, uint64_t seed=1):
        self.name = "epsilon_greedy"
        if not 0.0 <= epsilon <= 1.0:
            raise ValueError(f"epsilon must be 0 to 1, was {epsilon}")
        if not 1 <= venue_count <= ARM_MAX // 2:
            raise ValueError(f"venue_count must be 1 to {ARM_MAX // 2}, was {venue_count}")
        self.epsilon = epsilon
        self.seed = seed
        self.arm_count = 2 * venue_count
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
    cdef double seen
    cdef int venue
    cdef int style

    def __init__(self, *, bint post=False):
        self.name = "single_post" if post else "single_best"
        self.style = STYLE_POST if post else STYLE_TAKE
        self.venue = -1
        self.seen = 0.0
        memset(self.cost, 0, sizeof(self.cost))

    cdef int cheapest(self, int venue_count) noexcept nogil:
        cdef int venue, best = 0
        for venue in range(1, venue_count):
            if self.cost[venue] < self.cost[best]:
                best = venue
        return best

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        cdef int arm, venue
        for arm in range(request.arm_count):
            if request.arms[arm].style == self.style:
                self.cost[request.arms[arm].venue] += request.arms[arm].quoted_cost_ticks
        self.seen += 1.0
        venue = self.venue if self.venue >= 0 else self.cheapest(request.venue_count)
        answer_with_arm(request, answer, 2 * venue + self.style)

    cdef void begin_window(self) noexcept nogil:
        # The number of venues is not known here, but costs of absent venues are exactly zero.
        cdef int venue, best = -1
        if self.seen == 0.0:
            return
        for venue in range(LEG_MAX):
            if self.cost[venue] != 0.0 and (best < 0 or self.cost[venue] < self.cost[best]):
                best = venue
        self.venue = best
        self.seen = 0.0
        memset(self.cost, 0, sizeof(self.cost))


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
