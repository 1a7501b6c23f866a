"""Convert pretrained neural networks into spiking neural networks, and account for every bit."""

from snnconvert.allocation.pareto import ParetoPoint
from snnconvert.api import convert, convert_parts, plan
from snnconvert.calibration.no_data import NoData
from snnconvert.config import ConversionConfig, LayerOverride
from snnconvert.convert.plan import Plan
from snnconvert.effort import EFFORTS
from snnconvert.engines.integer.compiled import CompiledNetwork
from snnconvert.engines.stepwise import Simulation
from snnconvert.errors import (
    ArtifactError,
    ConfigurationError,
    ConversionError,
    EngineError,
    InputError,
    SnnConvertError,
)
from snnconvert.hybrid import CompiledHybrid, HybridModel
from snnconvert.inputs import Inputs
from snnconvert.pareto_search import search
from snnconvert.report.report import Report
from snnconvert.spiking_model import SpikingModel, load
from snnconvert.tasks.evaluate import evaluate
from snnconvert.tasks.evaluation import TaskEvaluation
from snnconvert.training.config import FinetuneConfig
from snnconvert.training.finetune import finetune
from snnconvert.training.loop import Course
from snnconvert.version import __version__

__all__ = [
    "EFFORTS",
    "ArtifactError",
    "CompiledHybrid",
    "CompiledNetwork",
    "ConfigurationError",
    "ConversionConfig",
    "ConversionError",
    "Course",
    "EngineError",
    "FinetuneConfig",
    "HybridModel",
    "InputError",
    "Inputs",
    "LayerOverride",
    "NoData",
    "ParetoPoint",
    "Plan",
    "Report",
    "Simulation",
    "SnnConvertError",
    "SpikingModel",
    "TaskEvaluation",
    "__version__",
    "convert",
    "convert_parts",
    "evaluate",
    "finetune",
    "load",
    "plan",
    "search",
]
