"""InfiniteVL-Online: configuration, weights, state, and the three verbs of a stream."""
