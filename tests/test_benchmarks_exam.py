"""The exam: batched answers are the engine's, wiping wipes, and the figures count what they say."""

import dataclasses
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.exam import ALL, MEMORY, Exam, NoWorldsError, hold, read
from benchmarks.exam_report import ablations, distances, families, headline, length_gap, majority
from benchmarks.exam_room import Answered, Examiner, Room, answers, on_one_side, worlds_of
from model.checkpoint import LoadedModel, load_model
from model.state import DeltaNetState
from training.nano import save_checkpoint
from training.questions import QA, ask
from training.render_frame import FrameRenderer
from training.render_pack import load_pack
from training.train import initial_model
from training.vocabulary import write_tokenizer
from training.world import World, WorldStyle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    """Untrained weights in the small checkpoint's shape."""
    folder = tmp_path_factory.mktemp("nano")
    write_tokenizer(folder / "tokenizer.json")
    save_checkpoint(initial_model(torch.device("cpu"), 1), folder / "tokenizer.json", folder / "c")
    return load_model(str(folder / "c"))


@pytest.fixture(scope="module")
def renderer() -> FrameRenderer:
    return FrameRenderer(load_pack())


def one(**changes: object) -> Answered:
    """An answer to a memory question, right unless told otherwise."""
    base = Answered(
        room="main", fps=2.0, at_s=60.0, family="before", memory=True, yes_no=False,
        distance_s=30.0, windows=7.5, question="What came before?", expected="a cat",
        answer="a cat", held_out=False, crowded=False,
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


@torch.inference_mode()
def test_a_batch_of_questions_is_answered_as_each_alone(
    model: LoadedModel, renderer: FrameRenderer
) -> None:
    """And asking leaves the slots bitwise as they were."""
    room = Room("main", model, renderer, worlds_of(1, 3, 5.0, 0.0), max_asked=4)
    for _ in range(12):
        room.watch()
    before = [t[1:4].clone() for t in room._pool.tensors()]
    asked = [(1, "What do you see?"), (2, "How many objects are there?"), (2, "Is there a cat?")]
    together = answers(model, room._pool, asked, room._free)
    alone = [answers(model, room._pool, [question], room._free)[0] for question in asked]
    assert together == alone
    after = [t[1:4] for t in room._pool.tensors()]
    assert all(map(torch.equal, before, after))


@torch.inference_mode()
def test_a_twin_has_all_of_its_original_but_the_recurrent_state(
    model: LoadedModel, renderer: FrameRenderer
) -> None:
    room = Room("wiped", model, renderer, worlds_of(2, 2, 5.0, 0.5), twins=True, max_asked=2)
    for _ in range(10):
        room.watch()
    room.wipe_twins()
    for layer in room._pool.layers:
        if isinstance(layer, DeltaNetState):
            assert layer.recurrent_state[1:3].abs().amax() > 0
            assert not layer.recurrent_state[3:5].any()
            assert torch.equal(layer.conv_state[1:3], layer.conv_state[3:5])
        else:
            assert torch.equal(layer.keys[1:3], layer.keys[3:5])
    room.watch()
    differ = [
        not torch.equal(layer.recurrent_state[1:3], layer.recurrent_state[3:5])
        for layer in room._pool.layers
        if isinstance(layer, DeltaNetState)
    ]
    assert all(differ)


def test_frames_reach_the_slots_they_belong_to(model: LoadedModel, renderer: FrameRenderer) -> None:
    """A world watched with others leaves the state that it leaves alone."""
    with torch.inference_mode():
        rooms = [
            Room("main", model, renderer, [World(n, 5.0, WorldStyle(noise=0.0)) for n in seeds])
            for seeds in ([3, 4], [4])
        ]
        for room in rooms:
            for _ in range(6):
                room.watch()
        for a, b in zip(rooms[0]._pool.tensors(), rooms[1]._pool.tensors(), strict=True):
            torch.testing.assert_close(a[2].float(), b[1].float(), rtol=1e-3, atol=1e-4)


def test_families_are_asked_as_often_in_wordings_never_trained_on() -> None:
    examiner = Examiner(("is_there", "colour", "where", "seen"), seed=1)
    asked = Counter[str]()
    wordings = set()
    for seed in range(12):
        world = World(seed, 2.0, WorldStyle())
        for _ in range(40):
            world.advance()
            if qa := examiner.question(world):
                asked[qa.family] += 1
                wordings.add(qa.question)
    assert examiner.num_asked == asked.total() > 300
    assert max(asked.values()) - min(asked.values()) <= 8
    trained = {ask(World(0, 2.0, WorldStyle()), random.Random(n), "is_there") for n in range(50)}
    assert not wordings & {qa.question for qa in trained if qa}


@pytest.mark.parametrize(
    ("memory", "distance_s", "fits"),
    [(True, 12.0, True), (True, 8.2, False), (False, 0.0, True), (False, 7.9, False)],
)
def test_an_ablation_asks_of_one_side_of_the_wiping(
    memory: bool, distance_s: float, fits: bool
) -> None:
    qa = QA("first", memory, "What was first?", "a cat", distance_s, False)
    assert on_one_side(qa, since_s=8.0) is fits


def test_the_headline_counts_what_it_says() -> None:
    answered = [
        one(),
        one(answer="a dog"),
        one(windows=3.0, answer="a dog"),  # near: not counted as far
        one(family="distinct", expected="three", answer="3"),
        one(family="seen", yes_no=True, expected="yes", answer="no"),
        one(family="seen", yes_no=True, expected="no, I have not seen one", answer="no"),
        one(family="visible", memory=False, windows=0.0, crowded=True, answer="cat."),
        one(family="visible", memory=False, windows=0.0, held_out=True, answer="dog"),
        one(room="wiped", answer="a dog"),
        one(mind="wiped", answer="a dog"),
    ]
    found = headline(answered)
    assert found["questions"] == 8
    assert found["memory"] == pytest.approx(1 / 4) and found["memory_near"] == 0.0
    assert found["distinct"] == 1.0
    assert (found["yes"], found["no"]) == (0.0, 0.0)
    assert found["perception"] == 0.5 and found["perception_crowded"] == 1.0
    assert found["perception_held_out"] == 0.0
    assert families(answered)["before"]["far"] == 0.5
    assert majority([one(), one(expected="a dog"), one()]) == pytest.approx(2 / 3)
    assert distances([one(distance_s=12.0), one(distance_s=700.0, answer="x")]) == {
        "2": {"10": [1.0, 1], "640": [0.0, 1]}
    }


def test_the_hours_loss_is_taken_at_equal_family_and_distance() -> None:
    early = [one(at_s=100.0), one(at_s=110.0), one(at_s=90.0, family="first", distance_s=90.0)]
    late = [one(at_s=3590.0), one(at_s=3590.0, answer="a dog"), one(at_s=3595.0, family="seen")]
    assert length_gap(early + late) == pytest.approx(0.5)
    assert length_gap(early) is None


def test_an_ablation_sets_apart_what_need_not_be_remembered() -> None:
    nothing = one(room="wiped", mind="wiped", expected="nothing yet", answer="nothing yet")
    lost = one(room="wiped", mind="wiped", answer="nothing yet")
    seen = one(room="wiped", mind="wiped", family="visible", memory=False)
    found = ablations([nothing, lost, seen])["wiped"]
    assert found["memory"] == 0.0 and found["memory_negative"] == 1.0
    assert found["perception"] == 1.0 and found["questions"] == 3


def test_every_room_asks_and_keeps_what_it_was_told(
    model: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundredth of the exam, without the rooms that take long by their nature."""
    monkeypatch.setattr("benchmarks.exam.FPS", (2.0,))
    exam = Exam(model, seed=3, scale=0.01, clips=None)
    kept = tmp_path / "answers.jsonl"
    answered = hold(exam, ["short", "wiped", "window"], kept)
    assert [dataclasses.asdict(a) for a in read([kept])] == [
        dataclasses.asdict(a) | {"accepted": []} for a in answered
    ]
    rooms = Counter((a.room, a.mind) for a in answered)
    assert rooms["wiped", "whole"] == rooms["wiped", "wiped"] >= 3
    assert rooms["window", "whole"] == rooms["window", "window only"] >= 1
    assert rooms["short", "whole"] >= 1 and set(MEMORY) < set(ALL)


def test_parts_share_the_worlds_and_the_questions(
    model: LoadedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each world is in one part; a part that is left without any asks nothing and says so."""

    def seeds(part: tuple[int, int]) -> list[int]:
        exam = Exam(model, 3, 0.1, None, part)
        return [world.seed for world in exam._room("short", 2.0, 16).worlds]

    whole = seeds((0, 1))
    assert sorted(seeds((0, 3)) + seeds((1, 3)) + seeds((2, 3))) == sorted(whole)
    assert Exam(model, 3, 0.5, None, (1, 4)).scale == 0.125
    idle = Exam(model, 3, 0.01, None, (2, 3))
    with pytest.raises(NoWorldsError, match="part 3/3"):
        idle._room("short", 2.0, 16)
    assert hold(idle, ["short"], None) == [] and "part 3/3" in capsys.readouterr().err


def test_worlds_of_the_exam_are_the_same_from_the_same_seed() -> None:
    one_, again, other = (worlds_of(seed, 8, 2.0, 1 / 8) for seed in (7, 7, 8))
    assert [w.style.split for w in one_] == ["exam"] + ["train"] * 7
    for a, b, c in zip(one_, again, other, strict=True):
        scene = a.advance().values
        assert np.array_equal(scene, b.advance().values)
        assert not np.array_equal(scene, c.advance().values)
