"""The probes of the machine's limits do the work that they time."""

from __future__ import annotations

import numpy as np
import pytest

from ext.limit_probe import chase_links, read_clock, read_stream


def test_every_word_is_read() -> None:
    words = np.random.default_rng(1).integers(0, 2**63, 8_000, dtype=np.uint64)
    took_ns, total = read_stream(words)
    assert total == int(words.sum(dtype=np.uint64))
    assert took_ns >= 0


def test_links_are_followed() -> None:
    links = np.array([3, 0, 1, 2])
    assert [chase_links(links, steps)[1] for steps in range(6)] == [0, 3, 2, 1, 0, 3]


@pytest.mark.parametrize("links", [[], [1], [-1], [0, 2]])
def test_links_stay_inside(links: list[int]) -> None:
    with pytest.raises(ValueError, match="within"):
        chase_links(np.array(links, np.int64), 1)


@pytest.mark.parametrize("count", [0, 7, 9])
def test_words_come_in_lines(count: int) -> None:
    with pytest.raises(ValueError, match="lines"):
        read_stream(np.ones(count, np.uint64))


def test_the_clock_goes_on() -> None:
    assert read_clock(100) > 0
