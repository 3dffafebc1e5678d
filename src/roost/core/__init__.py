"""Decisions: pure functions of frozen values. No clock, no dice, no IO."""
