"""One of several processes that train the digits network together: FOLDER EPOCHS [resume] [kill-at STEP]."""

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from training_helpers import converted_digits, training_digits

from snnconvert.models.digits import load_digits_net
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course


class Killer:
    def __init__(self, step):
        self.step = step

    def write(self, step, values):
        if step == self.step:
            os._exit(9)

    def close(self):
        pass


def main():
    folder, epochs, resume, kill_at = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "resume", int(sys.argv[4])
    torch.set_num_threads(1)
    start = converted_digits()  # before there are several processes, which would share the calibration
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    config = FinetuneConfig(
        epochs=epochs,
        batch_size=50,
        accumulate=5,
        learning_rate=2e-3,
        augmentation="crop",
        mixup=1.0,
        checkpoint_steps=3,
    )
    logs = (Killer(kill_at),) if kill_at >= 0 else ()
    tuned = finetune(
        start, training_digits(200), config, teacher=load_digits_net(), course=Course(folder, resume, logs)
    )
    rank = int(os.environ.get("RANK", 0))
    torch.save(tuned.network.state_dict(), folder / f"state{rank}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
