"""The canonical form: the few operators the planner knows, in place of the many ways to write them."""

from __future__ import annotations

from torch import fx

from snnconvert.convert.names import assign_layer_names
from snnconvert.convert.passes.affine_branches import affine_branches
from snnconvert.convert.passes.fold_affine import fold_affine
from snnconvert.convert.passes.fold_constants import fold_constants
from snnconvert.convert.passes.fuse_elementwise import fuse_elementwise
from snnconvert.convert.passes.lower_attention import lower_attention
from snnconvert.convert.passes.lower_constant_products import lower_constant_products
from snnconvert.convert.passes.lower_dynamic_convolutions import lower_dynamic_convolutions
from snnconvert.convert.passes.lower_einsum import lower_einsum
from snnconvert.convert.passes.lower_indexing import lower_indexing
from snnconvert.convert.passes.lower_norms import mark_normalizations
from snnconvert.convert.passes.lower_recurrent import lower_recurrent
from snnconvert.convert.passes.lower_scalars import lower_scalars
from snnconvert.convert.passes.lower_splits import lower_splits
from snnconvert.convert.passes.lower_stack import lower_stack
from snnconvert.convert.passes.lower_synapses import lower_synapses
from snnconvert.convert.passes.lower_writes import lower_writes
from snnconvert.convert.passes.rectify_after_max_pool import rectify_after_max_pool
from snnconvert.convert.passes.remove_identities import remove_identities
from snnconvert.convert.passes.standardize_rectifiers import standardize_rectifiers
from snnconvert.convert.unbacked import settle_sizes

PASSES = (
    remove_identities,
    fold_constants,
    lower_indexing,
    settle_sizes,
    lower_writes,
    lower_attention,
    lower_einsum,
    lower_recurrent,
    lower_splits,
    lower_stack,
    fold_constants,
    lower_scalars,
    lower_synapses,
    lower_dynamic_convolutions,
    lower_constant_products,
    fold_affine,
    mark_normalizations,
    fuse_elementwise,
    standardize_rectifiers,
    affine_branches,
    rectify_after_max_pool,
)


def canonicalize(graph_module: fx.GraphModule) -> fx.GraphModule:
    """Runs the passes in order; the result equals the captured network up to float rounding."""
    for graph_pass in PASSES:
        graph_module = graph_pass(graph_module)
    return assign_layer_names(graph_module)
