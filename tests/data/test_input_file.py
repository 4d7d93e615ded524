"""Files that users name: what is wrong with them is told in words."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from data.errors import ConfigError, DataError
from data.importers.json_mapping import load_json_mapping
from data.input_file import require_file
from data.mapping import load_mapping
from data.quality_gate import load_gate


@pytest.mark.parametrize("load", [load_gate, load_mapping, load_json_mapping])
def test_what_is_wrong_with_a_file_is_told_in_words(load, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "gate.toml"
    with pytest.raises(ConfigError, match=r"gate\.toml: expected a file that can be read, was: No such file"):
        load(path)
    for text in (b"= 3", b"\xff"):
        path.write_bytes(text)
        with pytest.raises(ConfigError, match=r"gate\.toml: expected TOML, was: "):
            load(path)


def test_a_folder_is_named_as_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected an existing file, was a folder$"):
        require_file(tmp_path)
    with pytest.raises(DataError, match=r"expected an existing file$"):
        require_file(tmp_path / "absent")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"expected an existing file, was a pipe or a device$"):
        require_file(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DataError, match=r"expected an existing file$"):
        require_file(tmp_path / "loop")
