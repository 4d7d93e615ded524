from typing import Final, final

import numpy as np

DAY_STATS_DTYPE: Final[np.dtype[np.void]]

@final
class ExecutionStats:
    def __new__(cls, *, groups: int, first_day: int, day_count: int, window_max: int) -> ExecutionStats: ...
