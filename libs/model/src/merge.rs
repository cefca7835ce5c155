//! One import out of all exports of a name (KEP-1645).
