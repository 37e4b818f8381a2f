"""One judgement of a study, without torch, that every command renders: `judge` says what its records establish."""
