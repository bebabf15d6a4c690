"""asrgan's generators for what loads models through spandrel, ComfyUI for one.

    from asrgan.spandrel import register
    register()
    spandrel.ModelLoader().load_from_file("generator.safetensors")

Needs the package spandrel: ``pip install 'asrgan[spandrel]'``.
"""

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchRegistry,
    ArchSupport,
    ImageModelDescriptor,
    ModelTiling,
    StateDict,
)

from asrgan.models import SRGANGenerator
from asrgan.models.files import DESCRIPTION_TENSOR, GENERATORS, describe_tensors


class GeneratorArchitecture(Architecture[SRGANGenerator]):
    """Files of ``asrgan train`` and ``asrgan export``, told by the tensor which describes them."""

    def __init__(self) -> None:
        super().__init__(id="asrgan", detect=lambda state_dict: DESCRIPTION_TENSOR in state_dict)

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[SRGANGenerator]:
        """The generator that the tensors describe."""
        description = describe_tensors(state_dict)
        generator = GENERATORS[description["generator"]](**description["architecture"])
        attention = generator.attention.places
        return ImageModelDescriptor(
            generator,
            {name: tensor for name, tensor in state_dict.items() if name != DESCRIPTION_TENSOR},
            architecture=self,
            purpose="SR",
            tags=[
                f"{description['architecture']['num_features']}nf",
                f"{description['architecture']['num_blocks']}nb",
                *(f"FSA {place.after} /{place.pool_size}" for place in attention),
            ],
            supports_half=True,
            supports_bfloat16=True,
            scale=generator.scale,
            input_channels=3,
            output_channels=3,
            # Attention looks at the whole picture; in a tile it is another function.
            tiling=ModelTiling.DISCOURAGED if attention else ModelTiling.SUPPORTED,
        )


def register(registry: ArchRegistry = MAIN_REGISTRY) -> None:
    """Lets every ``spandrel.ModelLoader`` of this process load asrgan's generators.

    Args:
        registry: another one than spandrel's own; to do it twice does no harm.
    """
    support = ArchSupport.from_architecture(GeneratorArchitecture())
    registry.add(support, ignore_duplicates=True)
