//! Tables of rules, and the oracle.
