"""The proof: what must hold of every history, whatever was killed while it was written (faults.md §3).

    assert check(read(folder)) == []

Each function below is one sentence of the promise; it answers the requests of which it does not hold.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from tests.histories.history import Called, Handled, History, Listed


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, for whom and how."""

    promise: str
    subject: str
    """A request's id or an idempotency key."""
    why: str

    def __str__(self) -> str:
        return f"{self.promise} {self.subject}: {self.why}"


def check(history: History) -> list[Violation]:
    """Every violation of I1-I6 in a history; none is the proof."""
    return [
        Violation(promise, subject, why)
        for promise, sentences in INVARIANTS.items()
        for sentence in sentences
        for subject, why in sentence(history)
    ]


Broken = Iterator[tuple[str, str]]


# I1: no acknowledged request is missing


def every_acknowledged_request_came_to_its_end(history: History) -> Broken:
    """A caller that was told a request's id saw it COMPLETED before the history ended."""
    ended = {one.request for one in _answers(history, "status") if one.state == "COMPLETED"}
    for request in _acknowledged(history):
        if request not in ended:
            yield request, "was accepted, and nobody saw its end"


def no_acknowledged_request_is_unknown_later(history: History) -> Broken:
    """From the moment of the 200 on, no question about the request is answered with 404."""
    accepted = _acknowledged(history)
    invoked = {one.call: one.at for one in history.called if one.phase == "invoke"}
    for one in history.called:
        # Asked after the acknowledgement: an id can be guessed by nobody before.
        if one.phase == "fail" and one.code == 404 and one.request in accepted and invoked.get(one.call, one.at) > accepted[one.request]:
            yield one.request, f"was accepted, and its {one.op} answered 404 later"


def every_acknowledged_request_is_listed(history: History) -> Broken:
    if history.listed is None:
        return
    known = {one.request for one in history.listed}
    for request in _acknowledged(history):
        if request not in known:
            yield request, "was accepted, and the server does not list it"


# I2: one final state, which never changes


def a_final_state_stays(history: History) -> Broken:
    """Once a status said COMPLETED, every status asked after it says the same, with the same error."""
    invoked = {one.call: one.at for one in history.called if one.phase == "invoke"}
    first: dict[str, Called] = {}
    for one in _answers(history, "status"):
        if one.request not in first:
            if one.state == "COMPLETED":
                first[one.request] = one
        elif invoked.get(one.call, one.at) > first[one.request].at:
            then, now = (first[one.request].state, first[one.request].error_type), (one.state, one.error_type)
            if then != now:
                yield one.request, f"was {_named(*then)}, and later {_named(*now)}"


def nothing_runs_after_the_end(history: History) -> Broken:
    """No handler begins to work on a request that a caller has seen COMPLETED."""
    ended: dict[str, int] = {}
    for one in _answers(history, "status"):
        if one.state == "COMPLETED":
            ended.setdefault(one.request, one.at)
    for run in history.handled:
        if run.what == "start" and run.request in ended and run.at > ended[run.request]:
            yield run.request, f"was COMPLETED, and attempt {run.attempt} began after it"


# I3: attempts' numbers strictly grow, and no two are under way at once


def no_attempt_runs_twice(history: History) -> Broken:
    seen: set[tuple[str, int]] = set()
    for run in history.handled:
        if run.what == "start":
            if (run.request, run.attempt) in seen:
                yield run.request, f"attempt {run.attempt} began twice"
            seen.add((run.request, run.attempt))


def attempts_begin_in_the_order_of_their_numbers(history: History) -> Broken:
    newest: dict[str, int] = defaultdict(int)
    for run in history.handled:
        if run.what == "start":
            if run.attempt < newest[run.request]:
                yield run.request, f"attempt {run.attempt} began after attempt {newest[run.request]}"
            newest[run.request] = max(newest[run.request], run.attempt)


def attempts_are_listed_one_after_another(history: History) -> Broken:
    """The server's own list: numbers 1, 2, 3, each begun when the one before had ended, and none left open."""
    for one in history.listed or ():
        numbers = [tried.number for tried in one.attempts]
        if numbers != list(range(1, len(numbers) + 1)):
            yield one.request, f"its attempts are numbered {numbers}"
        for earlier, later in zip(one.attempts, one.attempts[1:], strict=False):
            if earlier.ended_ms is None or earlier.ended_ms > later.started_ms:
                yield one.request, f"attempt {later.number} began before attempt {earlier.number} had ended"
        if one.state == "COMPLETED" and any(tried.ended_ms is None for tried in one.attempts):
            yield one.request, "is COMPLETED, and one of its attempts is still under way"


def every_run_is_a_listed_attempt(history: History) -> Broken:
    """An attempt is durable before its first byte is sent: a handler never runs for one that the server does not know."""
    if history.listed is None:
        return
    known = {(one.request, tried.number) for one in history.listed for tried in one.attempts}
    for run in history.handled:
        if run.what == "start" and (run.request, run.attempt) not in known:
            yield run.request, f"attempt {run.attempt} ran, and the server does not list it"


# I4: the result is the first one that was committed


def every_answer_is_the_same(history: History) -> Broken:
    first: dict[str, Called] = {}
    for one in _answers(history, "result"):
        then = first.setdefault(one.request, one)
        if (then.code, then.answer) != (one.code, one.answer):
            yield one.request, f"its result was {then.code} {then.answer}, and later {one.code} {one.answer}"


def the_result_is_what_a_handler_answered(history: History) -> Broken:
    made = {(run.request, run.attempt, run.token) for run in history.handled if run.what == "finish"}
    for one in _answers(history, "result"):
        if one.attempt and (one.request, one.attempt, one.answer) not in made:
            yield one.request, f"its result claims to be of attempt {one.attempt}, whose handler did not answer that"


def the_result_is_of_the_attempt_that_is_listed_with_it(history: History) -> Broken:
    listed: dict[str, Listed] = {one.request: one for one in history.listed or ()}
    for one in listed.values():
        if sum(tried.state == "ANSWERED" for tried in one.attempts) > 1:
            yield one.request, "more than one of its attempts is listed as the answer"
    for one in _answers(history, "result"):
        if one.attempt and one.request in listed:
            answered = [tried.number for tried in listed[one.request].attempts if tried.state == "ANSWERED"]
            if answered != [one.attempt]:
                yield one.request, f"its result is of attempt {one.attempt}, and the list says {answered}"


# I5: one idempotency key, one request


def a_key_is_one_request(history: History) -> Broken:
    """Over all acknowledgements, and over all runs: a handler is told the key in its input."""
    requests: dict[str, set[str]] = defaultdict(set)
    for one in _answers(history, "submit"):
        requests[one.key].add(one.request)
    for run in history.handled:
        requests[run.key].add(run.request)
    for key, ids in requests.items():
        if len(ids) > 1:
            yield key, f"became {len(ids)} requests: {', '.join(sorted(ids))}"


def a_request_is_of_one_key(history: History) -> Broken:
    keys: dict[str, set[str]] = defaultdict(set)
    for one in _answers(history, "submit"):
        keys[one.request].add(one.key)
    for request, found in keys.items():
        if len(found) > 1:
            yield request, f"was the answer to the keys {', '.join(sorted(found))}"


def the_server_has_no_more_requests_than_keys(history: History) -> Broken:
    """What is listed is what was submitted: a submit without an answer, sent again with its key, leaves no second row."""
    if history.listed is None:
        return
    keys = {one.key for one in history.called if one.op == "submit"}
    if len(history.listed) > len(keys):
        extra = {one.request for one in history.listed} - _acknowledged(history).keys()
        yield ", ".join(sorted(extra)), f"{len(history.listed)} requests are listed for {len(keys)} keys"


# I6: webhooks: each at least once, always the same


def every_webhook_came(history: History) -> Broken:
    """Whoever was promised an id, and asked to be told, was told: some try was answered 200."""
    told = {one.request for one in history.notified if one.code == 200}
    for request in _asked_to_be_told(history):
        if request not in told:
            yield request, "its webhook never came"


def a_webhook_never_changes(history: History) -> Broken:
    first: dict[str, str] = {}
    for one in history.notified:
        if first.setdefault(one.request, one.body) != one.body:
            yield one.request, "two tries of its webhook have different bytes"


def a_webhook_says_what_the_result_says(history: History) -> Broken:
    results: dict[str, Called] = {}
    for answer in _answers(history, "result"):
        results.setdefault(answer.request, answer)
    for one in history.notified:
        result = results.get(one.request)
        if result is None:
            continue
        if (one.status == "OK") != (result.code == 200):
            yield one.request, f"its webhook says {one.status}, and its result is {result.code}"
        if one.token and one.token != result.answer:
            yield one.request, f"its webhook carries {one.token}, and its result is {result.answer}"


def nobody_is_told_who_did_not_ask(history: History) -> Broken:
    asked = {one.key for one in history.called if one.op == "submit" and one.webhook}
    keys: dict[str, set[str]] = defaultdict(set)
    for known in (*_answers(history, "submit"), *history.handled):
        keys[known.request].add(known.key)
    for one in history.notified:
        # A request whose submit had no answer, and never ran, has no key here.
        if keys[one.request] and not keys[one.request] & asked:
            yield one.request, "did not ask for a webhook, and has one"


Sentence = Callable[[History], Iterable[tuple[str, str]]]
INVARIANTS: Final[dict[str, tuple[Sentence, ...]]] = {
    "I1": (every_acknowledged_request_came_to_its_end, no_acknowledged_request_is_unknown_later, every_acknowledged_request_is_listed),
    "I2": (a_final_state_stays, nothing_runs_after_the_end),
    "I3": (
        no_attempt_runs_twice,
        attempts_begin_in_the_order_of_their_numbers,
        attempts_are_listed_one_after_another,
        every_run_is_a_listed_attempt,
    ),
    "I4": (every_answer_is_the_same, the_result_is_what_a_handler_answered, the_result_is_of_the_attempt_that_is_listed_with_it),
    "I5": (a_key_is_one_request, a_request_is_of_one_key, the_server_has_no_more_requests_than_keys),
    "I6": (every_webhook_came, a_webhook_never_changes, a_webhook_says_what_the_result_says, nobody_is_told_who_did_not_ask),
}


# what a history says of itself


@dataclass(frozen=True, slots=True)
class Counts:
    """How much a history has seen: a proof over nothing proves nothing."""

    accepted: int
    completed: int
    unknown: int
    """Calls without an answer."""
    runs: int
    again: int
    """Runs beyond the first of a request."""

    def __str__(self) -> str:
        return f"{self.accepted} accepted, {self.completed} completed, {self.runs} runs ({self.again} again), {self.unknown} calls without an answer"


def counts(history: History) -> Counts:
    starts = [run for run in history.handled if run.what == "start"]
    return Counts(
        accepted=len(_acknowledged(history)),
        completed=len({one.request for one in _answers(history, "status") if one.state == "COMPLETED"}),
        unknown=sum(one.phase == "unknown" for one in history.called),
        runs=len(starts),
        again=len(starts) - len({run.request for run in starts}),
    )


def run_again(history: History) -> tuple[str, ...]:
    """Requests that ran once more after a handler of theirs had come to its end.

    At least once allows it; but a server that is killed costs no finished work while the runner lives, since that keeps its answer.
    """
    finished: dict[str, int] = {}
    again: dict[str, None] = {}
    for run in history.handled:
        if run.what == "finish":
            finished.setdefault(run.request, run.attempt)
        elif run.attempt > finished.get(run.request, run.attempt):
            again[run.request] = None
    return tuple(again)


def runs_of(history: History, request: str) -> tuple[Handled, ...]:
    return tuple(run for run in history.handled if run.request == request and run.what == "start")


def _acknowledged(history: History) -> dict[str, int]:
    """Request -> when its caller first heard of it."""
    heard: dict[str, int] = {}
    for one in _answers(history, "submit"):
        heard.setdefault(one.request, one.at)
    return heard


def _asked_to_be_told(history: History) -> set[str]:
    return {one.request for one in _answers(history, "submit") if one.webhook}


def _answers(history: History, op: str) -> Iterator[Called]:
    return (one for one in history.called if one.op == op and one.phase == "ok")


def _named(state: str, error_type: str) -> str:
    return f"{state} ({error_type})" if error_type else state
