"""Models made from a seed: for trying the program out and for measuring it, never for answers."""

from model.config import InfiniteVLConfig, VisionConfig, published_layer_types
from model.tokenizer import END_OF_TEXT, IM_END, IM_START, VISION_END

SEED = 42

# Names and ids of the prompt's special tokens in the published vocabulary.
PUBLISHED_SPECIAL_IDS = {
    END_OF_TEXT: 151643,
    IM_START: 151644,
    IM_END: 151645,
    "<|vision_start|>": 151652,
    VISION_END: 151653,
}
TINY_SPECIAL_IDS = {name: 256 + i for i, name in enumerate(PUBLISHED_SPECIAL_IDS)}


PUBLISHED_4B = InfiniteVLConfig(
    vision=VisionConfig(
        depth=32,
        hidden_size=1280,
        intermediate_size=3420,
        num_heads=16,
        out_hidden_size=2048,
        full_attention_blocks=(7, 15, 23, 31),
    ),
    vocab_size=151936,
    hidden_size=2048,
    intermediate_size=11008,
    layer_types=published_layer_types(36),
    num_attention_heads=16,
    num_key_value_heads=2,
    mrope_section=(16, 24, 24),
    sliding_window=8192,
    num_linear_heads=16,
    linear_head_dim=128,
    linear_value_dim=256,
)

# Small enough for 25 frames a second on two CPU cores, with every kind of layer twice.
TINY = InfiniteVLConfig(
    vision=VisionConfig(
        depth=4,
        hidden_size=96,
        intermediate_size=244,
        num_heads=3,
        out_hidden_size=128,
        full_attention_blocks=(1, 3),
    ),
    vocab_size=1024,
    hidden_size=128,
    intermediate_size=384,
    layer_types=published_layer_types(8),
    num_attention_heads=4,
    num_key_value_heads=2,
    mrope_section=(4, 6, 6),
    sliding_window=512,
    num_linear_heads=4,
    linear_head_dim=32,
    linear_value_dim=64,
    vision_start_token_id=TINY_SPECIAL_IDS["<|vision_start|>"],
    vision_end_token_id=TINY_SPECIAL_IDS[VISION_END],
)
