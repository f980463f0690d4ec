"""Dialogues are private to an asker and a stream, and bounded."""

from stream.dialogues import MAX_ASKERS, MAX_TURNS, Dialogues


def test_dialogue_is_for_one_asker_on_one_stream() -> None:
    """Neither another asker nor the same one on another stream sees it."""
    dialogues = Dialogues()
    dialogues.add("door", "anna", "Who?", "A cat.")
    assert dialogues.turns("door", "anna") == [("Who?", "A cat.")]
    assert dialogues.turns("door", "ben") == []
    assert dialogues.turns("yard", "anna") == []


def test_only_the_last_turns_are_kept() -> None:
    """The oldest turn goes when there are too many."""
    dialogues = Dialogues()
    for i in range(MAX_TURNS + 2):
        dialogues.add("door", "anna", f"q{i}", f"a{i}")
    kept = [question for question, _ in dialogues.turns("door", "anna")]
    assert kept == [f"q{i}" for i in range(2, MAX_TURNS + 2)]


def test_only_the_askers_heard_last_are_remembered() -> None:
    """One asker too many makes the one unheard for longest forgotten, not the first ever."""
    dialogues = Dialogues()
    for i in range(MAX_ASKERS):
        dialogues.add("door", str(i), "q", "a")
    dialogues.add("door", "0", "again", "a")
    dialogues.add("door", "new", "q", "a")
    assert dialogues.turns("door", "1") == []
    assert len(dialogues.turns("door", "0")) == 2
    assert dialogues.turns("door", "new") and dialogues.turns("door", "2")


def test_forgotten_stream_leaves_other_streams() -> None:
    """Forgetting a stream drops all its dialogues and no others."""
    dialogues = Dialogues()
    for stream in ("door", "yard"):
        for asker in ("anna", "ben"):
            dialogues.add(stream, asker, "q", "a")
    dialogues.forget_stream("door")
    assert not dialogues.turns("door", "anna") and not dialogues.turns("door", "ben")
    assert dialogues.turns("yard", "anna") and dialogues.turns("yard", "ben")


def test_turns_cannot_be_changed_from_outside() -> None:
    """What `turns` gives is a copy."""
    dialogues = Dialogues()
    dialogues.add("door", "anna", "q", "a")
    dialogues.turns("door", "anna").clear()
    assert len(dialogues.turns("door", "anna")) == 1
