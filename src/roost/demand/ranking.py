"""A set of integers in order that knows how many are smaller than each: a place in a queue of 100,000 costs microseconds."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator

_FULL = 1024
"""Of a block. Small enough that moving its items costs less than a microsecond, large enough that there are few blocks to count."""


class Ranking:
    """Blocks of sorted numbers. Numbers mostly arrive in order, at the end, and mostly leave at the front."""

    def __init__(self) -> None:
        self._blocks: list[list[int]] = []
        self._tops: list[int] = []
        """The largest number of each block."""
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        for block in self._blocks:
            yield from block

    def __contains__(self, number: int) -> bool:
        at = bisect_left(self._tops, number)
        if at == len(self._blocks):
            return False
        block = self._blocks[at]
        return block[bisect_left(block, number)] == number

    def first(self) -> int | None:
        return self._blocks[0][0] if self._blocks else None

    def rank(self, number: int) -> int:
        """How many are smaller; the number itself need not be there."""
        at = bisect_left(self._tops, number)
        before = sum(map(len, self._blocks[:at]))
        return before + bisect_left(self._blocks[at], number) if at < len(self._blocks) else before

    def add(self, number: int) -> None:
        """Adding what is there already changes nothing."""
        at = bisect_left(self._tops, number)
        if at == len(self._blocks):
            self._append(number)
            return
        block = self._blocks[at]
        if block[bisect_left(block, number)] == number:
            return
        insort(block, number)
        self._size += 1
        if len(block) > _FULL:
            half = len(block) // 2
            self._blocks[at : at + 1] = [block[:half], block[half:]]
            self._tops.insert(at, block[half - 1])

    def remove(self, number: int) -> bool:
        """False if it was not there."""
        at = bisect_left(self._tops, number)
        if at == len(self._blocks):
            return False
        block = self._blocks[at]
        place = bisect_left(block, number)
        if block[place] != number:
            return False
        del block[place]
        self._size -= 1
        if not block:
            del self._blocks[at], self._tops[at]
        elif place == len(block):
            self._tops[at] = block[-1]
        return True

    def _append(self, number: int) -> None:
        self._size += 1
        if not self._blocks or len(self._blocks[-1]) >= _FULL:
            self._blocks.append([number])
            self._tops.append(number)
        else:
            self._blocks[-1].append(number)
            self._tops[-1] = number
