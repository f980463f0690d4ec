"""What each asker has asked and been answered, kept as text and bounded.

Dialogues are private: an asker's prompt holds only their own. The stream's memory holds none.
"""

from collections import OrderedDict

Turn = tuple[str, str]

MAX_ASKERS = 256
MAX_TURNS = 4


class Dialogues:
    """The last few turns of the askers who were heard last."""

    def __init__(self) -> None:
        self._turns: OrderedDict[tuple[str, str], list[Turn]] = OrderedDict()

    def turns(self, stream: str, asker: str) -> list[Turn]:
        """An asker's questions and answers about a stream, oldest first."""
        return list(self._turns.get((stream, asker), ()))

    def add(self, stream: str, asker: str, question: str, answer: str) -> None:
        """Remember a turn, forgetting what no longer fits."""
        key = (stream, asker)
        self._turns[key] = [*self._turns.get(key, ()), (question, answer)][-MAX_TURNS:]
        self._turns.move_to_end(key)
        if len(self._turns) > MAX_ASKERS:
            self._turns.popitem(last=False)

    def forget_stream(self, stream: str) -> None:
        """Drop all dialogues about a stream."""
        for key in [key for key in self._turns if key[0] == stream]:
            del self._turns[key]
