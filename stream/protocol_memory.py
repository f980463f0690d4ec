"""What a session of ivl.v1 goes on with when its connection is lost: questions and their ends."""

from collections import OrderedDict, deque
from dataclasses import dataclass, field

from stream.events import AnswerDelta, AnswerDone
from stream.protocol import AnswerDoneMessage
from stream.protocol_replies import answer_done
from stream.token_bucket import TokenBucket

_REMEMBERED_IDS = 1024
# All of them must fit into an outbox at once: who takes up a session may ask for all.
_KEPT_ANSWERS, _KEPT_CHARS = 64, 1 << 19


@dataclass(slots=True)
class OpenQuery:
    """A question that has not ended.

    Attributes:
        question_id: the stream's own number of it; None until the stream has accepted it.
        num_chars: how much of its answer was sent.
    """

    stream: str
    question_id: int | None = None
    num_chars: int = 0


@dataclass(frozen=True, slots=True)
class _Kept:
    """An end of an answer; `num_chars` as JSON."""

    done: AnswerDoneMessage
    num_chars: int


@dataclass(slots=True)
class Memory:
    """Outlives a connection; bounded, however much is asked.

    Attributes:
        open: questions that have not ended, by the client's own names of them.
        ended: the names of those that have, of late; the oldest comes first.
    """

    asker: str
    bucket: TokenBucket
    default_stream: str | None = None
    open: dict[str, OpenQuery] = field(default_factory=dict)
    ended: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _kept: deque[_Kept] = field(default_factory=lambda: deque(maxlen=_KEPT_ANSWERS))
    _num_ended: int = 0

    def id_of(self, event: AnswerDelta | AnswerDone) -> str | None:
        """The client's own name of a question that is open."""
        for id, query in self.open.items():
            if (query.stream, query.question_id) == (event.stream, event.question_id):
                return id
        return None

    def end(self, id: str, event: AnswerDone) -> AnswerDoneMessage:
        """An open question has ended; returns what the client is told, and keeps it for a while."""
        del self.open[id]
        self.ended[id] = None
        if len(self.ended) > _REMEMBERED_IDS:
            self.ended.popitem(last=False)
        self._num_ended += 1
        done = answer_done(id, self._num_ended, event)
        self._kept.append(_Kept(done, len(done.to_json())))
        while len(self._kept) > 1 and sum(one.num_chars for one in self._kept) > _KEPT_CHARS:
            self._kept.popleft()
        return done

    def ends_after(self, number: int) -> list[AnswerDoneMessage]:
        """Of the ends that are kept, those with a greater number; oldest first."""
        return [kept.done for kept in self._kept if kept.done.number > number]
