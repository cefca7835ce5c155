//! What the broker decides: roster, tokens, claims, shards, terms, views. Pure.
