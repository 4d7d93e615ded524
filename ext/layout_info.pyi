from typing import Any

COMPILER: str
DEBUG_BUILD: bool
RECV_NOT_RECORDED: int
STRUCT_BYTES: dict[str, int]

def decode(struct: str, raw: bytes) -> dict[str, Any]: ...
