from typing import final

from numpy.typing import ArrayLike

from ext.linucb import LinUcb

class Router:
    @property
    def name(self) -> str: ...
    @property
    def arm_count(self) -> int: ...
    def begin(self) -> None: ...
    def decide(
        self,
        contexts: ArrayLike,
        quoted_cost_ticks: ArrayLike,
        available_lots: ArrayLike,
        *,
        size_lots: int,
        side: int = 1,
        decision_id: int = 0,
    ) -> tuple[int, list[tuple[int, int, int]]]: ...
    def learn(self, arm: int, context: ArrayLike, value: float) -> None: ...

@final
class LinUcbRouter(Router):
    def __new__(cls, venue_count: int, *, alpha: float = 1.0, ridge: float = 1.0) -> LinUcbRouter: ...
    @property
    def bandit(self) -> LinUcb: ...

@final
class EpsilonGreedyRouter(Router):
    def __new__(cls, venue_count: int, *, epsilon: float = 0.05, seed: int = 1) -> EpsilonGreedyRouter: ...

@final
class SingleBestRouter(Router):
    def __new__(cls, *, post: bool = False) -> SingleBestRouter: ...

@final
class SweepRouter(Router):
    def __new__(cls) -> SweepRouter: ...

@final
class ProRataRouter(Router):
    def __new__(cls) -> ProRataRouter: ...

@final
class RoundRobinRouter(Router):
    def __new__(cls) -> RoundRobinRouter: ...

@final
class ArmProbeRouter(Router):
    def __new__(cls) -> ArmProbeRouter: ...
