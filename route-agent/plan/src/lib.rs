//! What a node's routes, rules and nft table should be. Pure.
