"""
Public weights of Swin and of Mask2Former, from local files.

Looked for in the folder of ``--pretrained``, in this order:

* a Mask2Former as the transformers library keeps it (``config.json`` and ``model.safetensors`` or
  ``pytorch_model.bin``), in the folder itself or in ``mask2former/``: the whole network starts from it, but
  for what has another shape (the classifier of other classes, the queries of another number);
* a Swin as transformers keeps it, in the folder itself or in ``swin/``: the encoder starts from it;
* a file ``swin*.pth`` of the authors of Swin, which TAO takes too: the encoder starts from it.
"""

import json
from pathlib import Path

import torch

from mt_perception.errors import MtError

WEIGHTS = ('model.safetensors', 'pytorch_model.bin')
# name in transformers → here
MASK2FORMER_PARTS = {
    'model.pixel_level_module.encoder.': 'encoder.backbone.',
    'model.pixel_level_module.decoder.': 'pixel_decoder.',
    'model.transformer_module.': 'transformer.',
    'class_predictor.': 'class_predictor.',
}
# name in the authors' file → in transformers; the attention's query, key and value are one matrix in the file
SWIN_NAMES = (
    ('patch_embed.proj.', 'embeddings.patch_embeddings.projection.'),
    ('patch_embed.norm.', 'embeddings.norm.'),
    ('layers.', 'encoder.layers.'),
    ('.norm1.', '.layernorm_before.'),
    ('.norm2.', '.layernorm_after.'),
    ('.attn.proj.', '.attention.o_proj.'),
    ('.attn.relative_position_bias_table', '.attention.relative_position_bias.relative_position_bias_table'),
)


def find_model(folder, kind):
    """Return the directory of a model of ``kind`` ('mask2former', 'swin') in or below ``folder``, or None."""
    for place in (Path(folder), Path(folder) / kind):
        config = place / 'config.json'
        if config.is_file() and any((place / name).is_file() for name in WEIGHTS):
            try:
                found = json.loads(config.read_text(encoding='utf-8')).get('model_type')
            except (ValueError, AttributeError):
                raise MtError(f'{config} is not the configuration of a model') from None
            if found == kind:
                return place
    return None


def load_directory(kind, place):
    """Load a model that transformers keeps in a directory; nothing is looked for elsewhere."""
    from transformers import Mask2FormerForUniversalSegmentation
    from transformers.models.swin.modeling_swin import SwinBackbone

    try:
        if kind == 'mask2former':
            return Mask2FormerForUniversalSegmentation.from_pretrained(place, local_files_only=True)
        return SwinBackbone.from_pretrained(
            place, local_files_only=True, out_features=['stage1', 'stage2', 'stage3', 'stage4']
        )
    except Exception as error:  # the library raises many kinds over damaged files
        raise MtError(f'{place} does not hold a {kind}: {str(error).splitlines()[0]}') from None


def take(module, state, where, what):
    """
    Start ``module`` from the entries of ``state`` that fit; says what keeps its random weights.

    :param where: names the source. :param what: names the module in messages.
    :raises MtError: none fits.
    """
    own = module.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    left = sorted({'.'.join(name.split('.')[:2]) for name in own if name not in fitting})
    if len(fitting) < len(own) / 2:
        raise MtError(f'{where} does not hold weights of this {what}: {len(fitting)} of {len(own)} fit')
    module.load_state_dict(fitting, strict=False)
    print(f'{what}: starts from {where}' + (f'; random weights: {", ".join(left)}' if left else ''))


def load_mask2former(net, folder):
    """
    Start a :class:`mt_training.models.mask2former.Mask2Former` from a whole one in ``folder``.

    :return: whether there is one.
    :raises MtError: its sizes are others.
    """
    place = find_model(folder, 'mask2former')
    if place is None:
        return False
    state = {}
    for name, value in load_directory('mask2former', place).state_dict().items():
        for theirs, ours in MASK2FORMER_PARTS.items():
            if name.startswith(theirs):
                state[ours + name.removeprefix(theirs)] = value
    take(net, state, place, 'mask2former')
    return True


def load_swin(encoder, folder):
    """
    Start a :class:`mt_training.models.transformers_parts.SwinEncoder` from weights in ``folder``.

    :raises MtError: they are of another network.
    """
    place = find_model(folder, 'swin')
    if place is not None:
        take(encoder.backbone, load_directory('swin', place).state_dict(), place, 'Swin')
        return
    files = sorted(Path(folder).glob('swin*.pth'))
    if not files:
        print(f'Swin: no model of transformers and no swin*.pth in {folder}; it starts from random weights')
        return
    try:
        state = torch.load(files[0], map_location='cpu', weights_only=True)
    except Exception as error:
        raise MtError(f'{files[0]} is not a PyTorch state dict: {error}') from None
    take(encoder.backbone.swin, rename(state.get('model', state)), files[0], 'Swin')


def rename(state):
    """Turn the names of the authors' state dict into those of transformers."""
    out = {}
    for name, value in state.items():
        for theirs, ours in SWIN_NAMES:
            name = ours + name.removeprefix(theirs) if name.startswith(theirs) else name.replace(theirs, ours)
        if '.attn.qkv.' in name:
            for part, tensor in zip(('q_proj', 'k_proj', 'v_proj'), value.chunk(3), strict=True):
                out[name.replace('.attn.qkv.', f'.attention.{part}.')] = tensor
        else:
            out[name] = value
    return out
