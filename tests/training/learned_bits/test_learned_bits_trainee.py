"""Networks of learned widths in the training loop that fine-tunes spiking networks."""

import torch
from learned_bits_networks import Residual, images_for, learner, output_of, seeded

from snnconvert.training.config import FinetuneConfig
from snnconvert.training.learned_bits.config import LearnedBitsConfig
from snnconvert.training.learned_bits.landing import land
from snnconvert.training.learned_bits.trainee import LearnedBitsTrainee
from snnconvert.training.loop import Course, train

QUICK = LearnedBitsConfig(2.6, 2.6, settle_share=0.5, renewal_trials=20)
SETTINGS = FinetuneConfig(epochs=4, batch_size=16, learning_rate=5e-3, augmentation="none", ema=0.9)


class Samples:
    def __init__(self):
        self.images = images_for(Residual)
        with torch.no_grad():
            self.labels = seeded(Residual)(self.images).argmax(1)

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.labels[index])


def test_the_loop_trains_widths_and_what_lands_is_what_was_trained():
    network, statistics = learner(Residual, QUICK)
    train(LearnedBitsTrainee(network), Samples(), SETTINGS, seeded(Residual))
    found = network.budgets()
    assert network.settled
    assert found.weight_bits <= 2.6
    assert found.spike_bits <= 2.6
    snn, images = land(network, statistics), images_for(Residual, 16)
    near = output_of(network.eval(), images)
    assert (near - output_of(snn, images)).norm() < 0.15 * near.norm()


def test_an_interrupted_run_goes_on_with_the_widths_it_had(tmp_path):
    network, _ = learner(Residual, QUICK)
    train(LearnedBitsTrainee(network), Samples(), SETTINGS, seeded(Residual), Course(tmp_path))
    again, _ = learner(Residual, QUICK)
    train(LearnedBitsTrainee(again), Samples(), SETTINGS, seeded(Residual), Course(tmp_path, resume=True))
    assert again.settled
    assert again.allocation() == network.allocation()
    assert torch.equal(output_of(again.eval(), images_for(Residual)), output_of(network.eval(), images_for(Residual)))


def test_averages_of_parameters_move_no_settled_width():
    network, _ = learner(Residual, QUICK)
    network.settle()
    before = network.allocation()
    for width in network.weight_widths:
        width.value.data.add_(1.7)
    assert network.allocation() == before
