from typing import Final

QUEUE_MODES: Final[dict[str, int]]
