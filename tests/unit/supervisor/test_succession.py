"""Which server serves and which comes next, told as stories: events in, orders out."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.supervisor import succession
from roost.supervisor.succession import End, EndBuilds, GiveUp, Go, HandOver, Limits, Order, RestartFailed, Start, Step, Succession

LIMITS = Limits(load_ms=1_000, first_load_ms=4_000, leaving_ms=60_000)


class Story:
    """Events in the order told; keeps the clock."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.state = Succession(LIMITS)

    def told(self, step: Step) -> tuple[Order, ...]:
        self.state, orders = step
        return orders

    def begin(self) -> tuple[Order, ...]:
        return self.told(succession.begin(LIMITS, self.now_ms))

    def loaded(self, number: int) -> tuple[Order, ...]:
        return self.told(succession.loaded(self.state, number, self.now_ms))

    def serving(self, number: int) -> tuple[Order, ...]:
        return self.told(succession.serving(self.state, number, self.now_ms))

    def restart(self) -> tuple[Order, ...]:
        return self.told(succession.restart(self.state, self.now_ms))

    def handed_over(self, number: int) -> tuple[Order, ...]:
        return self.told(succession.handed_over(self.state, number, self.now_ms))

    def ended(self, number: int, code: int | None = None) -> tuple[Order, ...]:
        return self.told(succession.ended(self.state, number, code, self.now_ms))

    def after(self, ms: int) -> tuple[Order, ...]:
        self.now_ms += ms
        return self.told(succession.tick(self.state, self.now_ms))

    def at_deadline(self) -> tuple[Order, ...]:
        deadline_ms = succession.deadline_ms(self.state)
        assert deadline_ms is not None
        return self.after(deadline_ms - self.now_ms)


def serving() -> Story:
    """Server 1 has served for a long time."""
    story = Story()
    story.begin()
    story.loaded(1)
    story.serving(1)
    story.after(60_000)
    return story


def test_the_first_server_goes_as_soon_as_it_is_loaded() -> None:
    story = Story()
    assert story.begin() == (Start(1),)
    assert story.loaded(1) == (Go(1),)
    assert story.serving(1) == ()
    assert succession.deadline_ms(story.state) is None


def test_a_planned_restart_lets_the_next_go_when_the_old_one_has_handed_over() -> None:
    story = serving()
    assert story.restart() == (Start(2),)
    assert story.loaded(2) == (HandOver(1),)
    assert story.handed_over(1) == (EndBuilds(1), Go(2))
    assert story.ended(1, 0) == (EndBuilds(1),)
    assert story.state.current is not None
    assert story.state.current.number == 2


def test_a_second_restart_while_one_is_under_way_changes_nothing() -> None:
    story = serving()
    story.restart()
    assert story.restart() == ()
    story.loaded(2)
    assert story.restart() == ()


def test_a_restart_before_anybody_serves_changes_nothing() -> None:
    story = Story()
    story.begin()
    assert story.restart() == ()


def test_several_servers_may_be_finishing_their_calls() -> None:
    story = serving()
    for number in (2, 3, 4):
        story.restart()
        story.loaded(number)
        story.handed_over(number - 1)
    assert [leaving.number for leaving in story.state.leaving] == [1, 2, 3]
    story.ended(2, 0)
    assert [leaving.number for leaving in story.state.leaving] == [1, 3]


def test_a_new_server_that_dies_is_abandoned() -> None:
    story = serving()
    story.restart()
    builds, failed = story.ended(2, 1)
    assert builds == EndBuilds(2)
    assert isinstance(failed, RestartFailed)
    assert failed.number == 1
    assert "exit code 1" in failed.why
    assert story.restart() == (Start(3),)


def test_a_new_server_that_does_not_load_is_ended_and_abandoned() -> None:
    story = serving()
    story.restart()
    assert story.after(999) == ()
    (end,) = story.after(1)
    assert end == End(2, 0, "not loaded within 1 s")
    assert story.after(0) == (), "it is ended once"
    assert isinstance(story.ended(2)[-1], RestartFailed)


def test_an_old_server_that_does_not_hand_over_is_ended_and_the_new_one_goes() -> None:
    story = serving()
    story.restart()
    story.loaded(2)
    (end,) = story.at_deadline()
    assert end == End(1, 0, "did not hand over within 1 s")
    assert story.ended(1) == (EndBuilds(1), Go(2))


def test_a_new_server_that_dies_during_the_hand_over_is_followed_by_another() -> None:
    story = serving()
    story.restart()
    story.loaded(2)
    orders = story.ended(2)
    assert [type(order) for order in orders] == [EndBuilds, RestartFailed, Start]
    assert story.handed_over(1) == (EndBuilds(1),), "nobody is loaded yet"
    assert story.loaded(3) == (Go(3),)


def test_a_server_that_dies_while_the_next_one_loads_is_followed_by_it() -> None:
    story = serving()
    story.restart()
    assert story.ended(1) == (EndBuilds(1),)
    assert story.loaded(2) == (Go(2),)


def test_a_hand_over_that_nobody_asked_for_is_ignored() -> None:
    story = serving()
    assert story.handed_over(1) == ()
    assert story.handed_over(7) == ()


def test_calls_in_flight_get_their_limit_and_then_a_grace() -> None:
    story = serving()
    story.restart()
    story.loaded(2)
    story.handed_over(1)
    assert story.after(59_999) == ()
    (end,) = story.after(1)
    assert end == End(1, 5_000, "calls in flight not finished within 60 s")
    assert story.after(1_000) == ()


def test_a_crash_after_a_long_life_is_followed_at_once() -> None:
    assert serving().ended(1) == (EndBuilds(1), Start(2))


def test_quick_deaths_wait_longer_each_time_up_to_five_seconds() -> None:
    story = serving()
    story.ended(1)
    waits: list[int] = []
    for number in range(2, 10):
        assert story.ended(number) == (EndBuilds(number),)
        waits.append((succession.deadline_ms(story.state) or 0) - story.now_ms)
        assert story.at_deadline() == (Start(number + 1),)
    assert waits == [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]
    story.loaded(10)
    story.after(10_000)
    assert story.ended(10) == (EndBuilds(10), Start(11)), "it lived long enough"
    story.ended(11)
    assert (succession.deadline_ms(story.state) or 0) - story.now_ms == 100, "and the waits begin anew"


def test_a_server_that_is_killed_again_and_again_in_its_service_is_followed_at_once_each_time() -> None:
    story = serving()
    story.ended(1)
    for number in range(2, 10):
        story.loaded(number)
        story.serving(number)
        story.after(succession.SERVED_MS)
        assert story.ended(number) == (EndBuilds(number), Start(number + 1))


def test_a_server_that_dies_as_soon_as_it_serves_does_not_spin() -> None:
    story = serving()
    story.ended(1)
    for number in range(2, 5):
        story.loaded(number)
        story.serving(number)
        story.after(succession.SERVED_MS - 1)
        assert story.ended(number) == (EndBuilds(number),)
        assert story.at_deadline() == (Start(number + 1),)


def test_a_server_that_never_served_is_given_up_after_five_tries() -> None:
    story = Story()
    story.begin()
    for number in range(1, 5):
        assert story.ended(number, 1) == (EndBuilds(number),)
        story.at_deadline()
    assert story.ended(5, 1) == (EndBuilds(5), GiveUp("the server ended 5 times before it could serve; it said above why"))


def test_wrong_settings_are_not_tried_again() -> None:
    story = Story()
    story.begin()
    _, give_up = story.ended(1, succession.BAD_CONFIGURATION)
    assert isinstance(give_up, GiveUp)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens, in whatever order: nobody goes while another may hold the store, and somebody always serves or comes."""

    def __init__(self) -> None:
        super().__init__()
        self.story = Story()
        self.alive: set[int] = set()
        self.holds_store: set[int] = set()
        self.asked_to_leave: set[int] = set()
        self.given_up = False
        self.obey(self.story.begin())

    def obey(self, orders: tuple[Order, ...]) -> None:
        for order in orders:
            match order:
                case Start(number):
                    self.alive.add(number)
                case Go(number):
                    assert not self.holds_store
                    assert number in self.alive
                    self.holds_store.add(number)
                case HandOver(number):
                    assert number in self.holds_store
                    self.asked_to_leave.add(number)
                case GiveUp():
                    self.given_up = True
                case _:
                    pass

    def any_alive(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from(sorted(self.alive)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data())
    def one_loads(self, data: st.DataObject) -> None:
        self.obey(self.story.loaded(self.any_alive(data)))

    @precondition(lambda self: self.alive)
    @rule(data=st.data(), code=st.sampled_from([None, 0, 1]))
    def one_ends(self, data: st.DataObject, code: int | None) -> None:
        number = self.any_alive(data)
        self.alive.discard(number)
        self.holds_store.discard(number)
        self.obey(self.story.ended(number, code))

    @precondition(lambda self: self.asked_to_leave & self.holds_store)
    @rule()
    def the_old_one_hands_over(self) -> None:
        (number,) = self.asked_to_leave & self.holds_store
        self.holds_store.discard(number)
        self.obey(self.story.handed_over(number))

    @precondition(lambda self: self.holds_store)
    @rule()
    def the_current_one_serves(self) -> None:
        (number,) = self.holds_store
        self.obey(self.story.serving(number))

    @rule()
    def a_restart_is_asked_for(self) -> None:
        self.obey(self.story.restart())

    @rule(ms=st.integers(0, 20_000))
    def time_passes(self, ms: int) -> None:
        self.obey(self.story.after(ms))

    @invariant()
    def somebody_serves_or_comes(self) -> None:
        state = self.story.state
        assert self.given_up or state.current or state.coming or state.start_at_ms is not None

    @invariant()
    def it_knows_who_lives(self) -> None:
        state = self.story.state
        known = {leaving.number for leaving in state.leaving}
        known |= {one.number for one in (state.current, state.coming) if one is not None}
        assert known == self.alive


TestAnyOrder = AnyOrder.TestCase
