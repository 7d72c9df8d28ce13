"""From a catalog to batches: decoding, order, the cache of arrays."""
