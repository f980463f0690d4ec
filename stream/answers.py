"""Questions under way: forked from their stream, read in slices, answered a token a step.

A question waits in a bounded queue until a slot is free, then its stream's slot is copied into
that slot. All slots answer together: one batched decode a step. The stream's own slot is only
ever read, so watching goes on and remembers nothing of it.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from model.checkpoint import LoadedModel
from model.state import ContextFullError, StatePool
from model.tokenizer import IncrementalDetokenizer
from stream.dialogues import Dialogues
from stream.events import AnswerDelta, AnswerDone, AnswerStatus, Event
from stream.question import Question
from stream.sampling import sample
from stream.slack import Slack
from stream.steps import MOST_ROWS, Steps


@dataclass(frozen=True, slots=True)
class StreamView:
    """What a stream had seen at some moment."""

    slot: int
    num_frames: int
    last_seq: int
    last_pts_s: float
    last_arrived_s: float


@dataclass(slots=True)
class Answer:
    """A question that has its slot.

    Attributes:
        prompt: ids not yet appended to the slot, of num_prompt_tokens in all.
        next_id: the token to append next; None while the prompt is being read.
    """

    question: Question
    view: StreamView
    slot: int
    prompt: list[int]
    num_prompt_tokens: int
    detokenizer: IncrementalDetokenizer
    generator: torch.Generator
    started_s: float
    next_id: int | None = None
    num_tokens: int = 0
    deltas: list[str] = field(default_factory=list)
    time_to_first_token_s: float | None = None


class Answers:
    """The waiting questions and the answers under way of all streams.

    Used by the engine's thread alone.
    """

    def __init__(
        self,
        model: LoadedModel,
        pool: StatePool,
        steps: Steps,
        slots: list[int],
        publish: Callable[[Event], None],
        slack: Slack,
        clock: Callable[[], float],
    ) -> None:
        self._slack = slack
        self._vlm, self._tokenizer = model.vlm, model.tokenizer
        self._pool = pool
        self._steps = steps
        self._free_slots = slots
        self._publish = publish
        self._clock = clock
        self._waiting: deque[Question] = deque()
        self._under_way: list[Answer] = []
        self._dialogues = Dialogues()

    def add(self, question: Question) -> None:
        """Queue an accepted question."""
        self._waiting.append(question)

    def cancel(self, stream: str, question_id: int, reason: str) -> None:
        """End a question wherever it is; nothing happens if it has ended already."""
        self._end_matching(
            lambda q: (q.stream, q.id) == (stream, question_id), AnswerStatus.CANCELLED, reason
        )

    def end_stream(self, stream: str, status: AnswerStatus, reason: str) -> None:
        """End all questions of a stream and forget its dialogues."""
        self._end_matching(lambda q: q.stream == stream, status, reason)
        self._dialogues.forget_stream(stream)

    def step(
        self,
        views: dict[str, StreamView],
        rode: Sequence[Answer] = (),
        *,
        after_frames: bool = True,
    ) -> bool:
        """Fork what can start, read a slice of prompts, decode a token; False if all was idle.

        Args:
            views: the streams that have seen at least one frame.
            rode: the answers that have had their token of this step.
            after_frames: whether frames have just been served; else only that is begun which will
                be done before the next ones come.
        """
        now = self._clock()
        self._end_matching(
            lambda q: q.deadline_s is not None and now >= q.deadline_s,
            AnswerStatus.INCOMPLETE,
            "the deadline has passed",
        )
        self._start(views)
        worked = False
        works = (("read", self._read_prompts), ("decode", partial(self._decode, rode)))
        for name, work in works:
            began_s = self._clock()
            if (after_frames or self._slack.fits(name, began_s)) and work():
                self._slack.worked(name, self._clock() - began_s)
                worked = True
        return worked

    def decoding(self) -> list[Answer]:
        """The answers whose prompt has been read: each is owed a token a step."""
        return [answer for answer in self._under_way if answer.next_id is not None]

    def _start(self, views: dict[str, StreamView]) -> None:
        """Give free slots to the questions that waited longest and whose stream has begun."""
        for question in list(self._waiting):
            if not self._free_slots:
                return
            view = views.get(question.stream)
            if view is None:
                continue
            self._waiting.remove(question)
            slot = self._free_slots.pop()
            self._pool.copy(view.slot, slot)
            prompt = self._prompt(question)
            answer = Answer(
                question=question,
                view=view,
                slot=slot,
                prompt=prompt,
                num_prompt_tokens=len(prompt),
                detokenizer=self._tokenizer.detokenizer(),
                generator=torch.Generator().manual_seed(question.sampling.seed),
                started_s=self._clock(),
            )
            self._under_way.append(answer)

    def _prompt(self, question: Question) -> list[int]:
        """The question after as much of its dialogue as leaves half the window to frames."""
        kept = self._dialogues.turns(question.stream, question.asker)
        turns = kept if question.turns is None else list(question.turns)
        limit = self._vlm.config.sliding_window // 2
        return self._tokenizer.question_prompt(
            question.text, self._tokenizer.fitting(question.text, turns, limit)
        )

    def _read_prompts(self) -> bool:
        """Append the next slice of prompts, in all no more tokens than a frame has."""
        budget = self._pool.max_append
        batch: list[Answer] = []
        slices: list[list[int]] = []
        # Short ones first: else one long question would hold up all others till it is read.
        for answer in sorted(self._under_way, key=lambda answer: len(answer.prompt)):
            if answer.next_id is None and budget and len(batch) < MOST_ROWS:
                part, answer.prompt = answer.prompt[:budget], answer.prompt[budget:]
                budget -= len(part)
                batch.append(answer)
                slices.append(part)
        if not batch:
            return False
        self._append(batch, slices)
        return True

    def _decode(self, rode: Sequence[Answer]) -> bool:
        """One more token for every other answer whose prompt has been read."""
        served = set(map(id, rode))
        batch = [answer for answer in self.decoding() if id(answer) not in served]
        if not batch:
            return False
        self._append(batch, None)
        return True

    def _append(self, batch: list[Answer], rows: list[list[int]] | None) -> None:
        """Append slices of prompts, or else each answer's next token, and take what follows."""
        slots = [answer.slot for answer in batch]
        try:
            if rows is None:
                logits = self._steps.decode([answer.next_id or 0 for answer in batch], slots)
            else:
                logits = self._steps.read(rows, slots)
        except ContextFullError as error:
            if len(batch) == 1:
                self._finish(batch[0], AnswerStatus.FAILED, str(error))
                return
            # Nothing was changed: find out which of them is full.
            for i, answer in enumerate(batch):
                self._append([answer], None if rows is None else [rows[i]])
            return
        self.take(batch, logits)

    def take(self, batch: list[Answer], logits: torch.Tensor) -> None:
        """Choose the token that follows in each answer: logits [B, vocabulary] fp32."""
        # All at once: every number that comes from the device by itself is a wait.
        finite, greedy = torch.stack([logits.isfinite().all(-1).long(), logits.argmax(-1)]).tolist()
        for answer, row, is_finite, likeliest in zip(batch, logits, finite, greedy, strict=True):
            if not is_finite:
                self._finish(answer, AnswerStatus.FAILED, "the model's output is not a number")
            elif not answer.prompt:
                question = answer.question
                token = sample(row, likeliest, question.sampling, answer.generator)
                self._take_token(answer, token)

    def _take_token(self, answer: Answer, token_id: int) -> None:
        """Account for a generated token: say its text, or end the answer."""
        if answer.time_to_first_token_s is None:
            answer.time_to_first_token_s = self._clock() - answer.question.asked_s
        if token_id in self._tokenizer.stop_ids:
            self._finish(answer, AnswerStatus.COMPLETED, "")
            return
        answer.next_id = token_id
        answer.num_tokens += 1
        text = answer.detokenizer.push(token_id)
        if text:
            question = answer.question
            index = len(answer.deltas)
            answer.deltas.append(text)
            self._publish(AnswerDelta(question.stream, question.id, question.asker, index, text))
        if answer.num_tokens >= answer.question.sampling.max_tokens:
            limit = answer.question.sampling.max_tokens
            self._finish(answer, AnswerStatus.INCOMPLETE, f"cut at {limit} tokens")

    def _end_matching(
        self, matches: Callable[[Question], bool], status: AnswerStatus, reason: str
    ) -> None:
        for question in [q for q in self._waiting if matches(q)]:
            self._waiting.remove(question)
            self._publish(unstarted(question, status, reason, self._clock()))
        for answer in [a for a in self._under_way if matches(a.question)]:
            self._finish(answer, status, reason)

    def _finish(self, answer: Answer, status: AnswerStatus, reason: str) -> None:
        """Give the slot back, remember the turn, and say that the question has ended."""
        self._under_way.remove(answer)
        self._free_slots.append(answer.slot)
        question, view, text = answer.question, answer.view, "".join(answer.deltas)
        ended_well = status in (AnswerStatus.COMPLETED, AnswerStatus.INCOMPLETE)
        if text and ended_well and question.turns is None:
            self._dialogues.add(question.stream, question.asker, question.text, text)
        self._publish(
            replace(
                unstarted(question, status, reason, self._clock()),
                answer=text,
                num_frames=view.num_frames,
                last_seq=view.last_seq,
                last_pts_s=view.last_pts_s,
                frame_age_s=answer.started_s - view.last_arrived_s,
                queue_s=answer.started_s - question.asked_s,
                time_to_first_token_s=answer.time_to_first_token_s,
                num_tokens=answer.num_tokens,
                num_prompt_tokens=answer.num_prompt_tokens,
            )
        )


def unstarted(question: Question, status: AnswerStatus, reason: str, now_s: float) -> AnswerDone:
    """The end of a question that never got a slot."""
    return AnswerDone(
        stream=question.stream,
        question_id=question.id,
        asker=question.asker,
        question=question.text,
        status=status,
        reason=reason,
        answer="",
        num_frames=0,
        last_seq=None,
        last_pts_s=None,
        frame_age_s=None,
        queue_s=None,
        time_to_first_token_s=None,
        total_s=now_s - question.asked_s,
        num_tokens=0,
    )
