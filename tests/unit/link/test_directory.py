"""Who is connected, and when a runner is idle."""

from __future__ import annotations

from roost.link.directory import REMEMBERED, Directory


class Connection:
    runner_id = "r"
    going_away = False


def test_a_runner_with_calls_of_an_earlier_server_is_busy_until_they_end() -> None:
    directory, connection = Directory(), Connection()
    entry = directory.add("r", "rev", 2, connection, 1_000, held=2)  # type: ignore[arg-type]
    assert (entry.free, entry.busy) == (0, 2)
    directory.holds(connection, 1, 2_000)  # type: ignore[arg-type]
    assert (entry.free, entry.busy, entry.idle_since_ms) == (1, 1, 1_000)
    directory.took(entry)
    directory.gave_back(entry, 3_000)
    assert entry.idle_since_ms == 1_000
    directory.holds(connection, 0, 4_000)  # type: ignore[arg-type]
    assert (entry.free, entry.busy, entry.idle_since_ms) == (2, 0, 4_000)


def test_what_an_older_connection_says_about_held_calls_is_no_news() -> None:
    directory, older, newer = Directory(), Connection(), Connection()
    directory.add("r", "rev", 1, older, 0)  # type: ignore[arg-type]
    entry = directory.add("r", "rev", 1, newer, 0)  # type: ignore[arg-type]
    directory.holds(older, 1, 0)  # type: ignore[arg-type]
    assert entry.free == 1


def test_a_resumed_call_moves_from_held_to_in_flight_and_is_never_counted_twice() -> None:
    directory, connection = Directory(), Connection()
    entry = directory.add("r", "rev", 2, connection, 1_000, held=1)  # type: ignore[arg-type]
    directory.took_over(connection)  # type: ignore[arg-type]
    assert (entry.in_flight, entry.held, entry.free) == (1, 0, 1)
    directory.holds(connection, 0, 2_000)  # type: ignore[arg-type]
    assert (entry.in_flight, entry.held, entry.free, entry.busy) == (1, 0, 1, 1)
    directory.ended(connection, 3_000)  # type: ignore[arg-type]
    assert (entry.free, entry.busy, entry.idle_since_ms) == (2, 0, 3_000)


def test_the_end_of_a_resumed_call_on_an_older_connection_frees_nothing_on_the_newer() -> None:
    directory, older, newer = Directory(), Connection(), Connection()
    directory.add("r", "rev", 1, older, 0, held=1)  # type: ignore[arg-type]
    directory.took_over(older)  # type: ignore[arg-type]
    entry = directory.add("r", "rev", 1, newer, 0, held=1)  # type: ignore[arg-type]
    directory.ended(older, 0)  # type: ignore[arg-type]
    assert (entry.in_flight, entry.held, entry.free) == (0, 1, 0)


def test_the_newest_hints_of_a_runner_are_remembered_and_the_oldest_forgotten() -> None:
    entry = Directory().add("r", "rev", 1, Connection(), 0)  # type: ignore[arg-type]
    for number in range(REMEMBERED):
        entry.remember(f"h{number}")
    entry.remember("h0")
    entry.remember("new")
    assert len(entry.remembered) == REMEMBERED
    assert "h1" not in entry.remembered and {"h0", "h2", "new"} <= entry.remembered.keys()


def test_a_runner_that_dials_again_keeps_its_hints() -> None:
    directory = Directory()
    entry = directory.add("r", "rev", 1, Connection(), 0)  # type: ignore[arg-type]
    entry.remember("h")
    entry.hints = ("reported",)
    again = directory.add("r", "rev", 1, Connection(), 0)  # type: ignore[arg-type]
    assert (again.hints, list(again.remembered)) == (("reported",), ["h"])
