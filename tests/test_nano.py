"""The small checkpoint that comes with the code, asked as a person would, through the program."""

import json

import pytest

import run_stream
from model.checkpoint import NANO_FOLDER, load_model
from training.questions import normalise

# Times at which each has one right answer, seconds from the first frame.
ASKED = [
    (3.0, "What do you see?", "a purple square and the number 77"),
    (3.0, "Which number is shown?", "77"),
    (3.0, "What color is the square?", "purple"),
    (7.0, "Is there a ball of yarn?", "yes"),
    (7.0, "Is there a cat?", "no"),
    (7.0, "How many things can you see?", "two"),
    (12.0, "Has the purple square gone?", "yes"),
    (12.0, "Have you seen a rabbit?", "no, I have not seen one"),
    (15.0, "Where is the ball of yarn?", "on the right"),
    (21.0, "What do you see?", "a fish"),
    (21.0, "What came before the fish?", "a ball of yarn"),
    (21.0, "What was the last number?", "24"),
    (28.2, "What does the word say?", "world"),
    (28.2, "Where was the handbag?", "on the right"),
    (33.0, "What came before the trumpet?", "a handbag"),
    (33.0, "Have you seen a fish?", "yes"),
    (37.5, "What colour is the hexagon?", "orange"),
    (37.5, "How many times have you seen a ball of yarn?", "two"),
    (37.5, "What was the last number?", "30"),
    (43.5, "Have you seen a trumpet?", "yes"),
]


def test_it_sees_and_remembers(capfd: pytest.CaptureFixture[str]) -> None:
    """Of twenty questions, eight of them about what is gone, eighteen are right."""
    argv = ["--source", "assets/demo.mp4", "--pace", "max", "--json", "--max-tokens", "24"]
    for at_s, question, _ in ASKED:
        argv += ["--ask", f"{at_s}s: {question}"]
    assert run_stream.main(argv) == 0
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    done = [line for line in lines if line["type"] == "AnswerDone"]
    wrong = []
    for at_s, question, expected in ASKED:
        own = [d for d in done if d["question"] == question and 0 <= d["last_pts_s"] - at_s < 0.1]
        assert len(own) == 1, question
        if normalise(own[0]["answer"]) != normalise(expected):
            wrong.append((at_s, question, expected, own[0]["answer"]))
    assert len(wrong) <= 2, wrong


def test_it_is_small_and_has_the_published_form() -> None:
    """At most 10 M parameters, shards of at most 16 MB, a window of 8 frames."""
    model = load_model("nano")
    assert model.trained and model.grid == (8, 8)
    assert sum(p.numel() for p in model.vlm.parameters()) < 10_000_000
    assert model.vlm.config.sliding_window == 8 * 64
    files = {file.name: file.stat().st_size for file in NANO_FOLDER.iterdir()}
    assert max(files.values()) < 16_000_000
    assert {"config.json", "tokenizer.json", "model.safetensors.index.json"} <= files.keys()


def test_the_program_says_what_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    """In the first line, with how to load the real model."""
    assert run_stream.main(["--source", "synthetic:224x224@25#2", "--pace", "max"]) == 0
    first = capfd.readouterr().out.splitlines()[0]
    assert "9 M parameters" in first and "--model hustvl/InfiniteVL-LongSFT" in first
