"""The command `python -m stream.client`: asks a stream, once or for as long as it is let."""

import argparse
import asyncio
import os
import sys

from websockets.exceptions import InvalidHandshake, InvalidURI

from stream.client import Answer, Client, RefusedError


async def ask_once(client: Client, args: argparse.Namespace) -> int:
    """Print the answer as it is made."""
    answer = await client.ask(args.question, stream=args.stream, max_tokens=args.max_tokens)
    async for text in answer:
        print(text, end="", flush=True)
    print()
    return _status(answer)


async def follow(client: Client, args: argparse.Namespace) -> int:
    """Ask again and again; print an answer when it is another one than before."""
    before = None
    while True:
        answer = await client.ask(args.question, stream=args.stream, max_tokens=args.max_tokens)
        text = await answer.text()
        if answer.done is not None and answer.done.status == "failed":
            return _status(answer)
        if text != before:
            seen_s = answer.done.frames.last_pts_s if answer.done else None
            at = "-" if seen_s is None else f"{seen_s:.1f} s"
            print(f"[{at}] {text}", flush=True)
        before = text
        await asyncio.sleep(args.every)


def _status(answer: Answer) -> int:
    done = answer.done
    if done is not None and done.status != "completed":
        print(f"({done.status}{': ' if done.reason else ''}{done.reason})", file=sys.stderr)
    return int(done is None or done.status == "failed")


async def run(args: argparse.Namespace) -> int:
    async with Client(args.url, os.environ.get("IVL_TOKEN")) as client:
        return await (follow if args.follow else ask_once)(client, args)


def main(argv: list[str] | None = None) -> None:
    """0 if it was answered, 1 if not, 2 if there is no such server."""
    parser = argparse.ArgumentParser(
        prog="python -m stream.client",
        description="Ask a live stream. A token is read from the environment variable IVL_TOKEN.",
    )
    parser.add_argument("url", help="ws://HOST:PORT/v1/stream")
    parser.add_argument("question")
    parser.add_argument("--stream", help="its name, if there are several")
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--follow", action="store_true", help="ask again and again")
    parser.add_argument("--every", type=float, default=1.0, metavar="SECONDS", help="with --follow")
    args = parser.parse_args(argv)
    try:
        code = asyncio.run(run(args))
    except RefusedError as error:
        code = _say(f"refused: {error}", 1)
    except (OSError, InvalidHandshake, InvalidURI) as error:
        code = _say(f"cannot connect: {error}", 2)
    except ValueError as error:
        code = _say(str(error).splitlines()[0], 2)
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _say(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code
