"""The exam on real video: hand-written questions about clips, reported apart.

The clips are in public packages, not in the repository; real_clips.json says where. What the small
checkpoint was trained on is not in them, so this shows how far it is from the world.
"""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.exam_room import Answered, answers
from model.checkpoint import LoadedModel
from model.state import StatePool
from sources.file import FileSource
from sources.frame import VideoFrame
from training.questions import FAMILIES, normalise

QUESTIONS = Path(__file__).parent / "real_clips.json"
FPS = 5.0


def real_clips(model: LoadedModel, folder: Path | None) -> Iterator[Answered]:
    """Play each clip and ask when a question's moment has come; name the clips that are missing."""
    data = json.loads(QUESTIONS.read_text())
    for name, clip in data["clips"].items():
        file = (folder or Path()) / Path(clip["file"]).name
        if not file.is_file():
            print(f"{name}: {file} is not there; it comes with {clip['package']}")
            continue
        asked = sorted((q for q in data["questions"] if q["clip"] == name), key=lambda q: q["at_s"])
        yield from _one_clip(model, file, asked)


def _one_clip(model: LoadedModel, file: Path, asked: list[dict]) -> Iterator[Answered]:
    """Watch a clip at FPS of its own clock; a question sees the frames up to its moment."""
    assert model.grid is not None
    vlm, slot = model.vlm, torch.tensor([1])
    pool = vlm.new_pool(2, max_append=model.frame_tokens)
    vlm.start_stream(1, pool)
    shown = -1
    source = FileSource(file, loop=False, clock=time.monotonic)
    try:
        while asked:
            frame = source.read()
            if frame is not None and not isinstance(frame, VideoFrame):
                continue
            while asked and (frame is None or asked[0]["at_s"] < frame.pts_s):
                yield _answer(model, pool, asked.pop(0))
            if frame is None or int(frame.pts_s * FPS) == shown:
                continue
            shown = int(frame.pts_s * FPS)
            picture = torch.from_numpy(frame.image)[None]
            times_s = torch.tensor([frame.pts_s], dtype=torch.float64)
            vlm.append_frames(picture, times_s, slot, pool, model.grid)
    finally:
        source.close()


def _answer(model: LoadedModel, pool: StatePool, asked: dict) -> Answered:
    text = answers(model, pool, [(1, asked["question"])], [2])[0]
    first, *others = asked["answers"]
    return Answered(
        room="clips",
        fps=FPS,
        at_s=asked["at_s"],
        family=asked["kind"],
        memory=asked["kind"] in FAMILIES["memory"],
        yes_no=normalise(first) in ("yes", "no"),
        distance_s=0.0,
        windows=0.0,
        question=f"{asked['clip']}: {asked['question']}",
        expected=first,
        answer=text,
        held_out=True,
        crowded=True,
        accepted=others,
    )
