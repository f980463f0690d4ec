"""Does the small checkpoint see, and does it remember?

    python -m benchmarks.exam --seed 7 --questions 4000        # about an hour on two cores
    python -m benchmarks.exam --questions 300 --rooms main     # a look, in two minutes
    python -m benchmarks.exam --rooms clips --clips FOLDER     # real video

Streams of seeds that training never saw, asked in wordings that it never read; an eighth of them
show pictures and backgrounds held out from it. An answer is right if it equals the expected one
after `training.questions.normalise`. The rooms:

    main      120 s streams at 2, 5, 12 and 25 frames a second, all families as often
    short     10 s streams
    hour      an hour at 2 frames a second, asked after a minute and at the end
    distance  12 minutes in which little happens: what was seen up to ten minutes ago
    wiped     the recurrent state zeroed once, and the question asked one and two windows later
    window    the recurrent state zeroed at every frame: attention over the window alone
    clips     hand-written questions about real clips (benchmarks/real_clips.json)

`--keep FILE` writes every question and answer down; `--read FILE ...` reports on kept files.
`--part K/N` asks the K-th of N parts, each about worlds of its own, so that N processes share the
work; N may be up to the 16 worlds of a frame rate. Each has one thread: two processes of two
threads on two cores took ten times as long as one.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from benchmarks.exam_clips import real_clips
from benchmarks.exam_report import report
from benchmarks.exam_room import Answered, Examiner, Room, on_one_side, worlds_of
from model.checkpoint import DEFAULT_MODEL, LoadedModel, best_dtype, load_model
from training.questions import FAMILIES, QA
from training.render_frame import FrameRenderer
from training.render_pack import load_pack

FPS = (2.0, 5.0, 12.0, 25.0)
HELD_OUT = 1 / 8
ALL = (*FAMILIES["perception"], *FAMILIES["memory"])
MEMORY = FAMILIES["memory"]
FULL = 4000
MOST_PARTS = 16


class NoWorldsError(Exception):
    """The exam has been divided into more parts than a room has worlds."""


class Exam:
    """All rooms, for one model and one seed; `scale` 1 asks FULL questions in the main room.

    Of `part` (k, n) it asks every n-th world, from the k-th on, and an n-th of the questions.
    """

    def __init__(
        self,
        model: LoadedModel,
        seed: int,
        scale: float,
        clips: Path | None,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self.model, self.seed, self.clips, self.part = model, seed, clips, part
        self.scale = scale / part[1]
        self.renderer = FrameRenderer(load_pack())

    def main(self) -> Iterator[Answered]:
        for fps in FPS:
            quota = round(FULL / len(FPS) * self.scale)
            yield from self._asked("main", fps, 16, 120.0, quota, ALL)

    def short(self) -> Iterator[Answered]:
        for fps in FPS:
            yield from self._asked("short", fps, 16, 10.0, round(100 * self.scale), ALL)

    def hour(self) -> Iterator[Answered]:
        """Asked in the second minute, and as much in the last one."""
        room = self._room("hour", 2.0, 8)
        early, late = (self._examiner(ALL, n) for n in (1, 2))
        for examiner, end_s in ((early, 120.0), (late, 3600.0)):
            while room.now < end_s - 60.0:
                room.watch()
            yield from self._ask_until(room, examiner, end_s, round(400 * self.scale))

    def distance(self) -> Iterator[Answered]:
        """A large cast, and something to see every few seconds."""
        for fps in FPS:
            room = self._room("distance", fps, 4, pace=3.0, cast=32)
            examiner = self._examiner(MEMORY)
            yield from self._ask_until(room, examiner, 720.0, round(500 * self.scale))

    def wiped(self) -> Iterator[Answered]:
        for fps in FPS:
            room = self._room("wiped", fps, 8, twins=True)
            examiner = self._examiner(ALL)
            window = round(room.window_s * fps)
            while room.now < 20.0:
                room.watch()
            while examiner.num_asked < round(300 * self.scale):
                for _ in range(window):
                    room.watch()
                room.wipe_twins()
                wiped_s = room.now
                for _ in range(2):
                    for _ in range(window):
                        room.watch()
                    fits = partial(on_one_side, since_s=room.now - wiped_s)
                    yield from self._of_both(room, examiner, fits)

    def window(self) -> Iterator[Answered]:
        for fps in FPS:
            room = self._room("window", fps, 8, twins=True)
            examiner = self._examiner(ALL)
            room.wipe_twins()
            asked_at_s = 10.0
            while examiner.num_asked < round(100 * self.scale):
                room.watch()
                room.wipe_recurrent()
                if room.now >= asked_at_s:
                    asked_at_s += 1.0
                    yield from self._of_both(room, examiner, None, "window only")

    def real(self) -> Iterator[Answered]:
        yield from real_clips(self.model, self.clips)

    def _room(
        self, name: str, fps: float, count: int, *, twins: bool = False, **style: float
    ) -> Room:
        # Every room and frame rate has worlds of its own.
        seed = self.seed * 100 + 10 * [*ROOMS].index(name) + FPS.index(fps)
        k, n = self.part
        count = max(2, round(count * min(1.0, 4 * self.scale * n)))
        worlds = worlds_of(seed, count, fps, HELD_OUT, **style)[k::n]
        if not worlds:
            raise NoWorldsError(f"the room {name} has {count} worlds, none for part {k + 1}/{n}")
        return Room(name, self.model, self.renderer, worlds, twins=twins)

    def _asked(
        self,
        name: str,
        fps: float,
        count: int,
        seconds: float,
        quota: int,
        families: tuple[str, ...],
    ) -> Iterator[Answered]:
        room = self._room(name, fps, count)
        yield from self._ask_until(room, self._examiner(families), seconds, quota)

    def _examiner(self, families: tuple[str, ...], number: int = 0) -> Examiner:
        return Examiner(families, self.seed + number + 1000 * self.part[0])

    def _ask_until(
        self, room: Room, examiner: Examiner, end_s: float, quota: int
    ) -> Iterator[Answered]:
        """Watch until a moment, and ask `quota` questions on the way, of each world in turn."""
        begin_s, number = room.now, 0
        while room.now < end_s:
            room.watch()
            due = quota * (room.now - begin_s) / (end_s - begin_s)
            questions = []
            for _ in range(len(room.worlds)):
                if examiner.num_asked >= due:
                    break
                number += 1
                qa = examiner.question(room.worlds[number % len(room.worlds)])
                if qa is not None:
                    questions.append((number % len(room.worlds), qa))
            yield from room.ask(questions)

    def _of_both(
        self,
        room: Room,
        examiner: Examiner,
        fits: Callable[[QA], bool] | None,
        mind: str = "wiped",
    ) -> Iterator[Answered]:
        """One question about each world, put to the whole mind and to its twin."""
        asked = [(n, examiner.question(world, fits)) for n, world in enumerate(room.worlds)]
        questions = [(n, qa) for n, qa in asked if qa is not None]
        yield from room.ask(questions)
        yield from room.ask(questions, mind)


ROOMS: dict[str, Callable[[Exam], Iterator[Answered]]] = {
    "main": Exam.main,
    "short": Exam.short,
    "hour": Exam.hour,
    "distance": Exam.distance,
    "wiped": Exam.wiped,
    "window": Exam.window,
    "clips": Exam.real,
}


@torch.inference_mode()
def hold(exam: Exam, rooms: list[str], keep: Path | None) -> list[Answered]:
    """Go through the rooms; every answer is written down as it comes."""
    answered: list[Answered] = []
    file = keep.open("a") if keep else None
    for name in rooms:
        before = len(answered)
        try:
            for one in ROOMS[name](exam):
                answered.append(one)
                if file:
                    file.write(json.dumps(asdict(one)) + "\n")
        except NoWorldsError as error:
            print(error, file=sys.stderr)
        if file:
            file.flush()
        right = sum(a.right for a in answered[before:])
        print(f"{name}: {right} of {len(answered) - before}", file=sys.stderr, flush=True)
    if file:
        file.close()
    return answered


def read(files: list[Path]) -> list[Answered]:
    """Answers that were kept."""
    return [Answered(**json.loads(line)) for f in files for line in f.read_text().splitlines()]


def _part(text: str) -> tuple[int, int]:
    """`2/8` as (1, 8)."""
    k, n = map(int, text.split("/"))
    if not 1 <= k <= n <= MOST_PARTS:
        raise argparse.ArgumentTypeError(f"{text} is not K/N with 1 <= K <= N <= {MOST_PARTS}")
    return k - 1, n


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--questions", type=int, default=FULL, help="of the main room")
    parser.add_argument("--rooms", nargs="+", choices=[*ROOMS], default=[*ROOMS][:-1])
    parser.add_argument("--clips", type=Path, help="folder with the real clips")
    parser.add_argument("--part", type=_part, default=(0, 1), metavar="K/N")
    parser.add_argument("--keep", type=Path, metavar="FILE")
    parser.add_argument("--read", type=Path, nargs="+", metavar="FILE")
    parser.add_argument("--threads", type=int, help="of the model; 2, or 1 for a part")
    parser.add_argument("--dtype", choices=["best", "float32", "bfloat16"], default="best")
    args = parser.parse_args(argv)
    if "clips" in args.rooms and args.clips is None and not args.read:
        parser.error("--rooms clips needs --clips FOLDER")
    if args.read:
        answered = read(args.read)
    else:
        torch.set_num_threads(args.threads or (1 if args.part[1] > 1 else 2))
        dtype = best_dtype("cpu") if args.dtype == "best" else getattr(torch, args.dtype)
        model = load_model(args.model, "cpu", dtype)
        exam = Exam(model, args.seed, args.questions / FULL, args.clips, args.part)
        answered = hold(exam, args.rooms, args.keep)
    report(answered, {"model": Path(args.model).name, "seed": args.seed})
    return 0


if __name__ == "__main__":
    sys.exit(main())
