"""Who is tried next: receivers take turns, each at its own pace, so that one that hangs holds up nobody (faults.md F-67, F-70).

A lane is one receiver. It begins with one try at a time and earns more by answering (`core.pace`); those that fail may not take more than half of
all there is, however many they are. Nothing here waits or knows what time it is.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final

from roost.core import pace
from roost.core.pace import Pace
from roost.core.webhooks import LARGEST_PAYLOAD, Webhook

ALL_AT_ONCE: Final = 64
FAILING_AT_ONCE: Final = 32
"""Tries of receivers that fail: they may take two minutes each."""
LARGE: Final = 1024 * 1024
LARGE_TOGETHER: Final = 32 * 1024 * 1024
"""Bytes of large bodies that may be in memory at once."""
_REMEMBERED: Final = 4_096


@dataclass(slots=True)
class _Lane:
    pace: Pace
    waiting: deque[Webhook] = field(default_factory=deque[Webhook])
    under_way: int = 0
    began_ms: int = -(1 << 62)
    """The newest try."""
    failed_ms: int = -(1 << 62)
    """When it was last found to fail."""

    def free_ms(self) -> int:
        """When the next try may begin, as far as time has to do with it."""
        return max(self.began_ms + self.pace.gap_ms, self.failed_ms + self.pace.rest_ms)


class Lanes:
    """All webhooks that are due and known, and those under way."""

    def __init__(self, a_second: float) -> None:
        """`a_second`: tries of one receiver at most; 0 is no limit."""
        self._fresh = pace.of_rate(a_second)
        self._lanes: dict[str, _Lane] = {}
        self._in_turn: OrderedDict[str, _Lane] = OrderedDict()
        """Those with something that waits; the first has waited longest for its turn."""
        self._known: set[int] = set()
        self._under_way = 0
        self._failing = 0
        """Tries under way of receivers that fail."""
        self._large = 0

    @property
    def under_way(self) -> int:
        return self._under_way

    def offer(self, webhook: Webhook) -> None:
        """It is due. Again is fine."""
        if webhook.seq in self._known:
            return
        self._known.add(webhook.seq)
        lane = self._lanes.get(webhook.receiver)
        if lane is None:
            if len(self._lanes) >= _REMEMBERED:
                self._forget_idle()
            lane = self._lanes[webhook.receiver] = _Lane(self._fresh)
        lane.waiting.append(webhook)
        self._in_turn.setdefault(webhook.receiver, lane)

    def waiting(self, receiver: str) -> int:
        lane = self._lanes.get(receiver)
        return len(lane.waiting) if lane is not None else 0

    def take(self, now_ms: int) -> Webhook | None:
        """The one to try now; it is under way until `ended`. None: nobody may be tried now."""
        if self._under_way >= ALL_AT_ONCE:
            return None
        for receiver, lane in self._in_turn.items():
            if self._may_begin(lane) and lane.free_ms() <= now_ms:
                return self._begin(receiver, lane, now_ms)
        return None

    def ended(self, webhook: Webhook, began_ms: int, now_ms: int, *, trouble: bool | None) -> None:
        """A try that `take` gave has ended. `trouble`: the receiver as a whole fails; None: nothing was learned about it."""
        lane = self._lanes[webhook.receiver]
        self._known.discard(webhook.seq)
        self._count(lane, webhook, -1)
        if trouble:
            # Of several that were under way together, the first one to fail brought the news.
            if began_ms >= lane.failed_ms:
                self._set_pace(lane, pace.failed(lane.pace))
            lane.failed_ms = now_ms
        elif trouble is False:
            self._set_pace(lane, pace.answered(lane.pace))

    def next_moment(self) -> int | None:
        """When `take` should be asked again if nothing happens before; None: only then."""
        if self._under_way >= ALL_AT_ONCE:
            return None
        return min((lane.free_ms() for lane in self._in_turn.values() if self._may_begin(lane)), default=None)

    def _may_begin(self, lane: _Lane) -> bool:
        """As far as time has nothing to do with it."""
        if lane.under_way >= lane.pace.at_once or (lane.pace.failures and self._failing >= FAILING_AT_ONCE):
            return False
        large = _large(lane.waiting[0])
        # One alone always: it may be larger than there is room for.
        return not large or not self._large or self._large + large <= LARGE_TOGETHER

    def _begin(self, receiver: str, lane: _Lane, now_ms: int) -> Webhook:
        webhook = lane.waiting.popleft()
        lane.began_ms = now_ms
        self._count(lane, webhook, 1)
        if lane.waiting:
            self._in_turn.move_to_end(receiver)
        else:
            del self._in_turn[receiver]
        return webhook

    def _count(self, lane: _Lane, webhook: Webhook, change: int) -> None:
        lane.under_way += change
        self._under_way += change
        self._failing += change if lane.pace.failures else 0
        self._large += change * _large(webhook)

    def _set_pace(self, lane: _Lane, to: Pace) -> None:
        if bool(lane.pace.failures) != bool(to.failures):
            self._failing += lane.under_way if to.failures else -lane.under_way
        lane.pace = to

    def _forget_idle(self) -> None:
        self._lanes = {receiver: lane for receiver, lane in self._lanes.items() if lane.under_way or lane.waiting or lane.pace.failures}


def _large(webhook: Webhook) -> int:
    return webhook.size if LARGE < webhook.size <= LARGEST_PAYLOAD else 0
