"""Text to token ids and back, and the prompt that a question becomes.

The checkpoint's own `tokenizer.json` (byte-level BPE) does the splitting; the special tokens of
the prompt are placed by id, so nothing a user types can pass for one of them.
"""

import codecs
from collections.abc import Mapping, Sequence
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

VISION_END = "<|vision_end|>"
IM_START = "<|im_start|>"
IM_END = "<|im_end|>"
END_OF_TEXT = "<|endoftext|>"
SYSTEM_PROMPT = "You are a helpful assistant."
# What people and models say has no more characters a token than this.
_CHARS_A_TOKEN = 16


class TokenizerError(ValueError):
    """A `tokenizer.json` that cannot serve this model; the message says why."""


class IncrementalDetokenizer:
    """Token ids in, whole characters out.

    A character may be spread over several tokens; its bytes are kept back until it is complete.
    """

    def __init__(self, token_bytes: Sequence[bytes]) -> None:
        self._token_bytes = token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """The text that this token completes; often all of it, sometimes none."""
        return self._decoder.decode(self._token_bytes[token_id])


class ChatTokenizer:
    """A checkpoint's tokenizer with the prompt format of InfiniteVL."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        """Wrap a byte-level tokenizer for a model of `vocab_size` tokens.

        Raises:
            TokenizerError: it is not byte-level, too large, or lacks a token of the prompt.
        """
        if not isinstance(tokenizer.decoder, decoders.ByteLevel):
            raise TokenizerError("the tokenizer is not byte-level")
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._token_bytes = _token_bytes(tokenizer, vocab_size)
        self.vision_end_id = self._special(VISION_END)
        self._im_start_id = self._special(IM_START)
        self.im_end_id = self._special(IM_END)
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        self.stop_ids = frozenset({self.im_end_id, end_of_text} - {None})

    @classmethod
    def from_file(cls, path: Path, vocab_size: int) -> "ChatTokenizer":
        """Read a `tokenizer.json`; raises TokenizerError naming the file."""
        if not path.is_file():
            raise TokenizerError(f"{path} is missing")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for a malformed file
            raise TokenizerError(f"{path} is not a readable tokenizer: {error}") from error
        try:
            return cls(tokenizer, vocab_size)
        except TokenizerError as error:
            raise TokenizerError(f"{path}: {error}") from error

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; the name of a special token is just text."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def question_prompt(self, question: str, dialogue: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Ids that end the video and ask: `<vision_end>`, then a chat ready to be answered.

        Args:
            question: what to ask.
            dialogue: this asker's earlier questions and answers, oldest first.
        """
        ids = [self.vision_end_id, *self._turn("system", SYSTEM_PROMPT)]
        for asked, answered in dialogue:
            ids += self._turn("user", asked) + self._turn("assistant", answered)
        return ids + self._question(question)

    def fitting(
        self, question: str, dialogue: Sequence[tuple[str, str]], limit: int
    ) -> Sequence[tuple[str, str]]:
        """The last turns that leave a prompt of at most `limit` ids; none if there is no room.

        Each is read once at most, and none that is far too long: others wait meanwhile.
        """
        left, first = limit, len(dialogue)
        if dialogue:
            left -= 1 + len(self._turn("system", SYSTEM_PROMPT)) + len(self._question(question))
        while first and sum(map(len, dialogue[first - 1])) <= _CHARS_A_TOKEN * left:
            asked, answered = dialogue[first - 1]
            left -= len(self._turn("user", asked)) + len(self._turn("assistant", answered))
            if left < 0:
                break
            first -= 1
        return dialogue[first:]

    def detokenizer(self) -> IncrementalDetokenizer:
        """A fresh one, for one answer."""
        return IncrementalDetokenizer(self._token_bytes)

    def _question(self, text: str) -> list[int]:
        return [*self._turn("user", text), self._im_start_id, *self.encode("assistant\n")]

    def _turn(self, role: str, text: str) -> list[int]:
        body = self.encode(f"{role}\n{text}")
        return [self._im_start_id, *body, self.im_end_id, *self.encode("\n")]

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise TokenizerError(f"the tokenizer has no {token!r}")
        return token_id


def byte_tokenizer(vocab_size: int, special_ids: Mapping[str, int]) -> ChatTokenizer:
    """A tokenizer for untrained models: a token a byte, made-up words for all other ids.

    Args:
        vocab_size: at least 256 and all of `special_ids`.
        special_ids: the ids of the special tokens.
    """
    vocab = {character: byte for byte, character in enumerate(_byte_alphabet())}
    vocab |= special_ids
    taken = set(special_ids.values())
    for token_id in range(256, vocab_size):
        if token_id not in taken:
            vocab[_made_up_word(token_id)] = token_id
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_ids]
    )
    return ChatTokenizer(tokenizer, vocab_size)


def _byte_alphabet() -> list[str]:
    """The printable character that stands for each byte in a byte-level vocabulary (GPT-2's)."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    alphabet, spare = [], 256
    for byte in range(256):
        alphabet.append(chr(byte) if byte in printable else chr(spare))
        spare += byte not in printable
    return alphabet


def _token_bytes(tokenizer: Tokenizer, vocab_size: int) -> list[bytes]:
    """The bytes that each id stands for; none for special tokens and ids without a token."""
    byte_of = {character: byte for byte, character in enumerate(_byte_alphabet())}
    added = tokenizer.get_added_tokens_decoder()
    table = [b""] * vocab_size
    for token, token_id in tokenizer.get_vocab().items():
        if token_id >= vocab_size:
            raise TokenizerError(f"{token!r} has id {token_id}, the model has {vocab_size} tokens")
        if token_id in added:
            table[token_id] = b"" if added[token_id].special else token.encode()
        else:
            try:
                table[token_id] = bytes(byte_of[character] for character in token)
            except KeyError:
                raise TokenizerError(f"the token {token!r} is not byte-level") from None
    return table


def _made_up_word(number: int) -> str:
    letters = ""
    while number:
        number, digit = divmod(number, 26)
        letters += chr(ord("a") + digit)
    return letters + "Ġ"
