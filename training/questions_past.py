"""Questions about what was seen before, answered from the world's history.

Each returns a draft with the age of its evidence, or None where the answer would not be plain: two
things that came together, a moment too close to a change, a name that fits two things.
"""

import random

from training.questions_draft import (
    NOT_SEEN,
    NOTHING,
    NOTHING_YET,
    NUMBER_NAMES,
    Asker,
    Draft,
    bare,
    is_calm,
    is_chameleon,
    paid,
    say,
    wants,
    yes_or_no,
)
from training.world import MAX_DISTINCT, MAX_TIMES, World
from training.world_catalogue import WORDS, with_article
from training.world_history import AMBIGUOUS, LastText, Record

_AGES_S = (3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60)
# A moment some seconds ago is felt, not measured: what was there must have been there all around.
_AGE_MARGIN, _AGE_MARGIN_S = 0.15, 0.5
_GONE_S = 1.0
_AFTER_S = 3.0


def _pictures(world: World) -> list[tuple[str, Record]]:
    """All pictures that ever appeared, but the chameleon."""
    records = world.history.records
    return [(n, r) for n, r in records.items() if not r.is_text and not is_chameleon(n)]


def _gone(world: World, *, text: bool = False) -> list[tuple[str, Record, float]]:
    """All that appeared and is surely gone, with the moment it went."""
    limit = world.now - _GONE_S
    return [
        (name, record, record.last_gone)
        for name, record in world.history.records.items()
        if record.is_text == text and record.last_gone is not None and record.last_gone <= limit
        if all(track.name != name for track in world.tracks())
    ]


def _never_seen(world: World, rng: random.Random) -> str | None:
    """The name of a picture that never appeared, of the cast or not."""
    casting, records = world.casting, world.history.records
    kind = rng.choice(casting.cast)
    if rng.random() < 0.5:
        kind = casting.stranger(rng)
    coming = any(track.name == kind.name for track in world.tracks())
    unclear = is_chameleon(kind.name) or kind.shape in records
    return None if unclear or coming or kind.name in records else kind.name


def _nameable(name: str | None) -> bool:
    return name is not None and name != AMBIGUOUS and not is_chameleon(name)


def _first(world: World, rng: random.Random) -> Draft | None:
    history = world.history
    if history.first is None:
        return Draft(NOTHING_YET) if is_calm(world) and rng.random() < 0.3 else None
    if not _nameable(history.first) or not is_calm(world):
        return None
    return Draft(say(history.first), world.now - history.first_at)


def _before(world: World, rng: random.Random) -> Draft | None:
    ready = [(n, r) for n, r in _pictures(world) if r.count == 1 and r.before != AMBIGUOUS]
    if not ready or not is_calm(world):
        return None
    name, record = rng.choice(ready)
    fields = {"the": f"the {name}"}
    age = world.now - record.first_in
    if record.before is None:
        return Draft(NOTHING, age, fields=fields) if rng.random() < 0.3 else None
    return Draft(say(record.before), age, fields=fields) if _nameable(record.before) else None


def _after(world: World, rng: random.Random) -> Draft | None:
    ready = [(n, r) for n, r in _pictures(world) if r.count == 1 and r.after != AMBIGUOUS]
    if not ready or not is_calm(world):
        return None
    name, record = rng.choice(ready)
    fields = {"the": f"the {name}"}
    if record.after is None:
        waited = world.now - record.first_in
        plain = waited > _AFTER_S and rng.random() < 0.5
        return Draft(NOTHING_YET, waited, fields=fields) if plain else None
    if not _nameable(record.after):
        return None
    return Draft(say(record.after), world.now - record.after_at, fields=fields)


def _age(world: World, rng: random.Random) -> tuple[int, tuple[str, ...]] | None:
    """A number of seconds ago at which it is plain what was visible, and what was."""
    ages = [age for age in _AGES_S if age * (1 + _AGE_MARGIN) + _AGE_MARGIN_S < world.watched_s]
    if not ages:
        return None
    for age in rng.sample(ages, min(len(ages), 4)):
        margin = _AGE_MARGIN_S + _AGE_MARGIN * age
        names = world.history.visible_during(world.now - age - margin, world.now - age + margin)
        if names is not None:
            return age, names
    return None


def _spell(rng: random.Random, age: int) -> str:
    """An age in figures, or in a word where it has a short one."""
    return NUMBER_NAMES[age] if age < len(NUMBER_NAMES) and rng.random() < 0.5 else str(age)


def _ago(world: World, rng: random.Random) -> Draft | None:
    found = _age(world, rng)
    if found is None or len(found[1]) > 1 or (not found[1] and rng.random() < 0.6):
        return None
    age, names = found
    if names and is_chameleon(names[0]):
        return None
    return Draft(say(names[0]) if names else NOTHING, float(age), fields={"n": _spell(rng, age)})


def _there_ago(world: World, rng: random.Random) -> Draft | None:
    found = _age(world, rng)
    if found is None:
        return None
    age, names = found
    yes = wants(world, rng, "there_ago")
    if yes:
        choices = [name for name in names if not name.startswith("the ")]
    else:
        choices = [name for name, _ in _pictures(world) if name not in names]
    if not choices:
        return None
    paid(world, "there_ago")
    fields = {"a": with_article(rng.choice(choices)), "n": _spell(rng, age)}
    return Draft(yes_or_no(yes), float(age), True, fields)


def _seen(world: World, rng: random.Random) -> Draft | None:
    yes = wants(world, rng, "seen")
    name, age = None, world.watched_s
    if yes:
        gone = _gone(world)
        if gone:
            name, _, when = rng.choice(gone)
            age = world.now - when
    elif world.history.records or rng.random() < 0.1:
        name = _never_seen(world, rng)
    if name is None:
        return None
    paid(world, "seen")
    answer = "yes" if yes else "no, I have not seen one"
    return Draft(answer, age, True, {"a": with_article(name)})


def _word_seen(world: World, rng: random.Random) -> Draft | None:
    yes = wants(world, rng, "word_seen")
    age = world.watched_s
    if yes:
        gone = _gone(world, text=True)
        if not gone:
            return None
        name, _, when = rng.choice(gone)
        age = world.now - when
    else:
        word = rng.choice(world.casting.words if rng.random() < 0.5 else WORDS)
        name = f"the word {word.lower()}"
        there = any(track.name == name for track in world.tracks())
        if there or name in world.history.records or world.history.word.text is None:
            return None
    paid(world, "word_seen")
    return Draft(yes_or_no(yes), age, True, {"the": name})


def _distinct(world: World, rng: random.Random) -> Draft | None:
    history = world.history
    if history.recoloured or not is_calm(world):
        return None
    records = [record for record in history.records.values() if not record.is_text]
    if len(records) > MAX_DISTINCT:
        return None
    oldest = min((r.last_gone for r in records if r.last_gone is not None), default=world.now)
    return Draft(NUMBER_NAMES[len(records)], world.now - oldest)


def _times(world: World, rng: random.Random) -> Draft | None:
    if not is_calm(world):
        return None
    by_count: dict[int, list[tuple[str, Record]]] = {}
    for name, record in _pictures(world):
        if record.count <= MAX_TIMES:
            by_count.setdefault(record.count, []).append((name, record))
    if not by_count or rng.random() < 0.12:
        other = _never_seen(world, rng)
        return Draft("zero", world.watched_s, fields={"a": with_article(other)}) if other else None
    # Every count is as likely, though most things appear once.
    count = rng.choice(list(by_count))
    if count == 1 and rng.random() < 0.6:
        return None
    name, record = rng.choice(by_count[count])
    return Draft(NUMBER_NAMES[count], world.now - record.first_in, fields={"a": with_article(name)})


def _last_text(world: World, rng: random.Random, last: LastText) -> Draft | None:
    if not is_calm(world):
        return None
    if last.text is None:
        return Draft(NOTHING_YET, world.watched_s) if rng.random() < 0.15 else None
    if last.gone_at is None:
        return Draft(bare(last.text)) if rng.random() < 0.2 else None
    return Draft(bare(last.text), world.now - last.gone_at)


def _last_word(world: World, rng: random.Random) -> Draft | None:
    return _last_text(world, rng, world.history.word)


def _last_number(world: World, rng: random.Random) -> Draft | None:
    return _last_text(world, rng, world.history.number)


def _last_left(world: World, rng: random.Random) -> Draft | None:
    history = world.history
    if not is_calm(world):
        return None
    if history.last_left is None:
        return Draft(NOTHING_YET, world.watched_s) if rng.random() < 0.15 else None
    if not _nameable(history.last_left):
        return None
    return Draft(say(history.last_left), world.now - history.last_left_at)


def _where_was(world: World, rng: random.Random) -> Draft | None:
    if rng.random() < 0.06:
        name = _never_seen(world, rng)
        return Draft(NOT_SEEN, world.watched_s, fields={"the": f"the {name}"}) if name else None
    gone = [entry for entry in _gone(world) if entry[1].region != AMBIGUOUS]
    if not gone:
        return None
    name, record, when = rng.choice(gone)
    return Draft(record.region, world.now - when, fields={"the": f"the {name}"})


def _colour_before(world: World, rng: random.Random) -> Draft | None:
    history = world.history
    for track in world.pictures():
        if is_chameleon(track.name) and track.t_shown < history.colour_changed_at:
            age = world.now - history.colour_changed_at
            if age < 0.5 or not track.settled(world.now, 0.0) or history.colour_before is None:
                return None
            return Draft(history.colour_before, age, fields={"the": f"the {track.name}"})
    return None


def _gone_yet(world: World, rng: random.Random) -> Draft | None:
    yes = wants(world, rng, "gone_yet")
    age = 0.0
    if yes:
        gone = [(n, when) for n, record, when in _gone(world) if record.count == 1]
        if not gone:
            return None
        name, when = rng.choice(gone)
        age = world.now - when
    else:
        records = world.history.records
        names = [k.name for k in world.pictures() if k.settled(world.now, 0.25)]
        names = [n for n in names if n in records and records[n].count == 1]
        if not names:
            return None
        name = rng.choice(names)
    paid(world, "gone_yet")
    return Draft("yes" if yes else "not yet", age, True, {"the": f"the {name}"})


PAST: dict[str, Asker] = {
    "first": _first,
    "before": _before,
    "after": _after,
    "ago": _ago,
    "there_ago": _there_ago,
    "seen": _seen,
    "word_seen": _word_seen,
    "distinct": _distinct,
    "times": _times,
    "last_word": _last_word,
    "last_number": _last_number,
    "last_left": _last_left,
    "where_was": _where_was,
    "colour_before": _colour_before,
    "gone_yet": _gone_yet,
}
