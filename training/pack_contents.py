"""What goes into the asset pack: which emoji under which name, which fonts, which pieces of photos.

A name must be the one a person would say first, and no two objects may answer to the same name.
Pieces of photos avoid whatever has a name of its own among the objects: a cat, a cup, a rocket.
"""

OBJECTS: dict[str, str] = {
    # animals
    "1f405": "tiger", "1f408": "cat", "1f415": "dog", "1f430": "rabbit", "1f42d": "mouse",
    "1f42e": "cow", "1f437": "pig", "1f438": "frog", "1f43b": "bear", "1f43c": "panda",
    "1f428": "koala", "1f98a": "fox", "1f981": "lion", "1f435": "monkey", "1f413": "rooster",
    "1f427": "penguin", "1f986": "duck", "1f985": "eagle", "1f989": "owl", "1f987": "bat",
    "1f434": "horse", "1f984": "unicorn", "1f41d": "bee", "1f41b": "caterpillar",
    "1f98b": "butterfly", "1f40c": "snail", "1f41e": "ladybug", "1f41c": "ant",
    "1f982": "scorpion", "1f422": "turtle", "1f40d": "snake",
    "1f995": "dinosaur", "1f419": "octopus", "1f991": "squid", "1f980": "crab",
    "1f421": "pufferfish", "1f420": "fish", "1f42c": "dolphin", "1f433": "whale",
    "1f988": "shark", "1f40a": "crocodile", "1f993": "zebra", "1f418": "elephant",
    "1f98f": "rhino", "1f42a": "camel", "1f992": "giraffe", "1f998": "kangaroo",
    "1f411": "sheep", "1f99a": "peacock", "1f99c": "parrot", "1f9a2": "swan",
    "1f9a9": "flamingo", "1f9a5": "sloth", "1f994": "hedgehog", "1f409": "dragon",
    "1f43f": "squirrel", "1fabc": "jellyfish", "1f9ad": "seal",
    # plants
    "1f335": "cactus", "1f332": "pine tree", "1f334": "palm tree", "1f340": "clover",
    "1f344": "mushroom", "1f337": "tulip", "1f339": "rose", "1f33b": "sunflower",
    # food
    "1f34e": "apple", "1f350": "pear", "1f34b": "lemon", "1f34c": "banana",
    "1f349": "watermelon", "1f353": "strawberry", "1f351": "peach", "1f34d": "pineapple",
    "1f965": "coconut", "1f95d": "kiwi", "1f345": "tomato", "1f346": "eggplant",
    "1f951": "avocado", "1f952": "cucumber", "1f33d": "corn cob", "1f955": "carrot",
    "1f9c5": "onion", "1f954": "potato", "1f950": "croissant", "1f968": "pretzel",
    "1f9c7": "waffle", "1f354": "hamburger", "1f355": "pizza", "1f32d": "hot dog",
    "1f96a": "sandwich", "1f32e": "taco", "1f95a": "egg", "1f366": "ice cream",
    "1f369": "donut", "1f36a": "cookie", "1f382": "cake", "1f9c1": "cupcake",
    "1f36d": "lollipop", "1f36c": "candy", "1f36b": "chocolate bar", "1f37a": "beer mug",
    "1f377": "wine glass", "1f378": "cocktail", "1fad6": "teapot", "2615": "coffee cup",
    "1f37c": "baby bottle", "1f944": "spoon",
    # travel
    "1f697": "car", "1f695": "taxi", "1f68c": "bus", "1f691": "ambulance",
    "1f692": "fire truck", "1f693": "police car", "1f69c": "tractor", "1f6b2": "bicycle",
    "1f3cd": "motorcycle", "1f6f4": "scooter", "1f682": "train", "2708": "airplane",
    "1f681": "helicopter", "1f680": "rocket", "1f6f8": "flying saucer", "26f5": "sailboat",
    "1f6a2": "ship", "2693": "anchor", "1f6f6": "canoe", "1f6f9": "skateboard",
    "1fa82": "parachute", "1f6a6": "traffic light", "1f3f0": "castle", "1f3e0": "house",
    "26fa": "tent", "1f30b": "volcano", "1f3a1": "ferris wheel", "26f2": "fountain",
    "1f308": "rainbow", "1f525": "fire", "2744": "snowflake", "26c4": "snowman",
    "2602": "umbrella", "1f30d": "globe", "2601": "cloud", "2600": "sun",
    "1f319": "moon", "231a": "watch", "23f0": "alarm clock", "231b": "hourglass",
    # play
    "1f388": "balloon", "1f381": "gift", "1f384": "christmas tree", "1f383": "pumpkin",
    "1f3c6": "trophy", "1f3c5": "medal", "26bd": "soccer ball", "1f3c0": "basketball",
    "1f3c8": "football", "26be": "baseball", "1f3be": "tennis racket", "1f3af": "target",
    "1f3b2": "dice", "1f9e9": "puzzle piece", "1f9f8": "teddy bear", "1fa81": "kite",
    "1f9f6": "ball of yarn", "1f579": "joystick", "1f3a8": "palette",
    # things
    "1f3b8": "guitar", "1f3ba": "trumpet", "1f3bb": "violin", "1f941": "drum",
    "1f3b9": "piano", "1f3a4": "microphone", "1f451": "crown", "1f3a9": "top hat",
    "1f457": "dress", "1f45c": "handbag", "1f45f": "sneaker",
    "1f460": "high heel", "1f462": "boot", "1f392": "backpack", "1f48d": "ring",
    "1f48e": "gem", "1f4a1": "light bulb", "1f4a3": "bomb", "1f4b0": "money bag",
    "1f4bb": "laptop", "1f4be": "floppy disk", "1f4f7": "camera", "1f4fa": "television",
    "1f4fb": "radio", "1f50b": "battery", "1f511": "key", "1f512": "lock", "1f514": "bell",
    "1f526": "flashlight", "1f527": "wrench", "1f528": "hammer", "1f52c": "microscope",
    "1f52d": "telescope", "1f56f": "candle", "270f": "pencil", "1f4ce": "paperclip",
    "1f4d5": "book", "1f4e6": "box", "1f5d1": "trash can", "1f6aa": "door",
    "1f6bd": "toilet", "1f6c1": "bathtub", "1f6cf": "bed", "1fa91": "chair",
    "1f6d2": "shopping cart", "1f6e1": "shield", "1f9f2": "magnet",
    "1f9ef": "fire extinguisher", "1f9f9": "broom", "1f9fa": "basket", "1faa3": "bucket",
    "1fa9c": "ladder", "1fa9a": "saw", "1fa9b": "screwdriver", "1fa93": "axe",
    "1faa5": "toothbrush", "2328": "keyboard", "2709": "envelope", "1f9f3": "suitcase",
    "1f9e3": "scarf", "1f9ed": "compass", "2699": "gear", "1f489": "syringe",
}  # fmt: skip

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneral",
    "STIXGeneralBol",
    "cmss10",
    "cmb10",
)
CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

# file, left, top and side of a square of it in pixels, kept for the exam or not
PHOTOS: tuple[tuple[str, int, int, int, bool], ...] = (
    ("camera.png", 330, 150, 180, False),
    ("camera.png", 0, 230, 150, False),
    ("camera.png", 400, 330, 110, True),
    ("astronaut.png", 70, 0, 240, False),
    ("astronaut.png", 130, 230, 200, False),
    ("astronaut.png", 290, 340, 172, True),
    ("retina.jpg", 600, 750, 450, False),
    ("coffee.png", 480, 60, 120, False),
    ("coffee.png", 480, 270, 120, True),
    ("coffee.png", 0, 0, 110, False),
    ("chelsea.png", 0, 120, 140, False),
    ("chelsea.png", 300, 150, 150, False),
    ("hubble_deep_field.jpg", 0, 440, 420, False),
    ("rocket.jpg", 0, 0, 270, False),
    ("rocket.jpg", 350, 0, 290, True),
    ("hubble_deep_field.jpg", 0, 0, 420, False),
    ("hubble_deep_field.jpg", 500, 0, 420, False),
    ("hubble_deep_field.jpg", 560, 430, 430, True),
    ("retina.jpg", 300, 200, 700, False),
    ("retina.jpg", 150, 500, 600, False),
    ("brick.png", 0, 0, 512, False),
    ("brick.png", 120, 120, 256, False),
    ("grass.png", 0, 0, 400, False),
    ("gravel.png", 0, 0, 400, False),
)
