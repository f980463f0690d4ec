"""What a model is worth, and what it may be asked, in words."""

from model.checkpoint import NANO, LoadedModel

_REAL = "--model hustvl/InfiniteVL-LongSFT loads the real one (needs a GPU)."
_NANO_EXAMPLES = (
    "What do you see?",
    "How many things are there?",
    "What came first?",
    "How many different things have you seen so far?",
    "Have you seen a fish?",
    "What does the word say?",
    "Is anything moving?",
)
_EXAMPLES = (
    "What is happening right now?",
    "What has changed since the beginning?",
    "How many people are there?",
    "Read the text that you can see.",
)


def introduction(model: LoadedModel) -> str:
    """What the answers are worth, in one line."""
    if model.name == NANO:
        return (
            "Model nano: 9 M parameters, trained on drawn scenes of everyday things, shapes, words "
            f"and numbers. It knows nothing else of the world: {_REAL}"
        )
    if model.trained:
        return f"Model {model.name}."
    return (
        f"Model {model.name}: UNTRAINED weights from a seed. It shows speed and memory; what it "
        f"says means nothing. {_REAL}"
    )


def caution(model: LoadedModel, question: str) -> str:
    """That a question has words which the model cannot know, if it has."""
    strange = list(dict.fromkeys(model.strange_words(question)))
    if not strange:
        return ""
    named = ", ".join(f"“{word}”" for word in strange[:3])
    return f"{model.name} has never met {named}: what it says to that means nothing"


def examples(model: LoadedModel) -> tuple[str, ...]:
    """Questions that fit what it has been trained for."""
    return _NANO_EXAMPLES if model.name == NANO else _EXAMPLES
