//! Read text, hold out, shard, batch, and fetch named data sets.
