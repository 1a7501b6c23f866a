"""Training for sparsity: the penalties, what is measured, and the weight that finds itself."""

from __future__ import annotations

import copy

import pytest
import torch

import snnconvert
from snnconvert.data.digits import load_digits_split
