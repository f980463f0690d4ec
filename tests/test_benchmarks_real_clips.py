"""The hand-made questions on real clips: the file can be used as it is."""

import json
from pathlib import Path

from training.questions import normalise

ROOT = Path(__file__).parent.parent
REAL = json.loads((ROOT / "benchmarks" / "real_clips.json").read_text())
CLIPS, QUESTIONS = REAL["clips"], REAL["questions"]
PAST = {"ago", "before", "first", "gone_yet", "seen", "there_ago", "where_was"}


def test_every_clip_says_where_it_is_from_and_is_asked_about() -> None:
    """A clip has a file, a package and a licence; one in this repository is there."""
    for clip in CLIPS.values():
        assert set(clip) == {"file", "package", "licence"} and all(clip.values())
        assert clip["package"] != "in this repository" or (ROOT / clip["file"]).is_file()
    assert {asked["clip"] for asked in QUESTIONS} == set(CLIPS)


def test_every_question_is_whole() -> None:
    """It has a moment, a wording, a kind, and answers that differ once they are normalised."""
    for asked in QUESTIONS:
        assert set(asked) == {"clip", "at_s", "question", "answers", "kind"}, asked
        assert asked["at_s"] >= 0 and asked["kind"] and asked["question"].endswith("?"), asked
        answers = [normalise(answer) for answer in asked["answers"]]
        assert answers and all(answers) and len(set(answers)) == len(answers), asked


def test_there_are_enough_questions_and_a_quarter_is_about_the_past() -> None:
    """Few questions tell nothing, and memory is what the model is for."""
    assert len(QUESTIONS) >= 40
    assert sum(asked["kind"] in PAST for asked in QUESTIONS) >= len(QUESTIONS) / 4


def test_yes_and_no_are_balanced() -> None:
    """Each is right for at least a third of the yes/no questions, and never both for one."""
    told = [{"yes", "no"}.intersection(asked["answers"]) for asked in QUESTIONS]
    told = [said for said in told if said]
    assert all(len(said) == 1 for said in told)
    for word in ("yes", "no"):
        assert sum(word in said for said in told) >= len(told) / 3
