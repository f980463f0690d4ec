"""A filmed world can be played, and its questions have the answers of their moment."""

import json
from pathlib import Path

import pytest

from sources.open import open_source
from training.clip import main
from training.questions import FAMILIES
from training.render_pack import FRAME


def test_a_film_has_its_frames_and_questions_with_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "film.mp4"
    args = ["clip", "--seed", "5", "--seconds", "4", "--fps", "10", "--out", str(out)]
    monkeypatch.setattr("sys.argv", args)
    main()
    source = open_source(str(out))
    times_s = []
    while (frame := source.read()) is not None:
        times_s.append(frame.pts_s)
        assert frame.image.shape == (FRAME, FRAME, 3)
    source.close()
    assert times_s == pytest.approx([n / 10 for n in range(40)], abs=1e-3)
    questions = json.loads(out.with_suffix(".json").read_text())
    assert {q["at_s"] for q in questions} <= {0.9, 1.9, 2.9, 3.9} and len(questions) > 20
    assert {q["family"] for q in questions} <= {f for fs in FAMILIES.values() for f in fs}
    assert all(q["question"] and q["answer"] for q in questions)
