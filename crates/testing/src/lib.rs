//! For tests: hermetic environments, tiny images, a registry that can lie and fail
