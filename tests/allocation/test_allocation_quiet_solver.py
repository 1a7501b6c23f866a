import ctypes
import os
import sys

from snnconvert.allocation.quiet_solver import quiet_stdout


def test_what_compiled_code_prints_is_dropped_and_nothing_else(capfd):
    libc = ctypes.CDLL(None)
    sys.stdout.write("before\n")
    with quiet_stdout():
        libc.puts(b"a line of the solver")
        os.write(1, b"another one")
    libc.puts(b"of others")
    libc.fflush(None)
    sys.stdout.write("after\n")
    assert capfd.readouterr().out == "before\nof others\nafter\n"


def test_output_comes_back_after_an_error(capfd):
    try:
        with quiet_stdout():
            raise KeyError
    except KeyError:
        os.write(1, b"here")
    assert capfd.readouterr().out == "here"


def test_a_closed_standard_output_stays_closed(capfd):
    with capfd.disabled():
        kept = os.dup(1)
        os.close(1)
        try:
            with quiet_stdout():
                entered = True
        finally:
            os.dup2(kept, 1)
            os.close(kept)
    assert entered
