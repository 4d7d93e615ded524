from typing import Final, final

import numpy as np

SAMPLE_DTYPE: Final[np.dtype[np.void]]
EQUITY_DTYPE: Final[np.dtype[np.void]]

@final
class LoopRecords: ...
