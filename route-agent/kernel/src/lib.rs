//! Kernel state converged by difference: rtnetlink and nft.
