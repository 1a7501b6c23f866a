"""Trains the networks for the scenes: `python -m snnconvert.models.train_scenes NETWORK --out FILE`."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from tqdm import tqdm

from snnconvert.data.scenes import HELD_OUT_SEED, SCENE_SIZE, TRAINING_SEED, Scenes
from snnconvert.models.reproducible import reproducible
from snnconvert.models.scene_detector import SceneDetector
from snnconvert.models.scene_losses import detection_loss, segmentation_loss
from snnconvert.models.scene_lraspp import scene_lraspp
from snnconvert.models.scene_retinanet import scene_retinanet
from snnconvert.models.scene_scores import dense_logits, detection_scores, segmentation_scores
from snnconvert.models.scene_segmenter import SceneSegmenter

_HELD_OUT = 500


@dataclass(frozen=True)
class SceneTraining:
    """How a network for the scenes is trained.

    Attributes:
        epochs: Passes over the training scenes.
        scenes: Training scenes.
        batch_size: Scenes in a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        largest_gradient: Norm to which gradients are clipped.
        seed: Of the initial weights, the order of scenes, and how they are turned and mirrored.
    """

    epochs: int
    scenes: int = 4000
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 2e-2
    largest_gradient: float = 10.0
    seed: int = 0


@dataclass(frozen=True)
class SceneBatch:
    """Scenes as tensors.

    Attributes:
        images: uint8 or float32 [N, 3, S, S].
        masks: [N, S, S].
        boxes: [K, 4] of each.
        labels: int64 [K] of each.
    """

    images: Tensor
    masks: Tensor
    boxes: list[Tensor]
    labels: list[Tensor]

    def chosen(self, indices: Tensor) -> SceneBatch:
        """Some of them, with images in 0..1."""
        numbers = indices.tolist()
        return SceneBatch(
            self.images[indices].float() / 255,
            self.masks[indices].long(),
            [self.boxes[number] for number in numbers],
            [self.labels[number] for number in numbers],
        )

    def turned(self, transpose: bool, mirror: bool, flip: bool) -> SceneBatch:
        """All of them in one of a square's eight positions.

        Args:
            transpose: Swap rows and columns, first.
            mirror: Left and right.
            flip: Top and bottom.
        """
        images, masks, boxes, side = self.images, self.masks, self.boxes, self.images.shape[-1]
        if transpose:
            images, masks, boxes = images.mT, masks.mT, [box[:, [1, 0, 3, 2]] for box in boxes]
        if mirror:
            images, masks, boxes = images.flip(-1), masks.flip(-1), [_mirrored(box, side, 0) for box in boxes]
        if flip:
            images, masks, boxes = images.flip(-2), masks.flip(-2), [_mirrored(box, side, 1) for box in boxes]
        return SceneBatch(images.contiguous(memory_format=torch.channels_last), masks, boxes, self.labels)


def _mirrored(boxes: Tensor, side: int, axis: int) -> Tensor:
    mirrored = boxes.clone()
    mirrored[:, axis], mirrored[:, axis + 2] = side - boxes[:, axis + 2], side - boxes[:, axis]
    return mirrored


@dataclass(frozen=True)
class Recipe:
    """One network: how it is built, trained and judged.

    Attributes:
        build: Gives it with random weights.
        loss: Of the network in training mode and a batch.
        scores: Of the trained network on scenes.
        settings: The default ones.
    """

    build: Callable[[], nn.Module]
    loss: Callable[[nn.Module, SceneBatch], Tensor]
    scores: Callable[[nn.Module, Scenes], dict[str, float]]
    settings: SceneTraining


def _fast() -> torch.autocast:
    """Convolutions in bfloat16, which halves the time where the processor has it."""
    return torch.autocast("cpu", torch.bfloat16)


def _detector_loss(detector: nn.Module, batch: SceneBatch) -> Tensor:
    with _fast():
        classes, boxes, centres = detector.get_submodule("network")(batch.images)
    return detection_loss((classes.float(), boxes.float(), centres.float()), batch.boxes, batch.labels)


def _segmenter_loss(segmenter: nn.Module, batch: SceneBatch) -> Tensor:
    with _fast():
        logits = segmenter(batch.images)
    return segmentation_loss(logits.float(), batch.masks)


def _lraspp_loss(lraspp: nn.Module, batch: SceneBatch) -> Tensor:
    """In float32: bfloat16 makes convolutions of single channels slower, not faster."""
    return segmentation_loss(dense_logits(lraspp(batch.images)), batch.masks)


def _retinanet_loss(retinanet: nn.Module, batch: SceneBatch) -> Tensor:
    pairs = zip(batch.boxes, batch.labels, strict=True)
    targets = [{"boxes": boxes, "labels": labels} for boxes, labels in pairs]
    with _fast():
        losses = retinanet(list(batch.images), targets)
    return torch.as_tensor(losses["classification"] + losses["bbox_regression"])


RECIPES: Mapping[str, Recipe] = {
    "detector": Recipe(SceneDetector, _detector_loss, detection_scores, SceneTraining(epochs=48)),
    "retinanet": Recipe(
        scene_retinanet, _retinanet_loss, detection_scores, SceneTraining(epochs=36, learning_rate=2e-3)
    ),
    "segmenter": Recipe(SceneSegmenter, _segmenter_loss, segmentation_scores, SceneTraining(epochs=30)),
    "lraspp": Recipe(scene_lraspp, _lraspp_loss, segmentation_scores, SceneTraining(epochs=5, batch_size=8)),
}


def training_batch(count: int) -> SceneBatch:
    """Renders the training scenes, in 8 bits.

    Args:
        count: How many.
    """
    scenes = list(Scenes(count, SCENE_SIZE, TRAINING_SEED))
    return SceneBatch(
        torch.stack([(scene.image * 255).round().to(torch.uint8) for scene in scenes]),
        torch.stack([scene.mask.to(torch.uint8) for scene in scenes]),
        [scene.boxes for scene in scenes],
        [scene.labels for scene in scenes],
    )


def train_scenes(recipe: Recipe, settings: SceneTraining, scenes: SceneBatch) -> nn.Module:
    """Trains a network; same settings, same machine, same weights.

    Progress goes to stderr.

    Args:
        recipe: Which one.
        settings: How.
        scenes: What it sees, turned and mirrored at random.

    Returns:
        The trained network in evaluation mode.
    """
    with reproducible(settings.seed):
        network = recipe.build().to(memory_format=torch.channels_last).train()
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        steps = math.ceil(len(scenes.images) / settings.batch_size) * settings.epochs
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, settings.learning_rate, total_steps=steps, pct_start=0.15
        )
        for _ in (progress := tqdm(range(settings.epochs), file=sys.stderr)):
            total = 0.0
            for indices in torch.split(torch.randperm(len(scenes.images)), settings.batch_size):
                transpose, mirror, flip = (torch.rand(3) < 0.5).tolist()
                loss = recipe.loss(network, scenes.chosen(indices).turned(transpose, mirror, flip))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.parameters(), settings.largest_gradient)
                optimizer.step()
                schedule.step()
                total += float(loss.detach()) * len(indices)
            progress.set_description(f"training, loss {total / len(scenes.images):.4f}")
    return network.eval()


def stored(network: nn.Module) -> nn.Module:
    """Rounds weights in place to what a file holds of them: those of convolutions to 16 bits.

    Args:
        network: The trained network.

    Returns:
        The same one.
    """
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half())
    return network


def save_scenes_network(network: nn.Module, path: Path, record: Mapping[str, object]) -> None:
    """Writes weights to a safetensors file: those of convolutions in 16 bits, the others in 32.

    Args:
        network: The trained network.
        path: The file.
        record: How they came about.
    """
    state = {
        name: (tensor.half() if tensor.dim() > 1 else tensor).contiguous()
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    path.write_bytes(safetensors.torch.save(state, metadata={"training": json.dumps(record, sort_keys=True)}))


def main(arguments: list[str] | None = None) -> None:
    """Trains one network with its default settings and writes the weights.

    Args:
        arguments: Command line; None for the process's own.
    """
    parser = argparse.ArgumentParser(prog="python -m snnconvert.models.train_scenes", description=__doc__)
    parser.add_argument("network", choices=sorted(RECIPES))
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    options = parser.parse_args(arguments)
    recipe: Recipe = RECIPES[options.network]
    began = time.perf_counter()
    network = stored(train_scenes(recipe, recipe.settings, training_batch(recipe.settings.scenes)))
    minutes = (time.perf_counter() - began) / 60
    scores = recipe.scores(network, Scenes(_HELD_OUT, SCENE_SIZE, HELD_OUT_SEED))
    record = {
        "data": "snnconvert.data.scenes",
        "command": f"python -m snnconvert.models.train_scenes {options.network}",
        "settings": asdict(recipe.settings),
        "held_out_scenes": _HELD_OUT,
        **{f"held_out_{name}": round(score, 4) for name, score in scores.items()},
    }
    save_scenes_network(network, options.out, record)
    figures = ", ".join(f"{name} {score:.2%}" for name, score in scores.items())
    sys.stderr.write(f"{figures} on {_HELD_OUT} held-out scenes, {minutes:.0f} minutes, saved to {options.out}\n")


if __name__ == "__main__":
    main()
