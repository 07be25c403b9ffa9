"The paper's tables and figures: its numbers (`paper`), records (`results`, `statistics`), trainings (`run`), reports (`report`)."
from importlib import import_module


def __getattr__(name):  # `from psr_fer.reproduce import reproduce`, without an import before it is asked for
    if name != "reproduce": raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module("psr_fer.reproduce.run").reproduce
