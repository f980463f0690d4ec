"""The words that nano was trained with are those that it is said to know."""

from pathlib import Path

import pytest
import torch

from model.checkpoint import LoadedModel, load_model
from training.questions_wordings import WORDINGS
from training.vocabulary import known_words
from ui.introduction import caution, examples


@pytest.fixture(scope="module")
def nano() -> LoadedModel:
    return load_model("nano", torch.device("cpu"), torch.float32)


def test_the_words_of_nano_have_not_drifted() -> None:
    """If this fails: python -m training.vocabulary > assets/nano/words.txt"""
    assert Path("assets/nano/words.txt").read_text().split() == known_words()


def test_every_question_of_its_exam_is_in_its_words(nano: LoadedModel) -> None:
    for _, heldout in WORDINGS.values():
        for question in heldout:
            asked = question.format(a="two cats", the="the word", other="the red square", n="12")
            assert caution(nano, asked) == ""
    assert not any(caution(nano, question) for question in examples(nano))


def test_words_that_it_cannot_know_are_named_once(nano: LoadedModel) -> None:
    said = caution(nano, "Is WEATHER, that weather, seen with WEATHER at Zürich zoo?")
    words = "“WEATHER”, “weather”, “Zürich”"
    assert said == f"nano has never met {words}: what it says to that means nothing"


def test_a_model_that_knows_language_is_not_cautioned() -> None:
    tiny = load_model("random:tiny", torch.device("cpu"), torch.float32)
    assert caution(tiny, "Will the weather please anyone?") == ""
