"""What T costs: nothing, since words of as many bits give the very same model."""

import pytest
from engine_networks import converted

from snnconvert.engines.integer.dialect import DIALECTS
from snnconvert.engines.integer.integer_model import integer_model


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", ["residual", "attention"])
def test_models_of_any_number_of_steps_are_the_same(name, dialect):
    assert built(name, dialect, T=1, bits=8) == built(name, dialect, T=4, bits=2)


def test_models_of_other_words_are_not():
    assert built("residual", "onnxruntime", T=4, bits=1) != built("residual", "onnxruntime", T=4, bits=2)


def built(name, dialect, **code):
    snn, _ = converted(name, **code)
    return integer_model(snn.network, snn.signature, DIALECTS[dialect]).model.SerializeToString(deterministic=True)
