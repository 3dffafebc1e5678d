"""What keeps `roost up` from starting, said to the operator in one sentence."""

from __future__ import annotations


class CannotStart(Exception):
    """What, why, what now; printed as it is, exit code 1."""
