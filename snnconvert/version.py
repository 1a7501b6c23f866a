"""The package's version, read from its installed metadata."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("snnconvert")
except PackageNotFoundError:
    __version__ = "0+source"
