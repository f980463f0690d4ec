"""Answers against an oracle that knows nothing of the world but the scenes it has drawn."""

import random
import re
from dataclasses import dataclass, field

import pytest

from training.questions import FAMILIES, QA, ask, normalise
from training.questions_draft import is_calm
from training.world import World, WorldStyle
from training.world_catalogue import COLOURS, SHAPES, load_index
from training.world_scene import FIRST_PICTURE, LAYERS, NUMBER_SLOT, UNKNOWN, WORD_SLOT, Scene
from training.world_stage import REGIONS, region_of

# What is away for less than this only blinked.
BLINK_S = 1.2
CHARACTERS = load_index()["glyphs"]["characters"]
NAMES = [entry["name"] for entry in load_index()["objects"]]
NAMES += [f"{colour} {shape}" for shape in SHAPES for colour in COLOURS]


@dataclass
class Item:
    name: str
    x: float
    y: float
    size: float
    is_text: bool


@dataclass
class Run:
    """One appearance, from its first to its last frame."""

    name: str
    start: float
    end: float
    last: Item


@dataclass
class Oracle:
    """Replays scenes: what was visible in every frame."""

    chameleon: str | None
    frames: list[tuple[float, list[Item]]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    views: list[tuple[float, ...]] = field(default_factory=list)

    def see(self, t: float, scene: Scene) -> None:
        items = [item for i in range(FIRST_PICTURE, LAYERS) if (item := _item(scene, i))]
        self.frames.append((t, items))
        self.views.append(tuple(scene.view[:9].tolist()))
        for item in items:
            name = self.alias(item.name)
            run = next((r for r in reversed(self.runs) if r.name == name), None)
            if run is not None and t - run.end <= BLINK_S:
                run.end, run.last = t, item
            else:
                self.runs.append(Run(name, t, t, item))

    def alias(self, name: str) -> str:
        """The chameleon has one name in all colours."""
        changes = self.chameleon is not None and name.endswith(f" {self.chameleon}")
        return self.chameleon or "" if changes else name

    @property
    def now(self) -> list[Item]:
        return self.frames[-1][1]

    def find(self, name: str, back: int = 1) -> Item | None:
        """By full name, or by shape, or `word` and `number` for what is read."""
        for item in self.frames[-back][1]:
            if item.name == name or item.name.endswith(f" {name}") or f" {name} " in item.name:
                return item
        return None

    def pictures(self) -> list[Run]:
        return [run for run in self.runs if not run.last.is_text]


def _item(scene: Scene, i: int) -> Item | None:
    _, x, y, size, *_, alpha = scene.layers[i].tolist()
    outside = not (-size / 2 < x < 1 + size / 2 and -size / 2 < y < 1 + size / 2)
    if alpha <= 0 or outside:
        return None
    class_id = int(scene.classes[i])
    if i < WORD_SLOT:
        return Item(NAMES[class_id - 1], x, y, size, False)
    glyphs = [int(g) for g in scene.texts[i - WORD_SLOT][:-1] if g >= 0]
    text = "".join(CHARACTERS[g % len(CHARACTERS)] for g in glyphs).lower()
    return Item(f"the {'number' if i == NUMBER_SLOT else 'word'} {text}", x, y, size, True)


def _say(item: Item) -> str:
    return normalise(item.name if item.is_text else f"a {item.name}")


def _subjects(qa: QA) -> list[str]:
    return [name for name in qa.names if name.split()[0] not in ("word", "number")] + [
        name for name in qa.names if name in ("word", "number")
    ]


def _region(x: float, y: float) -> str:
    column = "left" if x < 1 / 3 else "right" if x > 2 / 3 else ""
    row = "top" if y < 1 / 3 else "bottom" if y > 2 / 3 else ""
    if row:
        return f"at the {row} {column}".strip()
    return f"on the {column}" if column else "in the centre"


def _expected(oracle: Oracle, world: World, qa: QA) -> str | None:
    """The right answer by brute force; None where the oracle has no opinion."""
    for opinion in (_expected_now(oracle, qa), _expected_change(oracle, world, qa)):
        if opinion is not None:
            return opinion
    return _expected_then(oracle, world, qa)


def _expected_now(oracle: Oracle, qa: QA) -> str | None:
    subjects = _subjects(qa)
    ordered = sorted(oracle.now, key=lambda item: item.x)
    first = oracle.find(subjects[0]) if subjects else None
    match qa.family:
        case "visible":
            names = [_say(item) for item in ordered]
            return re.sub(" and | ", " ", " ".join(names)) or "nothing"
        case "is_there":
            return "yes" if first else "no"
        case "count":
            return str(len(oracle.now))
        case "where":
            return None if first is None else _region(first.x, first.y)
        case "colour" if first is not None and not first.is_text:
            return first.name.split()[0]
        case "word" | "number":
            texts = [i.name for i in oracle.now if i.name.startswith(f"the {qa.family} ")]
            return texts[0].split()[-1] if texts else "nothing"
        case "larger" | "smaller" | "further_left" | "higher":
            a, b = (oracle.find(name) for name in subjects)
            if a is None or b is None:
                return "missing"
            key = {"larger": a.size > b.size, "smaller": a.size < b.size,
                   "further_left": a.x < b.x, "higher": a.y < b.y}[qa.family]  # fmt: skip
            return subjects[0] if key else subjects[1]
        case "left_of" | "right_of" if first is not None:
            at = ordered.index(first)
            side = ordered[:at] if qa.family == "left_of" else ordered[at + 1 :]
            return _say(side[0]) if side else "nothing"
        case "direction" if first is not None:
            before = oracle.find(subjects[0], back=2)
            assert before is not None
            dx, dy = first.x - before.x, first.y - before.y
            if max(abs(dx), abs(dy)) < 1e-6:
                return "it is not moving"
            if abs(dx) > abs(dy):
                return "to right" if dx > 0 else "to left"
            return "down" if dy > 0 else "up"
        case "anything_moving":
            old = {item.name: item for item in oracle.frames[-2][1]}
            shifts = [
                abs(i.x - old[i.name].x) + abs(i.y - old[i.name].y)
                for i in oracle.now
                if i.name in old
            ]
            return "yes" if max(shifts, default=0) > 1e-6 else "no"
    return None


def _expected_change(oracle: Oracle, world: World, qa: QA) -> str | None:
    subjects = _subjects(qa)
    lately = [frame for frame in oracle.frames if world.now - frame[0] <= 3.0]
    match qa.family:
        case "did_cut":
            num_frames = sum(world.now - t <= 2.0 for t, _ in oracle.frames) + 1
            return "yes" if len(set(oracle.views[-num_frames:])) > 1 else "no"
        case "faster":
            shifts = []
            for name in subjects:
                a, b = oracle.find(name), oracle.find(name, back=2)
                assert a is not None and b is not None
                shifts.append(abs(a.x - b.x) + abs(a.y - b.y))
            return subjects[shifts[1] > shifts[0]]
        case "just_changed":
            for new in oracle.now:
                name = oracle.alias(new.name)
                start = max(run.start for run in oracle.runs if run.name == name)
                for old in (
                    item
                    for t, items in lately
                    for item in items
                    if oracle.alias(item.name) == name and t >= start + 0.5
                ):
                    if new.name != old.name:
                        return f"the {name} turned {new.name.split()[0]}"
                    if not 0.9 < new.size / old.size < 1.1:
                        return f"{name} got {'larger' if new.size > old.size else 'smaller'}"
            return "nothing"
        case "colour_before":
            colours = []
            for _, items in oracle.frames:
                colours += [i.name.split()[0] for i in items if oracle.alias(i.name) in subjects]
            return next(c for c in reversed(colours) if c != colours[-1])
    return None


def _expected_then(oracle: Oracle, world: World, qa: QA) -> str | None:
    subjects = _subjects(qa)
    subject = subjects[0] if subjects else ""
    pictures = oracle.pictures()
    mine = [run for run in pictures if run.name == subject]
    starts = sorted(pictures, key=lambda run: run.start)
    t = world.now
    match qa.family:
        case "first":
            return normalise(f"a {starts[0].name}") if starts else "nothing yet"
        case "before" | "after":
            at = starts.index(mine[0])
            other = at - 1 if qa.family == "before" else at + 1
            if not 0 <= other < len(starts):
                return "nothing" if qa.family == "before" else "nothing yet"
            return starts[other].name
        case "times":
            return str(len(mine))
        case "distinct":
            return str(len({run.name for run in pictures}))
        case "seen":
            return "yes" if mine else "no i have not seen 1"
        case "gone_yet":
            return "not yet" if oracle.find(subject) else "yes"
        case "where_was":
            return _region(mine[-1].last.x, mine[-1].last.y) if mine else "i have not seen 1"
        case "last_left":
            gone = [run for run in pictures if run.end < t]
            return max(gone, key=lambda run: run.end).name if gone else "nothing yet"
        case "last_word" | "last_number":
            sort = f"the {qa.family.removeprefix('last_')} "
            texts = [run for run in oracle.runs if run.name.startswith(sort)]
            return max(texts, key=lambda r: r.end).name.split()[-1] if texts else "nothing yet"
        case "word_seen":
            word = re.search(r"the word (\w+)", qa.question, re.IGNORECASE)
            assert word is not None
            name = f"the word {word[1]}"
            return "yes" if any(run.name == name for run in oracle.runs) else "no"
        case "ago" | "there_ago":
            items = min(oracle.frames, key=lambda f: abs(f[0] - (t - qa.distance_s)))[1]
            if qa.family == "there_ago":
                return "yes" if any(oracle.alias(i.name) == subject for i in items) else "no"
            return _say(items[0]) if items else "nothing"
        case "just_entered" | "did_enter":
            new = [run for run in oracle.runs if t - run.start <= 3.3 and run.start > 0]
            if qa.family == "did_enter":
                return "yes" if new else "no"
            return _say(new[-1].last) if new else "nothing"
        case "just_left" | "did_leave":
            gone = [r for r in oracle.runs if r.end < t and t - r.end <= 2.5]
            if qa.family == "did_leave":
                return "yes" if gone else "no"
            return _say(gone[-1].last) if gone else "nothing"
    return None


@pytest.mark.parametrize("forgotten_s", [None, 15.0], ids=["whole", "forgotten"])
@pytest.mark.parametrize("fps", [2.0, 5.0, 12.0])
def test_every_answer_is_what_a_replay_of_the_scenes_says(
    fps: float, forgotten_s: float | None
) -> None:
    """From the first on, or since a world was told to forget what there was before."""
    families = [*FAMILIES["perception"], *FAMILIES["memory"]]
    checked: dict[str, int] = {}
    for seed in range(14):
        world = World(seed, fps, WorldStyle(split="exam" if seed % 3 == 2 else "train"))
        bare = [kind.name for kind in world.casting.cast if kind.name in SHAPES]
        oracle = Oracle(bare[0] if bare else None)
        rng = random.Random(seed)
        for _ in range(int(45 * fps)):
            scene = world.advance()
            if world.now == forgotten_s:
                world.forget()
                oracle = Oracle(oracle.chameleon)
            oracle.see(world.now, scene)
            if rng.random() > 2 / fps or world.now == forgotten_s:
                continue
            for family in rng.sample(families, 5):
                qa = ask(world, rng, family, rng.choice(("train", "heldout")))
                if qa is None:
                    continue
                expected = _expected(oracle, world, qa)
                if expected is None:
                    continue
                answer = normalise(qa.answer)
                if family == "visible":
                    answer = answer.replace(" and ", " ")
                assert answer == normalise(expected), (seed, world.now, qa, expected)
                checked[family] = checked.get(family, 0) + 1
    assert sum(checked.values()) > 1000
    missing = set(families) - set(checked)
    assert missing <= {"blinking", "colour_before", "just_changed", "did_cut", "faster"}, missing


@pytest.mark.parametrize("seed", range(6))
def test_what_scenes_tell_of_the_past_is_what_was_drawn(seed: int) -> None:
    """The pictures that came last and before, the one that went last, how often each was there."""
    world = World(seed, 5.0, WorldStyle(temper=0.3))
    bare = [kind.name for kind in world.casting.cast if kind.name in SHAPES]
    oracle = Oracle(bare[0] if bare else None)
    checked, happened = 0, set[float]()
    for _ in range(600):
        scene = world.advance()
        oracle.see(world.now, scene)
        if not is_calm(world) or world.history.recoloured:
            continue
        runs = oracle.pictures()
        for i, (before, follows, times) in enumerate(scene.past.tolist(), FIRST_PICTURE):
            item = _item(scene, i)
            if item is None:
                continue
            own = [n for n, run in enumerate(runs) if run.name == oracle.alias(item.name)]
            if times != UNKNOWN:
                assert times == len(own)
            for told, n in ((before, own[0]), (follows, own[-1])):
                if told != UNKNOWN:
                    assert runs[n - 1].name == NAMES[int(told) - 1]
                    checked += 1
        distinct, last_left, left_from, entered, left, cut, _, *newest = scene.stream.tolist()
        for n, told in enumerate(newest, 1):
            if told != UNKNOWN:
                assert runs[-n].name == NAMES[int(told) - 1]
                checked += 1
        starts = [run.start for run in oracle.runs]
        ends = [run.end for run in oracle.runs if run.end < world.now]
        views = zip(oracle.frames, oracle.views, oracle.views[1:], strict=False)
        cuts = [t + 0.2 for (t, _), a, b in views if a != b]
        for told, moments in ((entered, starts), (left, ends), (cut, cuts)):
            if told != UNKNOWN:
                # as long again as it may take to come or to go
                within = 1.8 + 1.5 if told else 5.0 - 1.5
                assert bool(told) == any(world.now - t <= within for t in moments)
                happened.add(told)
        if distinct != UNKNOWN:
            assert distinct == len({run.name for run in runs})
        gone = [run for run in runs if run.end < world.now]
        if last_left != UNKNOWN:
            last = max(gone, key=lambda run: run.end)
            assert last.name == NAMES[int(last_left) - 1]
            if left_from != UNKNOWN:
                assert region_of(last.last.x, last.last.y) in (REGIONS[int(left_from)], None)
            checked += 1
    assert checked > 300 and happened == {0.0, 1.0}
