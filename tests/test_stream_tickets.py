"""Tickets: each lets in once, soon, and there are never many."""

import pytest

from stream.tickets import MAX_TICKETS, VALID_S, Caller, Tickets, TooManyTicketsError
from tests.stream_helpers import FakeClock

ANNA, BEN = Caller(1, frozenset({"query"})), Caller(2, frozenset({"ingest"}))
NOBODY = Caller()


def test_a_ticket_is_for_whom_it_was_given_to_and_only_once() -> None:
    tickets = Tickets(FakeClock())
    of_anna, of_ben = tickets.give(ANNA), tickets.give(BEN)
    assert tickets.take(of_ben) == BEN
    assert tickets.take(of_ben) == NOBODY
    assert tickets.take(of_anna) == ANNA


@pytest.mark.parametrize("wrong", ["", "x", "é", "\udcff", "x" * 100_000])
def test_what_is_no_ticket_lets_nobody_in_and_uses_none_up(wrong: str) -> None:
    tickets = Tickets(FakeClock())
    right = tickets.give(ANNA)
    assert tickets.take(wrong) == tickets.take(right[:-1]) == NOBODY
    assert tickets.take(right) == ANNA


def test_a_ticket_is_worth_nothing_after_its_time() -> None:
    clock = FakeClock()
    tickets = Tickets(clock)
    early, late = tickets.give(ANNA), tickets.give(ANNA)
    clock.advance(VALID_S - 0.1)
    assert tickets.take(early) == ANNA
    clock.advance(0.1)
    assert tickets.take(late) == NOBODY


def test_there_is_room_again_when_one_is_used_or_too_old() -> None:
    clock = FakeClock()
    tickets = Tickets(clock)
    first = tickets.give(ANNA)
    clock.advance(10.0)
    for _ in range(MAX_TICKETS - 1):
        tickets.give(ANNA)
    with pytest.raises(TooManyTicketsError) as refused:
        tickets.give(ANNA)
    assert refused.value.retry_after_s == VALID_S - 10.0
    tickets.give(BEN)  # whose room nobody else takes
    tickets.take(first)
    tickets.give(ANNA)
    with pytest.raises(TooManyTicketsError):
        tickets.give(ANNA)
    clock.advance(VALID_S)
    tickets.give(ANNA)


def test_tickets_do_not_repeat_themselves() -> None:
    tickets = Tickets()
    assert len({tickets.give(ANNA) for _ in range(50)}) == 50
