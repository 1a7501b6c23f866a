"""What a process of the command line writes where."""

import subprocess
import sys

STRAY = """
import ctypes, sys
from snnconvert.cli import entry
def main():
    print("own")
    ctypes.CDLL(None).puts(b"stray")
    return 3
entry.main = main
sys.exit(entry.run())
"""


def test_what_libraries_print_in_c_stays_out_of_the_output():
    done = subprocess.run([sys.executable, "-c", STRAY], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("own\n", 3)
    assert done.stderr == "stray\n"


def test_the_module_runs_the_command_line():
    done = subprocess.run([sys.executable, "-m", "snnconvert", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: snnconvert")
    assert not done.stderr


def test_a_closed_output_is_no_error_of_its_own():
    command = f"exec {sys.executable} -m snnconvert --help >&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
