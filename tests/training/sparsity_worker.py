"""One of several processes that train the digits network to be sparse: FOLDER."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from training_helpers import rate_coded_digits, training_digits

from snnconvert.training.config import FinetuneConfig
from snnconvert.training.loop import Course, train
from snnconvert.training.sparsity import trainee_for


def main():
    torch.set_num_threads(1)
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    config = FinetuneConfig(epochs=1, batch_size=40, accumulate=2, target_sparsity=0.9, distillation=0.0)
    trainee = trainee_for(rate_coded_digits(), config)
    train(trainee, Pairs(*training_digits(80)), config, None, Course(Path(sys.argv[1])))
    rank = int(os.environ.get("RANK", 0))
    (Path(sys.argv[1]) / f"weight{rank}").write_text(repr(trainee.activation_penalty))
    if dist.is_initialized():
        dist.destroy_process_group()


class Pairs:
    def __init__(self, inputs, labels):
        self.inputs, self.labels = inputs, labels

    def __len__(self):
        return len(self.inputs)

    def __getitem__(self, index):
        return self.inputs[index], int(self.labels[index])


if __name__ == "__main__":
    main()
