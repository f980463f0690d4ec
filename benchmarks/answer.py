"""How fast are answers, alone and together, with the window full?

    python -m benchmarks.answer --model random:tiny --askers 1 2 4

For each number of askers: time to the first token, and time a step (one token for every asker),
with nothing else to do and with a frame in every step.
"""

import argparse
import sys
import time

import torch

from benchmarks.by_hand import PICTURE, STREAM, HandDriven
from benchmarks.loading import load
from benchmarks.report import quantile, show
from model.checkpoint import DEFAULT_MODEL, LoadedModel, default_threads
from stream.events import AnswerStatus
from stream.question import Question, SamplingParams
from ui.words import milliseconds

QUESTION = "What did you see before the thing that is moving now?"
NUM_TOKENS = 64


def measure(
    model: LoadedModel, askers: int, *, with_frames: bool
) -> tuple[list[float], list[float]]:
    """Times to the first token, and of every later step, in seconds."""
    hand = HandDriven(model, askers, time.perf_counter)
    hand.engine.warm_up(*PICTURE.shape[:2])
    window_frames = model.vlm.config.sliding_window // model.frame_tokens + 1
    for _ in range(window_frames):
        hand.give_frame()
        hand.engine.step()
    firsts: list[float] = []
    steps: list[float] = []
    for round_number in range(3):
        for asker in range(askers):
            hand.engine.ask(question(round_number * askers + asker))
        round_steps = []
        while len(hand.answers) < askers:
            if with_frames:
                hand.give_frame()
            start = time.perf_counter()
            hand.engine.step()
            round_steps.append(time.perf_counter() - start)
        if round_number:  # the first round warms up
            firsts += [a.time_to_first_token_s for a in hand.answers if a.time_to_first_token_s]
            steps += round_steps[-NUM_TOKENS // 2 :]
        assert all(a.status is not AnswerStatus.FAILED for a in hand.answers), hand.answers
        hand.answers.clear()
    return firsts, steps


def question(number: int) -> Question:
    sampling = SamplingParams(max_tokens=NUM_TOKENS)
    return Question(number, STREAM, str(number), QUESTION, time.perf_counter(), None, sampling)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Time to first token and between tokens.")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--askers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--threads", type=int, default=default_threads())
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    model = load(args.model)
    rows, results = [], []
    for askers in args.askers:
        for with_frames in (False, True):
            firsts, steps = measure(model, askers, with_frames=with_frames)
            cells = [milliseconds(quantile(v, q)) for v in (firsts, steps) for q in (0.5, 0.95)]
            rows.append([f"{askers}{', a frame a step' if with_frames else ''}", *cells])
            results.append(
                {
                    "askers": askers,
                    "with_frames": with_frames,
                    "ttft_s_p50": quantile(firsts, 0.5),
                    "ttft_s_p95": quantile(firsts, 0.95),
                    "step_s_p50": quantile(steps, 0.5),
                    "step_s_p95": quantile(steps, 0.95),
                    "step_s_p99": quantile(steps, 0.99),
                }
            )
    header = ["askers", "first token p50", "p95", "step p50", "p95"]
    result = {"benchmark": "answer", "model": args.model, "answers": results}
    show(f"Answers of {args.model}", header, rows, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
