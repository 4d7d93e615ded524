from typing import Final

CONTEXT_NAMES: Final[tuple[str, ...]]
