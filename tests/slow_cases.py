"""Which cases of a parametrized test run by default, and which only among the slow ones."""

import pytest


def mostly_slow(cases, keep, *, as_one=False):
    """All cases in their order, those not kept marked slow (run with ``pytest -m slow``).

    Args:
        cases: what ``pytest.mark.parametrize`` or a fixture's ``params`` take: scalars, tuples or ``pytest.param``s
            (whose own id and marks stay), or a mapping, of which the keys are taken.
        keep: the cases that run by default, or how many of the first ones do.
        as_one: whether a tuple is one argument, as a fixture's are, rather than one value for each argument's name.

    Raises:
        ValueError: a case to keep isn't among the cases: it would be slow unnoticed.
    """
    sets = [_as_param(case, as_one) for case in cases]
    if isinstance(keep, int):
        kept = set(range(keep))
        missing = [] if 0 <= keep <= len(sets) else [keep]
    else:
        wanted = [_as_param(case, as_one).values for case in keep]
        kept = {index for index, case in enumerate(sets) if case.values in wanted}
        missing = [values for values in wanted if all(sets[index].values != values for index in kept)]
    if missing:
        raise ValueError(f"{missing} is to be kept and is none of the cases")
    return [case if index in kept else _slow(case) for index, case in enumerate(sets)]


def _as_param(case, as_one):
    if hasattr(case, "marks"):
        return case
    return pytest.param(*case) if isinstance(case, tuple) and not as_one else pytest.param(case)


def _slow(case):
    return pytest.param(*case.values, id=case.id, marks=[*case.marks, pytest.mark.slow])
