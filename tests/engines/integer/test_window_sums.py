"""Sums over tokens: with a dimension more for OpenVINO, the same sums."""

import pytest
import torch
from engine_networks import converted

from snnconvert.engines.integer.dialect import OPENVINO
from snnconvert.engines.integer.integer_model import integer_model
from snnconvert.engines.integer.twins import WindowSum
from snnconvert.neurons.current import PoolGeometry


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dims", [(1,), (2,), (1, 2)])
def test_lifted_sums_are_the_same(dims, keepdim):
    words = torch.randint(0, 256, (2, 5, 4)).float()
    geometry, scale = PoolGeometry(dims=dims, keepdim=keepdim), torch.tensor(0.25)
    plain, lifted = (WindowSum(geometry, scale, 0, lifted=lifted)(words) for lifted in (False, True))
    assert torch.equal(plain, lifted)
    assert torch.equal(plain, (words / 4).sum(dims, keepdim=keepdim))


def test_means_over_tokens_are_lifted_for_openvino():
    snn, _ = converted("tokens")
    model = integer_model(snn.network, snn.signature, OPENVINO).model
    (reduced,) = [node for node in model.graph.node if node.op_type == "ReduceSum"]
    (lifted,) = [node for node in model.graph.node if reduced.input[0] in node.output]
    assert lifted.op_type == "Unsqueeze"
