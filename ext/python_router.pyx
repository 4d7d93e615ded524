"""The door for routing policies written in Python."""

cimport cython

import numpy as np

from ext.routing cimport (
    CONTEXT_SIZE, LEG_MAX, STYLE_POST, STYLE_TAKE, RouteAnswer, Router, RouteRequest,
)


@cython.final
@cython.auto_pickle(False)
cdef class PythonRouter(Router):
    """A routing policy written in Python, called with the GIL once per decision.

    Parameters
    ----------
    policy : engine.routing.RoutingPolicy

    Notes
    -----
    An exception or an answer that does not add up stops the run: it is kept in `error` and the child
    is not sent.
    """

    cdef object policy
    cdef readonly object error

    def __init__(self, policy):
        self.policy = policy
        self.name = policy.name
        self.error = None

    cdef void route(self, const RouteRequest* request, RouteAnswer* answer) noexcept nogil:
        answer.leg_count = 0
        answer.arm = -1
        answer.score = 0.0
        answer.propensity = 1.0
        with gil:
            if self.error is None:
                try:
                    self.ask(request, answer)
                except Exception as error:
                    self.error = error
                    answer.leg_count = 0

    cdef ask(self, const RouteRequest* request, RouteAnswer* answer):
        cdef int arm, index
        contexts = np.empty((request.arm_count, CONTEXT_SIZE))
        costs = np.empty(request.arm_count)
        available = np.empty(request.arm_count, dtype=np.int64)
        for arm in range(request.arm_count):
            for index in range(CONTEXT_SIZE):
                contexts[arm, index] = request.arms[arm].context[index]
            costs[arm] = request.arms[arm].quoted_cost_ticks
            available[arm] = request.arms[arm].available_lots
        chosen, legs = self.policy.decide(
            contexts, costs, available,
            size_lots=request.size_lots, side=request.side, decision_id=request.decision_id,
        )
        total = 0
        if len(legs) > LEG_MAX:
            raise ValueError(f"{self.name}: at most {LEG_MAX} legs, was {len(legs)}")
        for index, (venue, style, size_lots) in enumerate(legs):
            known = 0 <= venue < request.venue_count and style in (STYLE_TAKE, STYLE_POST)
            if not known or size_lots <= 0:
                raise ValueError(f"{self.name}: leg {index} is not a known venue and style of positive size")
            answer.legs[index].venue = venue
            answer.legs[index].style = style
            answer.legs[index].size_lots = size_lots
            total += size_lots
        if legs and total != request.size_lots:
            raise ValueError(f"{self.name}: legs must add up to {request.size_lots} lots, was {total}")
        if not -1 <= chosen < request.arm_count:
            raise ValueError(f"{self.name}: arm must be -1 to {request.arm_count - 1}, was {chosen}")
        answer.arm = chosen
        answer.leg_count = len(legs)

    cdef void reward(self, int arm, const double* context, double value) noexcept nogil:
        with gil:
            if self.error is None:
                try:
                    self.policy.learn(arm, np.array(<double[:CONTEXT_SIZE]>context), value)
                except Exception as error:
                    self.error = error

    cdef void begin_window(self) noexcept nogil:
        with gil:
            if self.error is None:
                try:
                    self.policy.begin()
                except Exception as error:
                    self.error = error
