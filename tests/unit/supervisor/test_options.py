from __future__ import annotations

import pytest

from roost.supervisor.options import limits_from_environ
from roost.supervisor.problem import CannotStart


def test_calls_in_flight_get_an_hour_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ROOST_HANDOVER_LIMIT_S", raising=False)
    assert limits_from_environ().leaving_ms == 3_600_000
    monkeypatch.setenv("ROOST_HANDOVER_LIMIT_S", "1.5")
    assert limits_from_environ().leaving_ms == 1_500


def test_a_limit_that_is_no_number_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOST_HANDOVER_LIMIT_S", "an hour")
    with pytest.raises(CannotStart, match="ROOST_HANDOVER_LIMIT_S='an hour' is no number of seconds"):
        limits_from_environ()
