"""Chooses what to ask so that no family is left behind, and makes token rows of it."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from model.tokenizer import ChatTokenizer
from training.manners import over_a_bad_line, with_manners
from training.questions import FAMILIES, QA, ask
from training.questions_draft import NUMBER_NAMES
from training.world import World
from training.world_history import JUST_S

FAMILY_NAMES = (*FAMILIES["perception"], *FAMILIES["memory"])
# What is slowest to learn is asked more often.
WEIGHTS = {
    "number": 1.5, "word": 1.5, "direction": 2.5, "visible": 2.0, "is_there": 2.0, "where": 2.0,
    "anything_moving": 1.5, "blinking": 4.0, "faster": 8.0, "just_changed": 4.0, "did_cut": 3.0,
    "just_entered": 1.5, "just_left": 2.0, "did_leave": 1.5, "colour": 1.5, "ago": 1.5,
    "there_ago": 1.5, "seen": 2.0, "times": 3.0, "distinct": 7.0, "before": 7.0, "after": 7.0,
    "where_was": 7.0, "last_left": 2.0, "word_seen": 3.0,
}  # fmt: skip
# What stays true of a stream for long.
LASTING = frozenset(FAMILIES["memory"]) - {
    "ago", "there_ago", "last_word", "last_number", "last_left",
}  # fmt: skip
# What can only be asked while it is fresh comes first, or it would hardly be asked at all.
FLEETING = (
    "just_entered", "just_left", "just_changed", "did_enter", "did_leave", "did_cut", "blinking",
    "faster",
)  # fmt: skip
STEADY = tuple(name for name in FAMILIES["perception"] if name not in FLEETING)
# How often a fleeting one of weight 1 is tried while an event is fresh. Tried at every question, it
# would always be asked at the first moment it can be, and what is a second old would never be seen.
FRESH = 2.5
# How many more of one answer than of the other may follow each other.
LEEWAY = 6
# Every stream has seen few things at first: asked alike at every moment, how many there were would
# be three or less most of the time. From so many on it is asked as any other, for fewer less often.
MANY = 7
MAX_TURNS = 4
FAR_WINDOWS = 4
# tokens of the longest answer, its end counted
ANSWER = 16
TRIES = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its answer as token ids.

    ids: the prompt and the answer; prompt: how many of them are the prompt; targets: the answer
    and its end; kind: as in `Rows`; named: where the prompt names the one thing it is about (its
    last token), and what can be recollected of that; nothing if it names none.
    """

    ids: list[int]
    prompt: int
    targets: list[int]
    kind: int
    question: str = ""
    answer: str = ""
    family: str = ""
    named: tuple[float, ...] = ()


NOTHING_TO_ASK = Asked([0], 1, [], -1)


class Asking:
    """Asks worlds, so many questions a frame; remembers how often each family was asked."""

    def __init__(self, tokenizer: ChatTokenizer, window_frames: int, questions: int = 1) -> None:
        self._tokenizer, self._questions = tokenizer, questions
        self._far_frames = FAR_WINDOWS * window_frames
        self._asked = dict.fromkeys(FAMILY_NAMES, 0.0)
        self._encode = lru_cache(maxsize=4096)(tokenizer.encode)

    def ask(
        self,
        world: World,
        rng: random.Random,
        memory_share: float,
        length: int,
        turns: Sequence[Asked] = (),
        *,
        lasting: bool = True,
    ) -> Asked:
        """A question about this moment in at most `length` tokens; none while the past is unclear.

        Args:
            turns: earlier questions about the stream; some of them go before this one.
            lasting: whether to ask for what stays true of the stream, too.
        """
        if world.unclear:
            return NOTHING_TO_ASK
        for _ in range(TRIES):
            past = self._pick(rng, turns)
            families = self._order(world, rng, memory_share, lasting)
            if past and rng.random() < 0.5:
                # The same again: the answer is a new one, not what was said before.
                families.insert(0, rng.choice(past).family)
            for family in families:
                qa = ask(world, rng, family)
                if qa is None:
                    continue
                if family == "distinct" and rng.random() >= _share(qa.answer):
                    # As if it had been asked, or it would be at the next moment.
                    self._count(family)
                    continue
                row = self._row(world, rng, qa, past, lasting)
                if len(row.ids) <= length and len(row.targets) <= ANSWER:
                    self._count(family)
                    return row
        return NOTHING_TO_ASK

    def _count(self, family: str) -> None:
        self._asked[family] += 1.0 / WEIGHTS.get(family, 1.0)

    def _pick(self, rng: random.Random, turns: Sequence[Asked]) -> list[Asked]:
        if not turns:
            return []
        count = min(rng.choice((0, 1, 2, 3, MAX_TURNS)), len(turns))
        return [turns[i] for i in sorted(rng.sample(range(len(turns)), count))]

    def _order(
        self, world: World, rng: random.Random, memory_share: float, lasting: bool
    ) -> list[str]:
        """Families to try, what has been asked least first; some of them sit out.

        Or a question that seldom fits would always be asked at the first moment it does.
        """
        memory = [name for name in FAMILIES["memory"] if lasting or name not in LASTING]
        groups = [list(STEADY), memory]
        if rng.random() < memory_share:
            groups.reverse()
        chance = FRESH / (JUST_S * world.fps * self._questions)
        order = [name for name in FLEETING if rng.random() < chance * WEIGHTS.get(name, 1.0)]
        rng.shuffle(order)
        for group in groups:
            ready = [family for family in group if rng.random() < 0.7]
            order += sorted(ready, key=self._asked.__getitem__)
        return order

    def _row(
        self, world: World, rng: random.Random, qa: QA, past: list[Asked], lasting: bool
    ) -> Asked:
        question = with_manners(over_a_bad_line(qa.question, qa.names, rng), rng)
        prompt = self._tokenizer.question_prompt(question, [(a.question, a.answer) for a in past])
        far = qa.distance_s * world.fps > self._far_frames
        kind = 2 * FAMILY_NAMES.index(qa.family) + far
        answer = self._encode(qa.answer)
        targets = [*answer, self._tokenizer.im_end_id]
        named = self._named(world, question, len(prompt), qa.names) if lasting else ()
        ids = prompt + answer
        return Asked(ids, len(prompt), targets, kind, question, qa.answer, qa.family, named)

    def _named(
        self, world: World, question: str, length: int, names: tuple[str, ...]
    ) -> tuple[float, ...]:
        """As `Asked.named`, for a prompt so long that ends with the question."""
        if len(names) != 1 or names[0] not in world.casting.class_of:
            return ()
        # Earlier turns may name it, too.
        alone = self._tokenizer.question_prompt(question)
        tokens = self._encode(f" {names[0]}")
        for end in range(len(alone), 0, -1):
            if alone[end - len(tokens) : end] == tokens:
                return (length - len(alone) + end - 1, *world.recollect(names[0])[1:])
        return ()


def _share(count: str) -> float:
    """How often a count is asked where it could be."""
    return (NUMBER_NAMES.index(count) + 1) / (MANY + 1)
