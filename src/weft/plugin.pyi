# free of torch
# the model
from .core.api.attention_maps import AttentionMaps as AttentionMaps
from .core.api.attention_maps import Grid as Grid
from .core.api.attention_maps import Site as Site
from .core.api.branches import Branch as Branch
from .core.api.branches import LinearForm as LinearForm
from .core.api.branches import Prompt as Prompt
from .core.api.branches import SubjectPhrase as SubjectPhrase
from .core.api.conditioner import Conditioner as Conditioner
from .core.api.conditioner import Fixed as Fixed
from .core.api.conditioner import Prepared as Prepared
from .core.api.guidance import (
    MAP_POSITIONS as MAP_POSITIONS,
)
from .core.api.guidance import (
    Batch as Batch,
)
from .core.api.guidance import (
    Energy as Energy,
)
from .core.api.guidance import (
    Guidance as Guidance,
)
from .core.api.guidance import (
    LatentEdit as LatentEdit,
)
from .core.api.guidance import (
    Refinement as Refinement,
)
from .core.api.guidance import (
    SecondEvaluation as SecondEvaluation,
)
from .core.api.guidance import (
    require_conditioners as require_conditioners,
)
from .core.api.hookspecs import hookimpl as hookimpl
from .core.api.image_encoder import ImageFeatures as ImageFeatures
from .core.api.image_encoder import ImageTower as ImageTower

# weights
from .core.api.low_rank import ByPath as ByPath
from .core.api.low_rank import LowRank as LowRank
from .core.api.map_edits import MapCall as MapCall
from .core.api.map_edits import MapEdit as MapEdit
from .core.api.map_edits import MapFunction as MapFunction
from .core.api.map_edits import MapRows as MapRows
from .core.api.metric import Metric as Metric
from .core.api.model_view import ModelView as ModelView
from .core.api.plugin import ModelCard as ModelCard
from .core.api.plugin import Plugin as Plugin
from .core.api.plugin_weights import trained_networks as trained_networks

# the ports
from .core.api.ports import (
    BlockInsert as BlockInsert,
)
from .core.api.ports import (
    BlockModule as BlockModule,
)
from .core.api.ports import (
    ContextTokens as ContextTokens,
)
from .core.api.ports import (
    Contribution as Contribution,
)
from .core.api.ports import (
    Entry as Entry,
)
from .core.api.ports import (
    FeatureResiduals as FeatureResiduals,
)
from .core.api.ports import (
    InputChannels as InputChannels,
)
from .core.api.ports import (
    ResidualModule as ResidualModule,
)
from .core.api.ports import (
    Residuals as Residuals,
)
from .core.api.ports import (
    TextRegion as TextRegion,
)
from .core.api.ports import (
    TextStates as TextStates,
)
from .core.api.ports import (
    TokenEmbeddings as TokenEmbeddings,
)
from .core.api.ports import (
    WeightDelta as WeightDelta,
)
from .core.api.scheduler_entry import SchedulerEntry as SchedulerEntry
from .core.api.step import Step as Step
from .core.api.text_encoder import PromptTokens as PromptTokens
from .core.api.text_encoder import TextEncoder as TextEncoder
from .core.checkpoints.tensors import fill_module as fill_module
from .core.checkpoints.tensors import read_tensors as read_tensors
from .core.errors import (
    PluginError as PluginError,
)
from .core.errors import (
    UserError as UserError,
)
from .core.errors import (
    WeftError as WeftError,
)
from .core.errors import (
    did_you_mean as did_you_mean,
)
from .core.families.blocks import cross_attention_paths as cross_attention_paths
from .core.runfile.read import read_run_file as read_run_file
from .core.scene import Box as Box
from .core.scene import ImageSource as ImageSource
from .core.scene import Scene as Scene
from .core.scene import Subject as Subject
from .core.scene import locate as locate
from .core.scene import record as record
from .core.scene.pixels import open_image as open_image
from .core.scene.pixels import open_mask as open_mask
from .core.scene.pixels import resize as resize
from .core.scene.pixels import to_tensor as to_tensor
from .core.scene.region import Region as Region

# the contract
from .core.testing import (
    Case as Case,
)
from .core.testing import (
    SecondPrompt as SecondPrompt,
)
from .core.testing import (
    parametrize_with_checks as parametrize_with_checks,
)
from .core.testing import (
    random_model as random_model,
)
from .core.testing import (
    random_pipeline as random_pipeline,
)
from .core.testing import (
    random_tower as random_tower,
)
from .core.testing import (
    random_unet as random_unet,
)
from .core.unet.attention import self_attention as self_attention
from .core.unet.weight_deltas import apply_deltas as apply_deltas
