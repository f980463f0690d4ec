"""The world: the same from the same seed at every frame rate, whole, bounded, and fairly asked."""

import random
import re
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from training.questions import FAMILIES, ask, fill, normalise
from training.questions_wordings import WORDINGS, expand, read_wordings, sentences
from training.render_pack import load_pack
from training.render_variants import LOOKS
from training.world import World, WorldStyle
from training.world_catalogue import ALIKE, SHAPES, load_catalogue, load_index, with_article
from training.world_history import SNAPSHOTS_S
from training.world_scene import CLUTTER, FIRST_PICTURE, WORD_SLOT
from training.world_stage import REGIONS

ALL_FAMILIES = [*FAMILIES["perception"], *FAMILIES["memory"]]
SENTENCES = {
    family: [sentence for pattern in train for sentence in sentences(pattern)]
    for family, (train, _) in WORDINGS.items()
}
NAMES = re.compile(
    rf"\b({'|'.join([*(entry['name'] for entry in load_index()['objects']), *SHAPES])})\b"
)
# Names of things that people say without meaning the thing.
EVERYDAY = {"camera", "cross", "saw", "watch"}


def test_the_same_seed_gives_the_same_stream_and_questions_bit_for_bit() -> None:
    a, b = (World(5, 5.0, WorldStyle()) for _ in range(2))
    for i in range(200):
        assert np.array_equal(a.advance().values, b.advance().values)
        assert ask(a, random.Random(i)) == ask(b, random.Random(i))
    other = World(6, 5.0, WorldStyle()).advance()
    assert not np.array_equal(World(5, 5.0, WorldStyle()).advance().values, other.values)


def test_asking_does_not_change_the_stream() -> None:
    asked, quiet = (World(5, 2.0, WorldStyle()) for _ in range(2))
    for i in range(100):
        assert np.array_equal(asked.advance().values, quiet.advance().values)
        ask(asked, random.Random(i))


@pytest.mark.parametrize("fps", [5.0, 12.5, 25.0])
def test_frame_rates_sample_the_same_events_at_the_same_times(fps: float) -> None:
    slow, fast = World(9, 2.5, WorldStyle()), World(9, fps, WorldStyle())
    for _ in range(100):
        scene = slow.advance()
        while True:
            other = fast.advance()
            if fast.now >= slow.now - 1e-9:
                break
        assert fast.now == pytest.approx(slow.now)
        np.testing.assert_allclose(other.values, scene.values, atol=1e-5)
    assert slow.history == fast.history


def test_no_two_things_overlap_and_what_is_settled_is_whole() -> None:
    for seed in range(30):
        world = World(seed, 5.0, WorldStyle())
        for _ in range(200):
            world.advance()
            boxes = [track.swept(world.now, world.now) for track in world.tracks()]
            for i, (left, top, right, bottom) in enumerate(boxes):
                if world.tracks()[i].settled(world.now):
                    assert min(left, top) >= 0 and max(right, bottom) <= 1
                for a, b, c, d in boxes[:i]:
                    assert left >= c or a >= right or top >= d or b >= bottom


def test_styles_keep_to_their_limits_and_bad_ones_are_refused() -> None:
    style = WorldStyle(max_items=1, clutter=0, photo_share=0.0, text_rate=0.0)
    num_photos = len(load_index()["photos"])
    for seed in range(10):
        world = World(seed, 2.0, style)
        for _ in range(60):
            scene = world.advance()
            assert len(world.tracks()) <= 1
            assert not scene.layers[:CLUTTER].any()
            assert scene.view[0] >= num_photos
    for wrong in ({"max_items": 4}, {"clutter": 3}, {"pace": 0.0}, {"cast": 2}):
        with pytest.raises(ValueError):
            WorldStyle(**wrong)
    with pytest.raises(ValueError):
        World(0, 1.0, WorldStyle())


def test_held_out_pictures_and_photos_are_never_shown_in_training() -> None:
    index = load_index()
    held = {2 * i + o["exam_style"] for i, o in enumerate(index["objects"])
            if o["exam_style"] is not None}  # fmt: skip
    photos = {i for i, photo in enumerate(index["photos"]) if photo["exam"]}
    assert len(held) > 50 and len(photos) >= 4
    for split, exam in (("train", False), ("exam", True)):
        for seed in range(40):
            world = World(seed, 2.0, WorldStyle(split=split))
            for _ in range(40):
                scene = world.advance()
                for layer in scene.layers[FIRST_PICTURE:WORD_SLOT]:
                    if layer[-1] > 0 and layer[0] < 2 * len(index["objects"]):
                        assert (int(layer[0]) in held) == exam
                background = int(scene.view[0])
                assert background >= len(index["photos"]) or (background in photos) == exam
    painted = [set(load_catalogue(split).painted) for split in ("train", "exam")]
    assert not painted[0] & painted[1]


def test_looks_are_of_pictures_that_training_may_show_and_drawn_by_its_renderer_alone() -> None:
    index, own = load_index(), len(load_pack().cells)
    objects, cells = 2 * len(index["objects"]), len(load_pack(looks=True).cells)
    assert cells == own + len(LOOKS) * objects
    allowed = {kind.cell for styles in load_catalogue("train").objects for kind in styles}
    shown: set[int] = set()
    for seed in range(20):
        world = World(seed, 2.0, WorldStyle(looks=0.5))
        for _ in range(300):
            pictures = world.advance().layers[FIRST_PICTURE:WORD_SLOT]
            shown |= {int(layer[0]) for layer in pictures if layer[-1] > 0}
    looks = {cell for cell in shown if cell >= own}
    assert {(cell - own) % objects for cell in looks} <= allowed
    assert {(cell - own) // objects for cell in looks} == set(range(len(LOOKS)))
    assert len(shown & allowed) > 20


def test_names_are_distinct_and_a_cast_has_no_two_alike() -> None:
    names = [entry["name"] for entry in load_index()["objects"]]
    assert len(set(names)) == len(names) >= 200
    assert set().union(*ALIKE) <= set(names)
    for seed in range(50):
        cast = {kind.name for kind in World(seed, 2.0, WorldStyle()).casting.cast}
        assert all(len(names & cast) <= 1 for names in ALIKE)
    words = ("cat", "owl", "hourglass", "unicorn", "umbrella", "ukulele")
    assert [with_article(w).split()[0] for w in words] == ["a", "an", "an", "a", "an", "a"]


def test_every_family_has_hundreds_of_sentences_and_no_other_family_has_them() -> None:
    assert set(WORDINGS) == set(ALL_FAMILIES)
    everywhere = Counter(w for said in SENTENCES.values() for w in {s.lower() for s in said})
    assert everywhere.most_common(1)[0][1] == 1
    for family, (train, held) in WORDINGS.items():
        assert len(train) >= 16 and len(held) >= 17
        assert len(SENTENCES[family]) >= 300, family
    heldout = {w.lower() for _, held in WORDINGS.values() for w in held}
    for sentence in (*everywhere, *heldout):
        assert len(re.findall(r"[\w'{}]+|[^\w\s]", sentence)) <= 24, sentence
        names = set(NAMES.findall(sentence))
        assert not names - (set() if sentence in heldout else EVERYDAY), sentence


def test_held_out_wordings_are_not_like_what_is_trained() -> None:
    everywhere = {normalise(s) for said in SENTENCES.values() for s in said}
    for family, (_, held) in WORDINGS.items():
        assert not everywhere & {normalise(w) for w in held}
        trained = {words: set(words) for s in SENTENCES[family] for words in [_words(s.lower())]}
        for words in [_words(w.lower()) for w in held]:
            # The others are quickly told: more than two of the words are not there.
            near = [t for t, there in trained.items() if len(set(words) - there) <= 2]
            assert not [t for t in near if _within_two_edits(words, t)]


def test_held_out_wordings_have_no_word_that_training_lacks() -> None:
    known = {word for said in SENTENCES.values() for s in said for word in _words(fill(s, {}))}
    unknown = {
        (word, w)
        for _, held in WORDINGS.values()
        for w in held
        for word in _words(fill(w, {}))
        if word not in known
    }
    assert not unknown


def _words(wording: str) -> tuple[str, ...]:
    """Its words, placeholders included, without punctuation."""
    return tuple(re.findall(r"[{}A-Za-z']+", wording))


def _within_two_edits(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether two words left out, put in or replaced turn one sentence into the other."""
    row = list(range(len(b) + 1))
    for i, word in enumerate(a):
        above, row = row, [i + 1]
        for j, other in enumerate(b):
            row.append(min(above[j] + (word != other), above[j + 1] + 1, row[j] + 1))
    return row[-1] <= 2


def test_a_pattern_says_what_it_lists_and_the_same_for_the_same_seed() -> None:
    pattern = "[Please |Now[| just] |]tell me[| now]."
    listed = list(sentences(pattern))
    assert listed == [
        f"{a}tell me{b}." for a in ("Please ", "Now ", "Now just ", "") for b in ("", " now")
    ]
    said = [expand(pattern, random.Random(seed)) for seed in range(100)]
    assert set(said) == set(listed)
    assert said == [expand(pattern, random.Random(seed)) for seed in range(100)]
    rng = random.Random(0)
    for family, (train, _) in WORDINGS.items():
        assert {expand(pattern, rng) for pattern in train} <= set(SENTENCES[family])


@pytest.mark.parametrize("pattern", ["[a", "a]", "a|b", "[a|[b]", "[a] b]", "[a] [b", "[a]|b"])
def test_brackets_that_do_not_match_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(repr(pattern))):
        read_wordings(f"[word]\ntrain = ['{pattern}']\nheldout = ['Which word?']")
    with pytest.raises(ValueError, match="held-out"):
        read_wordings(f"[word]\ntrain = ['What word?']\nheldout = ['{pattern}']")


def test_yes_and_no_are_equally_good_guesses() -> None:
    answers: dict[str, Counter[bool]] = {}
    for seed in range(150):
        world, rng = World(seed, 5.0, WorldStyle()), random.Random(seed)
        for _ in range(40 * 5):
            world.advance()
            qa = ask(world, rng, rng.choice(ALL_FAMILIES))
            if qa is not None and qa.yes_no:
                answers.setdefault(qa.family, Counter())[qa.answer.startswith("yes")] += 1
    total = sum(answers.values(), Counter[bool]())
    assert 0.45 < total[True] / total.total() < 0.55
    for family, counter in answers.items():
        if counter.total() > 60:
            assert 0.4 <= counter[True] / counter.total() <= 0.6, (family, counter)


def test_questions_leave_margins() -> None:
    rng, asked = random.Random(0), Counter[str]()
    for seed in range(60):
        world = World(seed, 5.0, WorldStyle())
        for _ in range(150):
            world.advance()
            tracks, t = world.tracks(), world.now
            for family in ("visible", "count", "larger", "where", "left_of"):
                qa = ask(world, rng, family)
                if qa is None:
                    continue
                asked[family] += 1
                if family in ("visible", "count", "left_of"):
                    assert all(track.settled(t, 0.2) for track in tracks)
                if family == "visible":
                    xs = sorted(track.place(t)[0] for track in tracks)
                    assert all(b - a >= 0.1 for a, b in pairwise(xs))
                if family == "larger":
                    sizes = {f"the {k.name}": k.size for k in tracks}
                    first, second = sizes[qa.answer], min(
                        s for n, s in sizes.items() if n in qa.question.lower() and n != qa.answer
                    )  # fmt: skip
                    assert first / second > 1.29
    assert min(asked.values()) > 50


def test_memory_questions_carry_the_age_of_their_evidence() -> None:
    seen = Counter[bool]()
    for seed in range(20):
        world, rng = World(seed, 2.0, WorldStyle()), random.Random(seed)
        for _ in range(100):
            world.advance()
            qa = ask(world, rng)
            if qa is None:
                continue
            seen[qa.memory] += 1
            assert 0 <= qa.distance_s <= world.now
            assert qa.memory == (qa.family in FAMILIES["memory"] and qa.distance_s > 3)
    assert seen[True] > 100 and seen[False] > 100


def recollected(world: World, family: str, row: tuple[float, ...]) -> str:
    """The answer to a question about a thing by what is recollected of it."""
    _, before, after, times, place, there = row
    names = {number: name for name, number in world.casting.class_of.items()}
    match family:
        case "before":
            return names[int(before)] if before else "nothing"
        case "after":
            return names[int(after)] if after else "nothing yet"
        case "where_was" if times:
            return REGIONS[int(place)]
        case "times":
            return str(int(times))
        case "gone_yet":
            return "not yet" if there else "yes"
        case "seen" if times:
            return "yes"
    return "no, I have not seen one" if family == "seen" else "I have not seen one"


@pytest.mark.parametrize("seed", range(3))
def test_what_can_be_recollected_is_what_questions_are_answered(seed: int) -> None:
    """Of things that a question names."""
    world, rng, compared = World(seed, 2.0, WorldStyle(cast=8)), random.Random(seed), Counter[str]()
    families = ("before", "after", "where_was", "times", "gone_yet", "seen")
    for _ in range(1200):
        world.advance()
        rows = {name: world.recollect(name) for name in world.casting.class_of}
        for family in families:
            qa = ask(world, rng, family)
            name = qa.names[0] if qa else ""
            if qa is not None and name in rows:
                told = recollected(world, family, rows[name])
                assert normalise(told) == normalise(qa.answer), (qa, rows[name])
                compared[family] += 1
    assert min(compared[family] for family in families) > 20, compared


def test_an_hour_stays_small_and_can_still_be_asked_about() -> None:
    world, rng = World(3, 2.0, WorldStyle()), random.Random(3)
    families = Counter[str]()
    for frame in range(2 * 3600):
        world.advance()
        if frame > 2 * 3500 and (qa := ask(world, rng)) is not None:
            families[qa.family] += 1
    history = world.history
    assert len(history.records) <= world.style.cast + len(world.casting.words)
    assert history.snapshots[1][0] >= world.now - SNAPSHOTS_S - 30
    assert len(history.snapshots) < 400 and len(history.events) < 100
    assert len(world.stage._agenda) < 30
    assert sys.getsizeof(world.wanted) + sys.getsizeof(world.ahead) < 5000
    assert sum(families.values()) > 120
    assert {"visible", "number", "last_number", "there_ago"} <= set(families)


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("A red circle.", "red circle"),
        ("two", "2"),
        ("No, I have not seen one.", "no i have not seen 1"),
        ("the  Cat ", "cat"),
        ("an owl, a cat and the word stop", "owl cat and word stop"),
    ],
)
def test_answers_are_compared_without_case_articles_and_number_words(
    answer: str, normal: str
) -> None:
    assert normalise(answer) == normal


def test_what_was_there_before_one_came_was_never_seen() -> None:
    """A world that was told to forget knows what is there, and what came since."""
    world, rng = World(3, 5.0, WorldStyle()), random.Random(1)
    for _ in range(300):
        world.advance()
    seen = set(world.history.records)
    world.forget()
    assert {track.name for track in world.pictures()} <= set(world.history.records) < seen
    answers = Counter[str]()
    for _ in range(400):
        if world.watched_s < 5.0:
            world.advance()
        qa = ask(world, rng, "seen")
        if qa is not None and qa.names[0] in seen - set(world.history.records):
            assert qa.distance_s == world.watched_s
            answers[qa.answer] += 1
    assert set(answers) == {"no, I have not seen one"} and answers.total() > 5
