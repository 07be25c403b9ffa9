"The paper's tables and figures: its numbers (`paper`), records (`results`, `statistics`), trainings (`run`), reports (`report`)."


def __getattr__(name):  # `from psr_fer.reproduce import reproduce`, without an import before it is asked for
    from psr_fer.reproduce import run
    return getattr(run, name)
