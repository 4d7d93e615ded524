"""A routing policy in Python beside the compiled ones: same requests, same rules."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engine.routing import Leg, Style, as_router, make_router


class HalfAndHalf:
    """Takes half at the cheapest venue and rests the other half there."""

    name = "half_and_half"

    def decide(
        self,
        contexts: NDArray[np.float64],
        quoted_cost_ticks: NDArray[np.float64],
        available_lots: NDArray[np.int64],
        *,
        size_lots: int,
        side: int = 1,
        decision_id: int = 0,
    ) -> tuple[int, list[Leg]]:
        venue = int(np.argmin(quoted_cost_ticks[::2]))
        take = size_lots - size_lots // 2
        legs = [(venue, int(Style.TAKE), take), (venue, int(Style.POST), size_lots - take)]
        return -1, [leg for leg in legs if leg[2] > 0]

    def learn(self, arm: int, context: NDArray[np.float64], value: float) -> None:
        pass

    def begin(self) -> None:
        pass


contexts = np.ones((6, 8))
costs = np.array([3.0, -1.0, 2.0, -1.0, 4.0, -1.0])
shown = np.array([20, 5, 8, 5, 50, 5])
for router in (as_router(HalfAndHalf()), make_router("sweep", 3), make_router("pro_rata", 3)):
    arm, legs = router.decide(contexts, costs, shown, size_lots=25)
    print(f"{router.name}: {legs}")
