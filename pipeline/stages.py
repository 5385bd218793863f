"""The names of the stages, in the order in which they run."""

STAGES = ("prepare", "train", "evaluate", "export", "register")
