"""Whatever clients send and streams do: an accepted question ends exactly once, nothing escapes.

An exchange is a message of a client's, an event of a stream, or the loss or return of a connection.
Ten thousand random ones with every run, the same each time; for more than a hundred thousand, new
ones each time, in some minutes:

    FUZZ=long pytest -s tests/test_stream_protocol_machine.py
"""

import itertools
import json
import os
from collections import Counter
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sources.status import SourceCondition
from stream.events import AnswerDelta, AnswerStatus, SourceState
from stream.protocol import (
    SERVER_MESSAGES,
    AnswerDeltaMessage,
    AnswerDoneMessage,
    ErrorMessage,
    QueryAccepted,
    ServerMessage,
)
from stream.protocol_effects import Ask, Cancel, Effect, Resume, Send
from stream.protocol_session import ProtocolSession, SessionLimits
from tests.protocol_streams import FixedStreams, answer_done

LONG = os.environ.get("FUZZ") == "long"
LIMITS = SessionLimits(open_queries=3, queries_per_s=4.0, query_burst=6)
ENGINE_QUESTIONS = 5
LEAST_EXCHANGES = 100_000 if LONG else 10_000
COUNTS: Counter[str] = Counter()  # of all runs together

ids = st.sampled_from([*"abcdefghijklmnopqrstuvwxyz", "", "é", "x" * 65])
names = st.sampled_from(["cam", "door"] * 4 + ["nowhere", "", None])
questions = st.sampled_from(["Who?"] * 8 + ["", "x" * 5000])
channels = st.sampled_from([["state"], ["stats"], ["state", "stats"]])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=4,
)
types = st.sampled_from(
    ["query.create", "query.cancel", "session.update", "stream.subscribe", "ping", "zap", 1]
)
fields = st.sampled_from(
    ["id", "text", "stream", "max_tokens", "deadline_ms", "channels", "resume_token", "after", "t"]
)
garbage = st.one_of(
    st.text(max_size=20),
    st.binary(max_size=20),
    values.map(json.dumps),
    st.dictionaries(fields, values, max_size=5).map(json.dumps),
    st.tuples(types, st.dictionaries(fields, values, max_size=4)).map(
        lambda two: json.dumps({"type": two[0]} | two[1])
    ),
)


@dataclass
class Client:
    """What one client has asked and heard, over all of its connections."""

    session: ProtocolSession
    connected: bool = True
    accepted: set[str] = field(default_factory=set)
    done: dict[str, AnswerDoneMessage] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class Exchanges(RuleBasedStateMachine):
    """Two clients, two streams, and an engine that takes five questions."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.numbers = itertools.count(1)
        self.streams = FixedStreams(["cam", "door"])
        # (stream, question) -> asker, and the text of what was answered so far
        self.open: dict[tuple[str, int], str] = {}
        self.texts: dict[tuple[str, int], str] = {}
        self.clients = [Client(self.connect()) for _ in range(2)]

    def connect(self) -> ProtocolSession:
        name = str(next(self.numbers))
        return ProtocolSession(name, f"token {name}", self.streams, LIMITS, self.now_s)

    def do(self, client: Client, effects: list[Effect]) -> None:
        """As a server does: at once, and in order."""
        for effect in effects:
            match effect:
                case Send(message):
                    self.hear(client, message)
                case Ask():
                    self.do(client, self.ask(client, effect))
                case Cancel(stream, question_id):
                    self.end((stream, question_id), AnswerStatus.CANCELLED)
                case Resume(token, after):
                    lost = next((c for c in self.clients if c.session.token == token), None)
                    self.do(client, client.session.adopt(lost.session if lost else None, after))

    def ask(self, client: Client, ask: Ask) -> list[Effect]:
        if len(self.open) >= ENGINE_QUESTIONS:
            return client.session.refused(ask.id, "Too many questions are open.")
        number = next(self.numbers)
        self.open[ask.stream, number] = client.session.asker
        self.texts[ask.stream, number] = ""
        return client.session.asked(ask.id, number)

    def hear(self, client: Client, message: ServerMessage) -> None:
        assert SERVER_MESSAGES.validate_json(message.to_json()) == message
        if not client.connected:
            return
        match message:
            case QueryAccepted(id=id):
                COUNTS["accepted questions"] += 1
                assert id not in client.accepted
                client.accepted.add(id)
            case AnswerDeltaMessage(id=id, seq=seq, delta=delta):
                assert id in client.accepted and id not in client.done
                heard = client.texts.get(id, "")
                assert seq >= len(heard)
                client.texts[id] = heard.ljust(seq, "?") + delta
            case AnswerDoneMessage(id=id):
                assert id in client.accepted
                assert client.done.setdefault(id, message) == message
            case ErrorMessage(error=error):
                assert error.message and len(error.message) <= 300 and not message.fatal

    def end(self, key: tuple[str, int], status: AnswerStatus) -> None:
        asker, text = self.open.pop(key, None), self.texts.pop(key, "")
        if asker is None:
            return
        COUNTS["events"] += 1
        event = answer_done(key[0], key[1], asker, status, text)
        for client in self.clients:
            self.do(client, client.session.happened(event))

    @rule(who=st.integers(0, 1), data=garbage)
    def send_anything(self, who: int, data: str | bytes) -> None:
        client = self.clients[who]
        if client.connected:
            COUNTS["messages"] += 1
            self.do(client, client.session.receive(data, self.now_s))

    @rule(
        who=st.integers(0, 1), id=ids, stream=names, text=st.sampled_from(["Who?", "", "x" * 5000])
    )
    def create(self, who: int, id: str, stream: str | None, text: str) -> None:
        message = {"type": "query.create", "id": id, "text": text}
        self.send_anything(
            who, json.dumps(message | ({} if stream is None else {"stream": stream}))
        )

    @rule(who=st.integers(0, 1), letters=st.permutations("abcdefghijkl"))
    def ask_several(self, who: int, letters: list[str]) -> None:
        for letter in letters[:3]:
            self.create(who, letter, "cam", "Who?")

    @rule(who=st.integers(0, 1), id=ids, text=questions, times=st.integers(2, 20))
    def flood(self, who: int, id: str, text: str, times: int) -> None:
        for _ in range(times):
            self.create(who, id, "cam", text)

    @rule(who=st.integers(0, 1), id=ids)
    def cancel(self, who: int, id: str) -> None:
        self.send_anything(who, json.dumps({"type": "query.cancel", "id": id}))

    @rule(
        who=st.integers(0, 1), channels=st.sampled_from([["state"], ["stats"], ["state", "stats"]])
    )
    def subscribe(self, who: int, channels: list[str]) -> None:
        message = {"type": "stream.subscribe", "stream": "cam", "channels": channels}
        self.send_anything(who, json.dumps(message))

    @rule(seconds=st.floats(0.0, 2.0))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        for client in self.clients:
            self.do(client, client.session.stats(self.now_s))

    @rule(which=st.integers(0, 2), text=st.text(min_size=1, max_size=4))
    def a_token_comes(self, which: int, text: str) -> None:
        for key in itertools.islice(self.open, which, which + 1):
            COUNTS["events"] += 1
            self.texts[key] += text
            delta = AnswerDelta(key[0], key[1], self.open[key], 0, text)
            for client in self.clients:
                self.do(client, client.session.happened(delta))

    @rule(which=st.integers(0, 2), status=st.sampled_from(AnswerStatus))
    def an_answer_ends(self, which: int, status: AnswerStatus) -> None:
        for key in list(itertools.islice(self.open, which, which + 1)):
            self.end(key, status)

    @rule()
    def a_source_is_lost(self) -> None:
        COUNTS["events"] += 1
        state = SourceState("cam", SourceCondition.RECONNECTING, "lost", self.now_s)
        for client in self.clients:
            self.do(client, client.session.happened(state))

    @rule(who=st.integers(0, 1), chance=st.integers(0, 3))
    def connection_is_lost(self, who: int, chance: int) -> None:
        client = self.clients[who]
        COUNTS["connections lost"] += client.connected and chance == 3
        client.connected &= chance < 3

    @rule(who=st.integers(0, 1))
    def comes_back(self, who: int) -> None:
        """On a new connection, with what it has heard last."""
        client = self.clients[who]
        if client.connected:
            return
        COUNTS["connections back"] += 1
        after = max((done.number for done in client.done.values()), default=0)
        lost, fresh = client.session, self.connect()
        client.connected = True
        token = {"type": "session.update", "resume_token": lost.token, "after": after}
        for effect in fresh.receive(json.dumps(token), self.now_s):
            assert effect == Resume(lost.token, after)
        client.session = fresh
        self.do(client, fresh.adopt(lost, after))

    @rule(who=st.integers(0, 1), status=st.sampled_from(AnswerStatus))
    def misses_an_answer(self, who: int, status: AnswerStatus) -> None:
        client = self.clients[who]
        COUNTS["connections lost"] += client.connected
        client.connected = False
        mine = [key for key, asker in self.open.items() if asker == client.session.asker]
        for key in mine[:1]:
            self.end(key, status)
        self.comes_back(who)

    @rule(who=st.integers(0, 1), chance=st.integers(0, 19))
    def drain(self, who: int, chance: int) -> None:
        """Seldom, since nothing is accepted after it."""
        if chance == 13:
            client = self.clients[who]
            self.do(client, client.session.drain(20.0, "restart"))

    @invariant()
    def nobody_has_more_open_than_allowed(self) -> None:
        for client in self.clients:
            mine = sum(asker == client.session.asker for asker in self.open.values())
            assert mine == client.session.num_open <= LIMITS.open_queries

    def teardown(self) -> None:
        """All come back, all answers end: each accepted question has its one answer, whole."""
        for who in (0, 1):
            self.comes_back(who)
        for key in list(self.open):
            self.end(key, AnswerStatus.COMPLETED)
        for client in self.clients:
            assert client.done.keys() == client.accepted and client.session.num_open == 0
            numbers = sorted(done.number for done in client.done.values())
            assert numbers == list(range(1, len(numbers) + 1))
            for id, text in client.texts.items():
                heard = zip(text, client.done[id].text, strict=False)
                assert all(a in ("?", b) for a, b in heard)


class TestExchanges(Exchanges.TestCase):
    settings = settings(
        max_examples=4000 if LONG else 260,
        stateful_step_count=50,
        derandomize=not LONG,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )

    @classmethod
    def tearDownClass(cls) -> None:
        exchanges = COUNTS.total() - COUNTS["accepted questions"]
        print(f"{exchanges} exchanges:", ", ".join(f"{n} {what}" for what, n in COUNTS.items()))
        assert exchanges >= LEAST_EXCHANGES
