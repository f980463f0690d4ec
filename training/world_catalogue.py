"""What can be shown, by name: objects in two styles, shapes in named colours, words and numbers.

A picture is a cell: two for each object (Noto, Fluent), then one for each shape, then scraps of
clutter that have no name. A class is what the cell labels of a frame say: 0 is background, then one
class for each object, one for each shape in each colour, one for all numbers, one for each word.
"""

import dataclasses
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

PACK = Path(__file__).parent.parent / "assets" / "world"
Split = Literal["train", "exam"]
RGB = tuple[float, float, float]

SHAPES = ("circle", "square", "triangle", "star", "heart", "diamond", "cross", "hexagon")
COLOURS: dict[str, RGB] = {
    "red": (0.86, 0.13, 0.13),
    "orange": (0.98, 0.55, 0.08),
    "yellow": (0.99, 0.88, 0.15),
    "green": (0.16, 0.66, 0.25),
    "blue": (0.15, 0.33, 0.90),
    "purple": (0.52, 0.18, 0.72),
    "pink": (0.98, 0.52, 0.77),
    "white": (0.97, 0.97, 0.97),
}
# One name of these may be said of another: a world never deals with two of the same set.
ALIKE = tuple(
    frozenset(names.split(", "))
    for names in (
        "car, taxi, police car",
        "bear, teddy bear, panda, koala",
        "pine tree, christmas tree, palm tree",
        "ship, sailboat, canoe",
        "motorcycle, scooter, bicycle",
        "watch, alarm clock, compass",
        "boot, high heel, sneaker",
        "backpack, handbag, suitcase",
        "bus, train",
        "fire truck, ambulance",
        "cake, cupcake",
        "house, castle",
        "bucket, basket, trash can, shopping cart",
        "lion, tiger, cat",
        "crown, ring, gem",
        "trophy, medal",
        "fish, pufferfish, shark, whale, dolphin",
        "football, soccer ball, basketball",
    )
)
NUM_CLUTTER = 24
NUM_PAINTED, NUM_PAINTED_EXAM = 64, 8
WHITE: RGB = (1.0, 1.0, 1.0)

_WORDS = """
ALARM ANSWER APPLE ARROW AUTUMN BACK BAKERY BANK BEACH BEGIN BEST BLACK BOOK BOX BREAD BRIDGE
BUS BUTTON CABIN CAFE CALL CAMERA CASH CHECK CITY CLEAN CLOSED CLOUD COFFEE COLD COOL CORNER
DANGER DARK DAY DESK DINNER DOOR DOWN DREAM DRINK DRIVE EARTH EAST EASY EMPTY ENTER EXIT FAST
FILM FIRE FIRST FLOOR FLOWER FOOD FRESH FRIDAY FRONT FULL GAME GARDEN GATE GLASS GOLD GOOD
GREEN GUEST HALT HAPPY HELLO HELP HIGH HOME HORSE HOT HOTEL HOUSE ICE ISLAND JUMP JUNE KEEP
KING KITE LAST LATE LEFT LEMON LIGHT LOCK LOST LOUD LOVE LUCKY LUNCH MAGIC MAP MARKET MENU
METRO MILK MONDAY MOON MOUSE MUSEUM MUSIC NEWS NIGHT NORTH OCEAN OFFICE OLD OPEN ORANGE PAPER
PARK PARTY PHONE PIZZA PLAY POST POWER PRESS PRICE PULL PUSH QUEEN QUICK QUIET RADIO RAIN READY
RED RIGHT RIVER ROAD ROOM SALE SCHOOL SHOP SILVER SLOW SMILE SNOW SOUP SOUTH SPACE SPORT START
STOP STREET SUMMER SUN TABLE TAXI TEA TICKET TIGER TIME TODAY TOWER TRAIN TREE UNDER VIDEO
VIEW WAIT WALK WARM WATER WEST WHITE WINDOW WINTER WORLD YELLOW YES ZERO ZONE
"""
WORDS = tuple(_WORDS.split())
_WORD_NUMBERS = {word.lower(): number for number, word in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class Kind:
    """A picture that has a name: an object in one style, or a shape in one colour."""

    name: str
    cell: int
    class_id: int
    area: float
    tint: RGB
    shape: str | None = None
    colour: str | None = None


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All that a world of one split may show."""

    objects: tuple[tuple[Kind, ...], ...]
    shapes: tuple[Kind, ...]
    photos: tuple[int, ...]
    painted: tuple[int, ...]
    advances: tuple[tuple[float, ...], ...]
    clutter_cell: int
    number_class: int

    @property
    def num_classes(self) -> int:
        """How many classes the cell labels have, background included."""
        return self.number_class + 1 + len(WORDS)

    def word_class(self, word: str) -> int:
        """The class of a word, in small letters."""
        return self.number_class + 1 + _WORD_NUMBERS[word]

    @property
    def first_look(self) -> int:
        """The first of the cells that show objects in one of LOOKS; they come after all others."""
        return self.clutter_cell + NUM_CLUTTER

    def in_look(self, kind: Kind, look: int) -> Kind:
        """An object in one of LOOKS; one that has a look already keeps it."""
        if kind.cell >= self.first_look:
            return kind
        object_cells = self.clutter_cell - len(SHAPES)
        return dataclasses.replace(kind, cell=self.first_look + look * object_cells + kind.cell)

    def shape_in(self, shape: str, colour: str) -> Kind:
        """A shape in another colour."""
        return self.shapes[SHAPES.index(shape) * len(COLOURS) + list(COLOURS).index(colour)]


def with_article(name: str) -> str:
    """`a cat`, `an owl`; an hourglass and a unicorn sound unlike their first letters."""
    vowel = name[0] in "aeio" or name.startswith(("hourglass", "umbrella"))
    return f"{'an' if vowel else 'a'} {name}"


@functools.cache
def names_like(name: str) -> frozenset[str]:
    """All names that may be taken for this one, itself included."""
    return frozenset({name}).union(*(names for names in ALIKE if name in names))


@functools.cache
def load_index() -> dict:
    """Read the pack's index."""
    return json.loads((PACK / "index.json").read_text())


@functools.cache
def load_catalogue(split: Split) -> Catalogue:
    """Read what a split may show.

    The exam has the object pictures and the backgrounds that training never sees, and only objects
    whose other style training does see. Shapes, letters and words belong to both.
    """
    index = load_index()
    exam = split == "exam"
    num_objects = len(index["objects"])
    height = index["glyphs"]["cell"][1]
    photos = [i for i, photo in enumerate(index["photos"]) if photo["exam"] == exam]
    first_painted = len(index["photos"])
    last_train = first_painted + NUM_PAINTED - NUM_PAINTED_EXAM
    last = first_painted + NUM_PAINTED
    return Catalogue(
        objects=tuple(_object_kinds(index["objects"], exam)),
        shapes=tuple(_shape_kinds(num_objects)),
        photos=tuple(photos),
        painted=tuple(range(last_train, last) if exam else range(first_painted, last_train)),
        advances=tuple(tuple(a / height for a in row) for row in index["glyphs"]["advances"]),
        clutter_cell=2 * num_objects + len(SHAPES),
        number_class=num_objects + len(SHAPES) * len(COLOURS) + 1,
    )


def _object_kinds(objects: list[dict], exam: bool) -> list[tuple[Kind, ...]]:
    """The pictures of each object that a split may show: one or two of it."""
    kinds = []
    for i, entry in enumerate(objects):
        styles = [s for s in (0, 1) if (s == entry["exam_style"]) == exam]
        if styles:
            kinds.append(
                tuple(
                    Kind(entry["name"], 2 * i + s, i + 1, entry["areas"][s], WHITE) for s in styles
                )
            )
    return kinds


def _shape_kinds(num_objects: int) -> list[Kind]:
    kinds = []
    for i, shape in enumerate(SHAPES):
        for j, (colour, tint) in enumerate(COLOURS.items()):
            class_id = num_objects + i * len(COLOURS) + j + 1
            cell = 2 * num_objects + i
            kinds.append(Kind(f"{colour} {shape}", cell, class_id, 0.55, tint, shape, colour))
    return kinds
