import itertools

import pytest
import torch
import torch.nn.functional as F
from graph_helpers import Net, canonical, count, norm, side_by_side
from torch import nn

from snnconvert.convert.capture import capture
from snnconvert.convert.names import layer_name
from snnconvert.convert.ops import OpKind, kind_of, op_name, rectified_linear
from snnconvert.convert.passes.fold_affine import fold_affine
from snnconvert.convert.passes.lower_views import lower_views
from snnconvert.convert.passes.rectify_after_max_pool import rectify_after_max_pool
from snnconvert.convert.passes.remove_identities import remove_identities
from snnconvert.convert.passes.standardize_rectifiers import standardize_rectifiers

X = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def equal(graph, net, x):
    for batch in (x, x[:1], torch.cat([x * 3, x - 1])):
        with torch.no_grad():
            expected = net(batch)
        torch.testing.assert_close(graph(batch), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max() + 1))


def conv(outputs=6, inputs=4, kernel=3, **options):
    torch.manual_seed(outputs + kernel)
    return nn.Conv2d(inputs, outputs, kernel, **options)


def compute(graph):
    return [node for node in graph.graph.nodes if node.op == "call_function"]


def kinds_of(graph):
    """Operators that compute, without what joins the branches of a test's network."""
    return sorted(
        op_name(node)
        for node in compute(graph)
        if op_name(node) not in ("flatten", "view", "reshape", "cat", "sym_size")
    )


class TestRemoveIdentities:
    def test_dropouts(self):
        identities = [
            nn.Dropout(0.4), nn.Dropout2d(0.4), nn.AlphaDropout(0.4), nn.Identity(), nn.FeatureAlphaDropout(0.2),
            nn.Dropout(0.4, inplace=True),
        ]  # fmt: skip
        net = side_by_side([lambda n, y, f=f: f(y) for f in identities], [conv() for _ in identities])
        net.identities = nn.ModuleList(identities).eval()
        graph = remove_identities(capture(net, X))
        assert kinds_of(graph) == ["conv2d"] * len(identities)
        equal(graph, net, X)

    def test_copies(self):
        copies = [
            lambda n, y: y.clone(), lambda n, y: y.contiguous(), lambda n, y: y.detach(), lambda n, y: y.float(),
            lambda n, y: y.to(torch.float32), lambda n, y: y[:], lambda n, y: y[:, 0:], lambda n, y: y[:, ::1],
            lambda n, y: torch.cat([y], 1), lambda n, y: y.clone(memory_format=torch.channels_last).contiguous(),
            lambda n, y: F.dropout(y.clone(), 0.5, training=False).contiguous(),
        ]  # fmt: skip
        net = side_by_side(copies, [conv() for _ in copies])
        graph = remove_identities(capture(net, X))
        assert kinds_of(graph) == ["conv2d"] * len(copies)
        assert count(graph, "cat") == 1
        equal(graph, net, X)

    def test_what_changes_values_stays(self):
        changes = [
            lambda n, y: y[:, 1:].relu(), lambda n, y: y[:, ::2].relu(), lambda n, y: y[:, :-1].relu(),
            lambda n, y: torch.cat([y, y], 1),
        ]  # fmt: skip
        net = side_by_side(changes, [conv() for _ in changes])
        graph = remove_identities(capture(net, X))
        assert count(graph, "slice") == 3
        assert count(graph, "cat") == 2
        equal(graph, net, X)

    @pytest.mark.parametrize(
        "function",
        [
            lambda y: y.view(-1, 2, 3, 6, 6).transpose(1, 2).contiguous().view(-1, 6, 6, 6),
            lambda y: y.transpose(1, 2).flatten(1),
            lambda y: y[:, ::2].flatten(1),
        ],
        ids=["channel shuffle", "flatten", "slice"],
    )
    def test_copies_that_a_view_needs(self, function):
        net = Net(lambda net, x: function(net.a(x)), a=conv())
        equal(remove_identities(lower_views(capture(net, X))), net, X)

    def test_a_network_of_nothing(self):
        net = Net(lambda net, x: net.d(x.clone()), d=nn.Dropout())
        graph = remove_identities(capture(net, X))
        assert compute(graph) == []
        equal(graph, net, X)


class TestFoldAffine:
    def folds(self, net, x=X, *, synapses=1, others=0):
        captured = capture(net, x)
        before = len(compute(captured))
        graph = fold_affine(captured)
        kinds = [kind_of(node) for node in compute(graph)]
        assert kinds.count(OpKind.SYNAPSE) == synapses
        assert len(kinds) == synapses + others < before
        equal(graph, net, x)
        return graph

    def test_norm_after_convolution(self):
        cases = list(itertools.product([True, False], [True, False], [1, 2, 4]))
        net = side_by_side(
            [lambda n, y: y] * len(cases),
            [
                nn.Sequential(conv(8, bias=bias, groups=groups), norm(8, affine=affine))
                for bias, affine, groups in cases
            ],
        ).eval()
        graph = fold_affine(capture(net, X))
        assert kinds_of(graph) == ["conv2d"] * len(cases)
        equal(graph, net, X)

    def test_norms_of_other_ranks(self):
        self.folds(Net(lambda n, x: n.bn(n.a(x)), a=nn.Conv1d(4, 6, 3), bn=norm(6, nn.BatchNorm1d)), X.flatten(2))
        self.folds(
            Net(lambda n, x: n.bn(n.a(x)), a=nn.Conv3d(2, 6, 3), bn=norm(6, nn.BatchNorm3d)), X.view(2, 2, 8, 4, 4)
        )
        self.folds(Net(lambda n, x: n.bn(n.a(x)), a=nn.Linear(8, 6), bn=norm(6, nn.BatchNorm1d)), X[:, 0, 0])

    def test_norm_over_tokens_is_not_the_linears_channel(self):
        # [N, L, C]: BatchNorm1d normalizes L, a linear layer's channels are C; L = C makes it tempting
        net = Net(lambda n, x: n.bn(n.a(x)), a=nn.Linear(8, 4), bn=norm(4, nn.BatchNorm1d))
        x = X[:, :, 0]
        captured = capture(net, x)
        graph = fold_affine(captured)
        assert [op_name(node) for node in compute(graph)] == ["linear", "affine"]
        equal(graph, net, x)

    def test_norm_over_the_channels_of_tokens(self):
        net = Net(
            lambda n, x: n.bn(n.a(x).transpose(1, 2)).transpose(1, 2), a=nn.Linear(8, 4), bn=norm(4, nn.BatchNorm1d)
        )
        equal(fold_affine(capture(net, X[:, :, 0])), net, X[:, :, 0])
        net = Net(lambda n, x: n.bn(n.a(x).flatten(0, 1)), a=nn.Linear(8, 4), bn=norm(4, nn.BatchNorm1d))
        y = Net(lambda n, x: net(x).unflatten(0, (-1, 4)))
        y.net = net
        equal(fold_affine(capture(y, X[:, :, 0])), y, X[:, :, 0])

    def test_norm_after_a_sum_stays(self):
        net = Net(lambda n, x: n.bn(n.a(x) + n.b(x)), a=conv(), b=conv(6, kernel=3), bn=norm(6))
        graph = fold_affine(capture(net, X))
        assert [op_name(node) for node in compute(graph)] == ["conv2d", "conv2d", "add", "affine"]
        equal(graph, net, X)

    def test_norm_of_a_shared_current_stays(self):
        net = Net(lambda n, x: n.bn(y := n.a(x)) + y, a=conv(), bn=norm(6))
        graph = fold_affine(capture(net, X))
        assert count(graph, "channel_affine") == 1
        equal(graph, net, X)

    def test_norm_before_a_convolution_stays(self):
        net = Net(lambda n, x: n.a(n.bn(x)), a=conv(padding=1), bn=norm(4))
        graph = fold_affine(capture(net, X))
        assert count(graph, "channel_affine") == 1
        equal(graph, net, X)

    def test_constant_scale_and_shift(self):
        functions = [
            lambda n, y: y * n.c, lambda n, y: n.c * y, lambda n, y: y + n.c, lambda n, y: n.c + y,
            lambda n, y: y - n.c, lambda n, y: n.c - y, lambda n, y: y / n.c, lambda n, y: y * 0.3,
            lambda n, y: y / 7, lambda n, y: y + 1.5, lambda n, y: y * n.d, lambda n, y: y * n.c + n.c,
            lambda n, y: (y * -1) - n.c, lambda n, y: y * n.s,
        ]  # fmt: skip
        net = side_by_side(functions, [conv() for _ in functions])
        net.register_buffer("c", torch.linspace(0.5, 2, 6).view(6, 1, 1))
        net.register_buffer("d", torch.linspace(-0.5, 2, 6).view(1, 6, 1, 1))
        net.register_buffer("s", torch.tensor(0.7))
        graph = fold_affine(capture(net, X))
        assert kinds_of(graph) == ["conv2d"] * len(functions)
        equal(graph, net, X)

    def test_what_is_no_scale_and_shift_stays(self):
        functions = [
            lambda n, y: 3 / (y + 30), lambda n, y: n.c / (y + 30), lambda n, y: y * n.c[:1, :1, 0],
            lambda n, y: y / (y + 30), lambda n, y: y * y, lambda n, y: y + y,
        ]  # fmt: skip
        net = side_by_side(functions, [conv() for _ in functions])
        net.register_buffer("c", torch.linspace(0.5, 2, 6).view(6, 1, 1))
        equal(fold_affine(capture(net, X)), net, X)

    def test_a_number_minus_a_current(self):
        net = Net(lambda n, x: 2 - n.a(x), a=conv())
        graph = fold_affine(capture(net, X))
        equal(graph, net, X)
        assert kinds_of(graph) == ["conv2d"]

    def test_layer_scale(self):
        net = Net(lambda n, x: x + n.a(x) * n.gamma, a=nn.Linear(8, 8))
        net.gamma = nn.Parameter(torch.linspace(-1, 1, 8))
        x = X[:, :, 0]
        graph = fold_affine(capture(net, x))
        assert [op_name(node) for node in compute(graph)] == ["linear", "add"]
        equal(graph, net, x)
        net = Net(lambda n, x: x + n.bn(n.a(x)) * n.gamma, a=conv(4, padding=1), bn=norm(4))
        net.gamma = nn.Parameter(torch.linspace(-1, 1, 4).view(1, 4, 1, 1))
        graph = fold_affine(capture(net, X))
        assert [op_name(node) for node in compute(graph)] == ["conv2d", "add"]
        equal(graph, net, X)

    def test_spatial_constants_stay(self):
        shapes = [(6, 6), (1, 6), (6, 1), (6, 6, 6), (1, 1, 6, 1)]
        net = side_by_side(
            [lambda n, y, i=i: y * n.get_buffer(f"c{i}") for i in range(len(shapes))], [conv() for _ in shapes]
        )
        for index, shape in enumerate(shapes):
            net.register_buffer(f"c{index}", torch.randn(shape, generator=torch.Generator().manual_seed(3)))
        graph = fold_affine(capture(net, X))
        assert kinds_of(graph) == ["conv2d"] * len(shapes) + ["mul"] * len(shapes)
        equal(graph, net, X)

    def test_position_embeddings_stay(self):
        net = Net(lambda n, x: n.a(x) + n.pos, a=nn.Linear(8, 4))
        net.pos = nn.Parameter(torch.randn(1, 4, 4))
        x = X[:, :, 0]
        graph = fold_affine(capture(net, x))
        assert [op_name(node) for node in compute(graph)] == ["linear", "add"]
        equal(graph, net, x)

    @pytest.mark.parametrize("operator", [torch.mul, torch.add])
    def test_constants_that_broadcast_one_channel_to_many(self, operator):
        net = Net(lambda n, x: operator(n.a(x), n.c), a=conv(1))
        net.register_buffer("c", torch.linspace(0.5, 2, 6).view(6, 1, 1))
        equal(fold_affine(capture(net, X)), net, X)

    def test_alpha_and_rounding_modes_keep_their_meaning(self):
        functions = [
            lambda n, y: torch.add(y, n.c, alpha=3),
            lambda n, y: torch.sub(y, n.c, alpha=3),
            lambda n, y: torch.div(y, n.c, rounding_mode="floor"),
        ]
        net = side_by_side(functions, [conv() for _ in functions])
        net.register_buffer("c", torch.linspace(0.5, 2, 6).view(6, 1, 1))
        equal(fold_affine(capture(net, X)), net, X)

    def test_a_reused_module_folds_each_time_by_itself(self):
        net = Net(lambda n, x: n.b2(n.a(F.relu(n.b1(n.a(x))))), a=conv(4, padding=1), b1=norm(4), b2=norm(4, eps=0.1))
        net.b2.running_mean.add_(2)
        graph = self.folds(net, synapses=2, others=1)
        assert len([node for node in graph.graph.nodes if node.op == "get_attr"]) == 4

    def test_shared_weights_fold_by_themselves(self):
        net = Net(lambda n, x: n.bn(n.a(x)) + n.b(x), a=conv(), b=conv(), bn=norm(6))
        net.b.weight = net.a.weight
        self.folds(net, synapses=2, others=1)

    def test_chains_of_norms(self):
        net = Net(lambda n, x: n.b2(n.b1(n.a(x))), a=conv(), b1=norm(6), b2=norm(6, eps=0.1))
        self.folds(net)

    def test_the_captured_graph_of_another_run_is_not_disturbed(self):
        net = Net(lambda n, x: n.bn(n.a(x)), a=conv(), bn=norm(6))
        first = fold_affine(capture(net, X))
        equal(fold_affine(capture(net, X)), net, X)
        equal(first, net, X)


def rectifiers(graph):
    return [node.args[1] for node in graph.graph.nodes if node.target is rectified_linear]


class TestStandardizeRectifiers:
    def test_variants(self):
        variants = [
            (torch.relu, None), (F.relu, None), (lambda y: F.relu(y, inplace=True), None),
            (lambda y: torch.relu_(y), None), (nn.ReLU(), None), (nn.ReLU6(), 6.0), (F.relu6, 6.0),
            (nn.Hardtanh(0, 3), 3.0), (lambda y: F.hardtanh(y, 0.0, 6.0), 6.0), (lambda y: y.clamp(0, 1), 1.0),
            (lambda y: y.clamp(min=0), None), (lambda y: y.clamp(min=0.0, max=2.5), 2.5),
            (lambda y: y.clamp_min(0), None), (lambda y: F.threshold(y, 0, 0), None),
            (lambda y: y.clamp(0, float("inf")), None), (lambda y: torch.clamp(y, 0, 4), 4.0),
            (lambda y: y.clamp_(0, 3), 3.0),
        ]  # fmt: skip
        net = side_by_side([lambda n, y, f=f: f(y) for f, _ in variants], [conv() for _ in variants])
        graph = standardize_rectifiers(remove_identities(capture(net, X * 20)))
        assert rectifiers(graph) == [cap for _, cap in variants]
        assert count(graph, "aten.relu", "hardtanh", "clamp", "threshold") == 0
        equal(graph, net, X * 20)

    @pytest.mark.parametrize("function", [lambda y: torch.clip(y, 0, 2), lambda y: y.clip(min=0)])
    def test_clip_is_clamp(self, function):
        net = Net(lambda n, x: function(n.a(x)), a=conv())
        assert len(rectifiers(standardize_rectifiers(capture(net, X)))) == 1

    def test_others_stay(self):
        others = [
            nn.Hardtanh(), nn.Hardtanh(-1, 1), lambda y: y.clamp(-1, 1), lambda y: y.clamp(max=1),
            lambda y: y.clamp(0.1, 1), lambda y: y.clamp(-2, 0), lambda y: y.clamp(min=0.5), nn.LeakyReLU(0.1),
            nn.ELU(), nn.GELU(), nn.Hardsigmoid(), nn.Hardswish(), nn.PReLU(), lambda y: F.threshold(y, 1, 0),
            lambda y: F.threshold(y, 0, 5), lambda y: y.clamp(0, 0), lambda y: y.clamp(y.mean((1, 2, 3), True), None),
        ]  # fmt: skip
        net = side_by_side([lambda n, y, f=f: f(y) for f in others], [conv() for _ in others])
        net.others = nn.ModuleList(f for f in others if isinstance(f, nn.Module))
        graph = standardize_rectifiers(capture(net, X))
        assert rectifiers(graph) == []
        equal(graph, net, X)


class TestRectifyAfterMaxPool:
    def moved(self, net, x=X):
        graph = standardize_rectifiers(remove_identities(capture(net, x)))
        before = [op_name(node) for node in compute(graph)]
        graph = rectify_after_max_pool(graph)
        equal(graph, net, x)
        return before, [op_name(node) for node in compute(graph)]

    def test_a_rectifier_moves_behind_its_pool(self):
        net = Net(lambda n, x: n.b(n.pool(F.relu6(n.a(x)))), a=conv(), b=conv(3, 6, 1), pool=nn.MaxPool2d(3))
        before, after = self.moved(net)
        assert before == ["conv2d", "relu6", "max_pool2d", "conv2d"]
        assert after == ["conv2d", "max_pool2d", "relu6", "conv2d"]

    def test_pools_of_every_shape_commute(self):
        shapes = [{"stride": 1}, {"padding": 1}, {"ceil_mode": True}, {"dilation": 2}, {"stride": 3, "padding": 1}]
        net = side_by_side(
            [lambda n, y, options=options: F.max_pool2d(F.relu(y), 3, **options) for options in shapes],
            [conv() for _ in shapes],
        )
        graph = standardize_rectifiers(remove_identities(capture(net, X)))
        graph = rectify_after_max_pool(graph)
        assert all(
            kind_of(node.args[0]) is OpKind.MAX_POOL for node in compute(graph) if node.target is rectified_linear
        )
        assert len(rectifiers(graph)) == len(shapes)
        equal(graph, net, X)

    def test_through_two_pools(self):
        net = Net(lambda n, x: F.max_pool2d(F.max_pool2d(F.relu(n.a(x)), 2), 2, 1), a=conv())
        assert self.moved(net)[1] == ["conv2d", "max_pool2d", "max_pool2d", "relu"]

    def test_in_one_dimension(self):
        net = Net(lambda n, x: F.max_pool1d(F.relu(n.a(x)), 2), a=nn.Conv1d(4, 6, 3))
        assert self.moved(net, X.flatten(2))[1] == ["conv1d", "max_pool1d", "relu"]

    def test_a_rectifier_with_other_users_stays(self):
        net = Net(lambda n, x: F.max_pool2d(y := F.relu(n.a(x)), 1) + y, a=conv())
        before, after = self.moved(net)
        assert before == after == ["conv2d", "relu", "max_pool2d", "add"]

    def test_the_pool_may_have_many_users(self):
        net = Net(lambda n, x: n.b(p := F.max_pool2d(F.relu(n.a(x)), 2)) + p, a=conv(), b=conv(6, 6, 1))
        assert self.moved(net)[1] == ["conv2d", "max_pool2d", "relu", "conv2d", "add"]

    def test_average_pools_do_not_commute(self):
        net = Net(lambda n, x: F.avg_pool2d(F.relu(n.a(x)), 2), a=conv())
        before, after = self.moved(net)
        assert before == after == ["conv2d", "relu", "avg_pool2d"]


class TestCanonicalForm:
    def test_a_residual_network(self):
        def forward(n, x):
            y = F.relu_(n.bn1(n.conv1(x)))
            y = n.pool(y)
            z = n.bn2(n.conv2(F.dropout(y, 0.3, n.training)))
            z += n.down(y)
            return n.fc(F.relu(z).mean((2, 3)))

        net = Net(
            forward,
            conv1=conv(8, padding=1, bias=False),
            bn1=norm(8),
            pool=nn.MaxPool2d(2),
            conv2=conv(8, 8, padding=1),
            bn2=norm(8),
            down=nn.Sequential(conv(8, 8, 1), norm(8)),
            fc=nn.Linear(8, 3),
        )
        graph = canonical(net, X)
        assert [(op_name(node), layer_name(node)) for node in compute(graph)] == [
            ("conv2d", "conv1"),
            ("max_pool2d", "pool"),
            ("relu", "relu"),
            ("conv2d", "conv2"),
            ("conv2d", "down.0"),
            ("add", "add"),
            ("relu", "relu#2"),
            ("mean", "mean"),
            ("linear", "fc"),
        ]
        equal(graph, net, X)

    def test_names_are_unique_and_reuse_is_numbered(self):
        net = Net(lambda n, x: n.a(F.relu(n.a(F.relu(n.a(x))))), a=conv(4, padding=1))
        names = [layer_name(node) for node in compute(canonical(net, X))]
        assert len(set(names)) == len(names)
        assert [name for name in names if name.startswith("a")] == ["a", "a#2", "a#3"]

    @pytest.mark.parametrize("padding", ["same", "valid"])
    def test_padding_by_name_is_a_synapse(self, padding):
        net = Net(lambda n, x: n.bn(n.a(x)), a=nn.Conv2d(4, 6, 3, padding=padding), bn=norm(6))
        graph = canonical(net, X)
        equal(graph, net, X)
        assert [kind_of(node) for node in compute(graph)] == [OpKind.SYNAPSE]
