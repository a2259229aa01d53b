"""
Teachers for distillation: any network that says something about the views a student trains on.

A teacher is a checkpoint written by ``train`` (.ckpt), an exported model (.onnx), or a TorchScript file
(.ts, .pt) that maps [B,3,H,W] RGB in 0–255 to a dict, or to segmentation logits alone.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from mt_perception.errors import MtError
from mt_training.losses.distillation import distillation_losses

TASKS = ('segmentation', 'depth', 'keypoints', 'global_descriptor')
HEADS = {'descriptors': 'keypoints', 'place': 'global_descriptor'}  # loss → task, where the names differ


class NetworkTeacher:
    """
    A PyTorch network of ``models`` (or one with the same outputs).

    :param net: network, switched to evaluation mode and frozen.
    """

    def __init__(self, net):
        self.net = net.eval().requires_grad_(False)
        self.tasks = getattr(net, 'tasks', TASKS)

    def __call__(self, images, tasks):
        """Return the outputs for views [B,3,H,W] in 0–255."""
        self.net.to(images.device)
        with torch.no_grad():
            return self.net(images, [t for t in tasks if t in self.tasks])


class ScriptTeacher:
    """A TorchScript module: images → dict of outputs, or segmentation logits alone."""

    def __init__(self, module):
        self.module = module.eval()

    def __call__(self, images, tasks):
        """Return the outputs."""
        self.module.to(images.device)
        with torch.no_grad():
            out = self.module(images)
        return out if isinstance(out, dict) else {'segmentation': out}


class OnnxTeacher:
    """
    An exported model with the model contract; runs image by image in ONNX Runtime.

    A model of one size gets the views resized to it, and its maps are of that size.

    :param path: ONNX file.
    :raises MtError: it is no ONNX model, or not one under the contract.
    """

    def __init__(self, path):
        import onnxruntime

        # what this machine offers, the fastest first; TensorRT would build an engine per size
        known = ('CUDAExecutionProvider', 'CPUExecutionProvider')
        providers = [p for p in known if p in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(str(path), providers=providers)
        except Exception as error:  # onnxruntime raises a dozen types of its own
            raise MtError(f'the teacher {path} is not an ONNX model: {str(error).splitlines()[0]}') from None
        if [i.name for i in self.session.get_inputs()] != ['image']:
            raise MtError(f"the teacher {path} has not the one input 'image' of the model contract")
        self.names = [o.name for o in self.session.get_outputs()]
        size = self.session.get_inputs()[0].shape[1:3]
        self.size = tuple(size) if all(isinstance(v, int) for v in size) else None  # (height, width)

    def __call__(self, images, tasks):
        """Return ids, depth, points and descriptors, as :func:`distillation_losses` takes them."""
        images = images.detach()
        resized = self.size is not None and tuple(images.shape[-2:]) != self.size
        if resized and 'keypoints' in tasks and 'keypoints' in self.names:
            raise MtError(
                f'the teacher knows keypoints at {self.size[1]}x{self.size[0]} only: train on such views'
            )
        if resized:
            images = F.interpolate(images, size=self.size, mode='bilinear', antialias=True)
        pixels = images.round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
        found = [self.session.run(None, {'image': np.ascontiguousarray(p[None])}) for p in pixels]
        arrays = {
            name: torch.from_numpy(np.concatenate([f[i] for f in found])).to(images.device)
            for i, name in enumerate(self.names)
        }
        out = {}
        if 'segmentation' in arrays and 'segmentation' in tasks:
            out['segmentation_ids'] = arrays['segmentation']
            if 'segmentation_confidence' in arrays:
                out['segmentation_confidence'] = arrays['segmentation_confidence'].float() / 255
        if 'depth' in arrays and 'depth' in tasks:
            depth = arrays['depth'][:, None]
            out['log_depth'] = torch.where(depth > 0, depth, torch.nan).log()
        if 'keypoints' in arrays and 'keypoints' in tasks:
            out.update(
                points=arrays['keypoints'], scores=arrays['scores'], point_descriptors=arrays['descriptors']
            )
        if 'global_descriptor' in arrays and 'global_descriptor' in tasks:
            out['global_descriptor'] = arrays['global_descriptor']
        return out


def load_teacher(path):
    """
    Load a teacher from a local file.

    :param path: .ckpt, .onnx, .ts, .pt or .torchscript.
    :raises MtError: the file is missing or is none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise MtError(f'the teacher {path} does not exist')
    if path.suffix == '.onnx':
        return OnnxTeacher(path)
    if path.suffix == '.ckpt':
        from mt_training.export import load_net

        return NetworkTeacher(load_net(path)[0])
    if path.suffix in ('.ts', '.pt', '.torchscript'):
        try:
            return ScriptTeacher(torch.jit.load(str(path), map_location='cpu'))
        except RuntimeError as error:
            raise MtError(f'the teacher {path} is not TorchScript: {str(error).splitlines()[0]}') from None
    raise MtError(f"the teacher {path} is none of .ckpt, .onnx, .ts, .pt: its ending is '{path.suffix}'")


def check_classes(model, words, count, ignore_index=255):
    """
    Check that a teacher tells the student's classes apart.

    :param model: the teacher's file. :param words: what it says. :param count: the student's classes.
    :raises MtError: it has another number of them, or class ids beyond them.
    """
    logits, ids = words.get('segmentation'), words.get('segmentation_ids')
    found = count
    if logits is not None:
        found = logits.shape[1]
    elif ids is not None:
        found = max(count, int(ids.masked_fill(ids == ignore_index, 0).max()) + 1)
    if found != count:
        raise MtError(f'the teacher {model} tells {found} classes apart, this network {count}')


class Teachers:
    """
    The teachers of an experiment.

    :param sections: list of ``{model: FILE, tasks: {segmentation: 1.0, …}, temperature: 2.0, relative_depth:
        false}``; ``tasks`` maps segmentation, depth, keypoints, descriptors, place to weights.
    :param load: loads a teacher from its file.
    """

    def __init__(self, sections, load=load_teacher):
        self.sections, self.teachers = list(sections), []
        known = {'segmentation', 'depth', 'keypoints', 'descriptors', 'place'}
        for index, section in enumerate(self.sections):
            unknown = set(section) - {'model', 'tasks', 'temperature', 'relative_depth'}
            if unknown or not {'model', 'tasks'} <= set(section):
                raise MtError(
                    f'distillation[{index}] needs model and tasks, and takes temperature and relative_depth'
                    + (f'; it has {sorted(unknown)[0]}' if unknown else '')
                )
            wrong = set(section['tasks']) - known
            if wrong:
                raise MtError(
                    f'distillation[{index}].tasks: unknown {min(wrong)}; known: {", ".join(sorted(known))}'
                )
            self.teachers.append(load(section['model']))

    def __deepcopy__(self, memo):
        """Copies of the student (its running average) share its teachers."""
        return self

    def weights(self):
        """Return a weight per loss ``distill/TASK``: 1, as the sections' weights are within it."""
        out = {}
        for section in self.sections:
            out.update({f'distill/{task}': 1.0 for task in section['tasks']})
        return out

    def tasks(self):
        """Return the tasks that the student must run."""
        return tuple(dict.fromkeys(HEADS.get(t, t) for s in self.sections for t in s['tasks']))

    def teach(self, images):
        """Return what each teacher says about views [B,3,H,W], a list of dicts of tensors [B,…]."""
        return [
            teacher(images, list(dict.fromkeys(HEADS.get(t, t) for t in section['tasks'])))
            for teacher, section in zip(self.teachers, self.sections, strict=True)
        ]

    def losses(self, out, taught, size):
        """
        Return dict ``distill/TASK`` → scalar.

        :param out: the student's outputs, :param taught: the result of :meth:`teach`, for the same views.
        :param size: (height, width) of the views.
        """
        total = {}
        for words, section in zip(taught, self.sections, strict=True):
            if 'segmentation' in out:
                check_classes(section['model'], words, out['segmentation'].shape[1])
            found = distillation_losses(out, words, size, section)
            for task, weight in section['tasks'].items():
                if task not in found:
                    raise MtError(
                        f"distillation: the teacher {section['model']} and this network do not share '{task}'"
                    )
                key = f'distill/{task}'
                total[key] = total.get(key, 0) + weight * found[task]
        return total
