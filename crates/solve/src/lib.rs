//! What is already known and what must run: cache keys and the solver
