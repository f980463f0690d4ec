"""Batches: rows teach their answers, streams live on, and what lasts is asked now and then."""

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import training.asking
from model.tokenizer import ChatTokenizer
from training.asking import FAMILY_NAMES, LASTING, LEEWAY, Asked, Asking
from training.data import IGNORED, Batch, Streams, memory_share
from training.life import LATEST_START_S, WIPED_FRAMES, DataConfig, Life, draw_start
from training.manners import over_a_bad_line, with_manners
from training.nano import VOCAB_SIZE
from training.questions import FAMILIES, QA, ask
from training.vocabulary import write_tokenizer
from training.world import World, WorldStyle
from training.world_scene import UNKNOWN

CONFIG = DataConfig(
    streams=2,
    frames=8,
    questions=2,
    dialogues=2,
    lives_s=(12.0, 12.0),
    fps=(2.0,),
    recall=0.0,
    wiped=0.0,
)


@pytest.fixture(scope="module")
def tokenizer_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    write_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def tokenizer(tokenizer_file: Path) -> ChatTokenizer:
    return ChatTokenizer.from_file(tokenizer_file, VOCAB_SIZE)


def some_batches(tokenizer_file: Path, seed: int, count: int) -> list[Batch]:
    stream = iter(Streams(CONFIG, str(tokenizer_file), seed, first=900, total=1000))
    return [next(stream) for _ in range(count)]


def test_a_row_teaches_its_answer_and_its_end(
    tokenizer_file: Path, tokenizer: ChatTokenizer
) -> None:
    """Targets are the ids after the prompt and the turn's end; the prompt is the product's own."""
    batch = some_batches(tokenizer_file, 2, 1)[0]
    assert batch.times_s.shape == (2, 8)
    shapes = [rows.branches.ids.shape for rows in batch.asked]
    assert shapes == [(2, 8, 2, CONFIG.short), (2, 2, 1, CONFIG.long)]
    taught = 0
    for rows in batch.asked:
        all_ids, branches = rows.branches.ids.flatten(0, 2), rows.branches
        for ids, length, first, targets, kind in zip(
            all_ids, branches.lengths.flatten(), rows.first.flatten(),
            rows.targets.flatten(0, 2), rows.kinds.flatten(), strict=True,
        ):  # fmt: skip
            if kind < 0:
                continue
            taught += 1
            counted = targets[targets != IGNORED]
            assert torch.equal(counted[:-1], ids[first + 1 : length])
            assert counted[-1] == tokenizer.im_end_id
            prompt = tokenizer.question_prompt("?")
            assert ids[:7].tolist() == prompt[:7] and ids[first] == prompt[-1]
            assert 0 <= kind < 2 * len(FAMILY_NAMES)
    assert taught >= 30


def test_the_same_seed_gives_the_same_batches(tokenizer_file: Path) -> None:
    """And another seed others."""
    one, again = (some_batches(tokenizer_file, 1, 2) for _ in range(2))
    other = some_batches(tokenizer_file, 2, 2)
    for a, b, c in zip(one, again, other, strict=True):
        assert all(map(torch.equal, a.tensors(), b.tensors()))
        assert not torch.equal(a.scenes, c.scenes)


def test_streams_live_their_pieces_and_begin_anew(tokenizer_file: Path) -> None:
    """Times go on from piece to piece; `fresh` says which begin."""
    batches = some_batches(tokenizer_file, 3, 7)
    assert [b.fresh.tolist() for b in batches] == [[n % 3 == 0] * 2 for n in range(7)]
    for before, after in itertools.pairwise(batches):
        for b in range(2):
            gap = after.times_s[b, 0] - before.times_s[b, -1]
            step = before.times_s[b, 1] - before.times_s[b, 0]
            assert after.fresh[b] or gap == pytest.approx(step)


@pytest.mark.parametrize("recall", [0.0, 1.0])
def test_what_stays_true_is_asked_in_the_last_piece_and_as_often_as_told(
    tokenizer: ChatTokenizer, recall: float
) -> None:
    """A stream that is asked the same in every piece is learned by heart instead of remembered."""
    asking, rng = Asking(tokenizer, 8), random.Random(0)
    seen: set[str] = set()
    config = replace(CONFIG, frames=40, dialogues=4, lives_s=(60.0, 60.0), recall=recall)
    for _ in range(6):
        life = Life(config, asking, rng, early=False)
        for left in (2, 1, 0):
            piece = life.piece(0.9)
            lasting = {a.family for a in (*piece.short, *piece.long)} & LASTING
            assert life.pieces == left and bool(lasting) == (left == 0 or recall == 1.0)
            assert any(row[0] for row in piece.recollected[-1]) == bool(lasting)
            assert any(a.named for a in (*piece.short, *piece.long)) == bool(lasting)
            assert not piece.wiped
            seen |= lasting
    assert len(seen) >= 6


def test_a_question_knows_what_can_be_recollected_of_the_thing_it_names(
    tokenizer: ChatTokenizer,
) -> None:
    """Told at the last token of its name, with other turns before it or none."""
    asking, rng = Asking(tokenizer, 8, 1), random.Random(1)
    world = World(5, 2.0, WorldStyle(cast=8))
    turns, named, longest = list[Asked](), 0, 0
    for _ in range(600):
        world.advance()
        asked = asking.ask(world, rng, 0.8, 200, turns)
        turns = [*turns, asked][-3:] if asked.question else turns
        if not asked.named:
            continue
        place, *told = asked.named
        end = int(place) + 1
        detokenizer = tokenizer.detokenizer()
        text = "".join(detokenizer.push(token) for token in asked.ids[:end])
        names = [n for n in world.casting.class_of if text.endswith(f" {n}")]
        assert names and f" {names[0]}" in f" {asked.question}"
        assert tuple(told) == world.recollect(max(names, key=len))[1:]
        assert asked.prompt - len(tokenizer.encode(asked.question)) - 5 < end <= asked.prompt - 4
        named, longest = named + 1, max(longest, asked.prompt)
    assert named > 150 and longest > 100


def test_a_piece_after_the_state_is_zeroed_is_watched_as_by_one_who_has_just_come(
    tokenizer: ChatTokenizer,
) -> None:
    """In a piece of its own after the last; nothing is asked while the window shows the past."""
    config = replace(CONFIG, frames=40, dialogues=4, lives_s=(60.0, 60.0), wiped=0.05)
    asking, rng = Asking(tokenizer, 8), random.Random(0)
    lives = [Life(config, asking, rng, early=False) for _ in range(200)]
    # three pieces of 40 frames are a life of 60 s
    longer = [life for life in lives if life.pieces == 4]
    assert {life.pieces for life in lives} == {3, 4}
    assert 0.5 < len(longer) / len(lives) / (3 * config.wiped) < 2.0
    asked = Counter[str]()
    for life in longer[:8]:
        assert not any(life.piece(0.9).wiped for _ in range(3))
        piece = life.piece(0.9)
        assert piece.wiped and life.pieces == 0 and life.world.watched_s == 19.5
        num_early = WIPED_FRAMES * config.questions
        assert not any(a.family for a in [*piece.short[:num_early], piece.long[0]])
        asked.update(a.family for a in [*piece.short[num_early:], *piece.long[1:]])
        early, later = piece.scenes[:WIPED_FRAMES], piece.scenes[WIPED_FRAMES:]
        assert all(set(scene.stream) == {UNKNOWN} for scene in early)
        assert all(scene.past.max() == UNKNOWN for scene in early)
        assert any(scene.stream.max() > UNKNOWN for scene in later)
        first, *rest = ([row for row in rows if row[0]] for rows in piece.recollected)
        assert not first and all(rest)
    past, present = (sum(asked[name] for name in FAMILIES[k]) for k in ("memory", "perception"))
    assert min(past, present) > 80


def eight_minutes(
    tokenizer: ChatTokenizer, fps: float, memory_share: float, seed: int
) -> list[Asked]:
    """All that eight streams of a minute are asked."""
    config = replace(CONFIG, fps=(fps,), questions=2, frames=128, lives_s=(60.0, 60.0))
    return all_asked(tokenizer, config, 8, memory_share, seed)


def all_asked(
    tokenizer: ChatTokenizer, config: DataConfig, lives: int, memory_share: float, seed: int
) -> list[Asked]:
    """All that so many streams are asked."""
    asking, rng = Asking(tokenizer, 8, config.questions), random.Random(seed)
    asked: list[Asked] = []
    for _ in range(lives):
        life = Life(config, asking, rng, early=False)
        while life.pieces:
            piece = life.piece(memory_share)
            asked += piece.short + piece.long
    return asked


@pytest.mark.parametrize("fps", [2.0, 5.0, 12.0, 25.0])
def test_what_has_just_happened_is_asked_as_long_as_it_is_fresh(
    monkeypatch: pytest.MonkeyPatch, tokenizer: ChatTokenizer, fps: float
) -> None:
    """Asked only when it happens, what is a second old would never be answered."""
    ages_s: list[float] = []
    given = Counter[str]()

    def listening(world: World, rng: random.Random, family: str) -> QA | None:
        qa = ask(world, rng, family)
        if qa is not None and qa.family in ("did_cut", "did_enter"):
            given[qa.family + qa.answer] += 1
            ages_s.extend([qa.distance_s] * (qa.answer == "yes"))
        return qa

    monkeypatch.setattr(training.asking, "ask", listening)
    for seed in range(3):
        eight_minutes(tokenizer, fps, 0.5, seed)
    thirds = Counter(min(int(age / 0.6), 2) for age in ages_s)
    assert min(thirds[n] for n in range(3)) > 0.15 * thirds.total() > 6
    for family in ("did_cut", "did_enter"):
        assert abs(given[family + "yes"] - given[family + "no"]) <= 3 * 8 * LEEWAY


@pytest.mark.parametrize("fps", [2.0, 5.0, 12.0, 25.0])
def test_movement_is_asked_about_at_every_rate(tokenizer: ChatTokenizer, fps: float) -> None:
    """It lasts, unlike what has just happened, of which fast streams have less a frame."""
    rows = [eight_minutes(tokenizer, fps, 0.8, seed=seed) for seed in (1, 2, 3)]
    counts = Counter(asked.family for asked in itertools.chain.from_iterable(rows))
    for family, least in (("direction", 0.01), ("anything_moving", 0.009), ("faster", 0.003)):
        assert counts[family] > least * counts.total(), (family, counts[family])


def test_how_many_different_things_is_seldom_asked_where_they_are_few(
    tokenizer: ChatTokenizer,
) -> None:
    """Every stream has seen few at first; asked alike, 72 % of the answers would be below four."""
    asked = all_asked(tokenizer, DataConfig(fps=(2.0,)), 80, 0.8, seed=1)
    counts = Counter(a.answer for a in asked if a.family == "distinct")
    few = sum(counts[name] for name in ("zero", "one", "two", "three"))
    assert few < 0.55 * counts.total() > 200, counts


def test_families_stay_in_balance_and_no_row_is_too_long(tokenizer: ChatTokenizer) -> None:
    """No family that fits most moments falls far behind, whatever is asked first."""
    asking, rng = Asking(tokenizer, 8), random.Random(1)
    counts = dict.fromkeys(FAMILY_NAMES, 0)
    turns: list[Asked] = []
    for seed in range(30):
        world = World(seed, 2.0, WorldStyle())
        for _ in range(60):
            world.advance()
            short = asking.ask(world, rng, 0.5, 40)
            long = asking.ask(world, rng, 0.5, 128, turns)
            assert len(short.ids) <= 40 and len(long.ids) <= 128
            for asked in (short, long):
                if asked.family:
                    counts[asked.family] += 1
            turns = [*turns, short][-6:] if short.question else turns
    common = ("is_there", "colour", "where", "number", "seen", "before", "times", "last_left")
    assert min(counts[name] for name in common) > 40
    assert max(counts.values()) < 8 * min(counts[name] for name in common)


def test_memory_questions_come_in_along_the_ramp() -> None:
    config = DataConfig(memory_share=(0.2, 0.8), ramp=(0.1, 0.3))
    shares = [memory_share(config, progress) for progress in (0.0, 0.1, 0.2, 0.3, 1.0)]
    assert shares == pytest.approx([0.2, 0.2, 0.5, 0.8, 0.8])


def test_manners_change_the_form_and_spare_small_words_at_most() -> None:
    question = "What colour is the star?"
    forms = {with_manners(question, random.Random(seed)) for seed in range(200)}
    assert question in forms and "what colour is the star" in forms and len(forms) > 15
    assert "what colour star" in forms
    assert all("colour is the star" in form for form in forms - {"what colour star"})


def test_over_a_bad_line_words_get_lost_but_never_names_and_numbers() -> None:
    question = "Was there a tennis racket here some twelve or 15 seconds ago?"
    forms = [over_a_bad_line(question, ["tennis racket"], random.Random(s)) for s in range(400)]
    assert 260 < forms.count(question) < 340
    assert all("tennis racket" in form for form in forms)
    assert all({"twelve", "15"} <= set(form.split()) for form in forms)
    lengths = {len(form.split()) for form in forms}
    assert max(lengths) == 12 and min(lengths) < 10
    said = set(question.split())
    assert any(len(form.split()) == 12 and set(form.split()) - said for form in forms), "misheard"
    short = "What is in the picture?"
    assert all(over_a_bad_line(short, [], random.Random(s)) == short for s in range(100))


def test_streams_begin_at_all_times_of_a_clock() -> None:
    """Many at 0, as real ones do, and some when they would be old."""
    rng = random.Random(1)
    starts_s = [draw_start(rng) for _ in range(1000)]
    assert 300 < starts_s.count(0.0) < 500
    assert sum(s > 600 for s in starts_s) > 100 and max(starts_s) < LATEST_START_S


def test_a_life_is_as_long_in_seconds_at_every_rate(tokenizer: ChatTokenizer) -> None:
    """So the memory of a fast stream is asked after as many seconds as that of a slow one."""
    asking = Asking(tokenizer, 8)
    for fps, pieces in ((2.0, 3), (25.0, 38)):
        config = replace(CONFIG, fps=(fps,))
        assert Life(config, asking, random.Random(0), early=False).pieces == pieces
