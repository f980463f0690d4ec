"""Films a world: a video of a stream, and questions about it with their right answers.

    python -m training.clip --seed 12 --seconds 60 --out assets/demo.mp4

writes assets/demo.mp4 (H.264, 224 x 224) and assets/demo.json: for every second of the stream a few
questions, in wordings held out from training, that can be asked at that moment.
"""

import argparse
import json
import random
from dataclasses import asdict
from pathlib import Path

import av
import numpy as np

from training.questions import FAMILIES, QA, ask
from training.render_frame import FrameRenderer
from training.render_pack import FRAME, load_pack
from training.world import World, WorldStyle

CRF = "24"
# A camera good enough that the file stays small.
NOISE = 0.01


def film(world: World, frames: int, out: Path) -> list[tuple[float, QA]]:
    """Write a video of the next frames; returns what can be asked, by the second."""
    renderer, noise = FrameRenderer(load_pack()), np.random.default_rng(world.seed)
    rng = random.Random(world.seed)
    questions: list[tuple[float, QA]] = []
    with av.open(str(out), "w") as container:
        stream = container.add_stream("libx264", rate=round(world.fps))
        stream.width = stream.height = FRAME
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": CRF}
        for number in range(frames):
            picture = renderer.draw(world.advance(), noise)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            if number % round(world.fps) == round(world.fps) - 1:
                questions += [(world.now, qa) for qa in _all_now(world, rng)]
        container.mux(stream.encode())
    return questions


def _all_now(world: World, rng: random.Random) -> list[QA]:
    """One question of every family that fits this moment."""
    families = [*FAMILIES["perception"], *FAMILIES["memory"]]
    asked = (ask(world, rng, family, "heldout") for family in families)
    return [qa for qa in asked if qa is not None]


def main() -> None:
    parser = argparse.ArgumentParser(description="Film a world.")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fps", type=float, default=25.0)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    world = World(args.seed, args.fps, WorldStyle(noise=NOISE))
    questions = film(world, round(args.seconds * args.fps), args.out)
    lines = [json.dumps({"at_s": round(at_s, 3), **asdict(qa)}) for at_s, qa in questions]
    args.out.with_suffix(".json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB, {len(questions)} questions")


if __name__ == "__main__":
    main()
