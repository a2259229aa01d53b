"""The Lightning module: which heads learn what from which part of a batch."""

import lightning
import torch
import torch.nn.functional as F

from mt_perception.errors import MtError
from mt_training.distributed import add_up, average, gather, globalise, share, world_size
from mt_training.freezing import freeze as freeze_parts
from mt_training.freezing import hold_statistics, left_out
from mt_training.losses import LossTable
from mt_training.losses.depth import at_stride
from mt_training.losses.keypoints import sample_descriptors
from mt_training.losses.kp2d import kp2d_losses
from mt_training.losses.weighting import build_weighting, surgery
from mt_training.models import build_network
from mt_training.models.posenet import PoseNet
from mt_training.schedules import build_optimizer

# loss → the task whose output it needs
NEEDS = {
    'segmentation': 'segmentation',
    'masks': 'segmentation',
    'depth': 'depth',
    'photometric': 'depth',
    'keypoints': 'keypoints',
    'keypoint_score': 'keypoints',
    'keypoint_location': 'keypoints',
    'keypoint_triplet': 'keypoints',
    'descriptors': 'keypoints',
    'place': 'global_descriptor',
}
KP2D = ('keypoint_score', 'keypoint_location', 'keypoint_triplet')
AUXILIARY_WEIGHT = 0.4  # of auxiliary segmentation heads, where loss_weights.auxiliary does not say


class MultiTaskModule(lightning.LightningModule):
    """
    Multi-task training: every batch mixes the sets, and each trains the tasks it has labels for.

    What the network does not do is left out.

    The dense sets of a batch go through the network together, so that the statistics of batch norm are
    those of all sets, with which the network runs in the end.

    :param architecture: see :func:`mt_training.models.build_network`.
    :param model: the experiment's section of that name.
    :param optimizer: see :func:`mt_training.schedules.build_optimizer`.
    :param loss_weights: weight per loss; a task without one is neither computed nor trained.
    :param max_steps: length of the learning rate's schedule, in optimizer steps.
    :param class_weights: per segmentation class, or None.
    :param neighbours: dict set → ids this close are never negatives.
    :param freeze: the stem and this many encoder blocks keep their weights.
    :param losses: see :class:`mt_training.losses.LossTable`.
    :param weighting: see :func:`mt_training.losses.weighting.build_weighting`.
    :param freeze_backbone: the whole encoder keeps its weights.
    :param train_heads: tasks; all but their heads keep their weights. Empty: all train.
    :param only: names of the parts of the network that are trained; all others keep their weights and their
        statistics of batch norm. Empty: everything is trained.
    :param gather_losses: with several processes, compute the losses over the batch of all of them.
    :param seed: of the order in which gradients meet.
    :param kp2d: parameters of :func:`mt_training.losses.kp2d.kp2d_losses`.
    """

    def __init__(
        self,
        architecture,
        model,
        optimizer,
        loss_weights,
        max_steps,
        class_weights=None,
        neighbours=None,
        freeze=0,
        losses=None,
        weighting=None,
        freeze_backbone=False,
        train_heads=(),
        only=(),
        gather_losses=True,
        seed=0,
        kp2d=None,
    ):
        """Make the network; weights are loaded by the caller."""
        super().__init__()
        self.save_hyperparameters()
        self.net = build_network(architecture, **model)
        self.net.freeze_encoder(freeze)
        freeze_parts(self.net, freeze_backbone, train_heads, only)
        self.only = tuple(only)
        self.optimizer_config, self.loss_weights, self.max_steps = optimizer, loss_weights, max_steps
        self.neighbours, self.kp2d = neighbours or {}, kp2d or {}
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer('class_weights', weights, persistent=False)
        self.table, self.seed = LossTable(losses), seed
        self.gather_losses = gather_losses and world_size() > 1
        self.pose = PoseNet() if self.table.option('photometric', 'pose') == 'network' else None
        self.teachers, self.to_operate = None, None
        self.set_weighting(weighting, loss_weights)
        if self.gather_losses:
            self.net, self.rows = globalise(self.net)

    def set_weighting(self, section, loss_weights):
        """Choose how the losses are added up."""
        counted = {k: v for k, v in loss_weights.items() if k != 'auxiliary'}
        self.weighting = build_weighting(section, counted)

    def set_teachers(self, teachers):
        """Distil from ``teachers`` (:class:`mt_training.losses.teachers.Teachers`) too."""
        self.teachers = teachers
        self.set_weighting(self.hparams.weighting, {**self.loss_weights, **teachers.weights()})

    @property
    def tasks(self):
        """Tasks that anything trains, in the order of the network's."""
        wanted = {NEEDS.get(key) for key, weight in self.loss_weights.items() if weight and self.has(key)}
        if self.teachers is not None:
            wanted |= set(self.teachers.tasks())
        return tuple(task for task in self.net.tasks if task in wanted)

    def has(self, loss):
        """Tell whether the network has what a loss is about, where that is more than a task."""
        return loss != 'masks' or bool(self.net.queries)

    def wants(self, loss):
        """Tell whether a loss counts in this experiment."""
        there = (loss in KP2D or self.table.has(loss)) and self.has(loss)
        return there and bool(self.loss_weights.get(loss)) and NEEDS[loss] in self.tasks

    def on_train_epoch_start(self):
        """Let what is frozen keep its statistics of batch norm."""
        hold_statistics(self.net)
        for part in left_out(self.net, self.only):
            part.eval()

    def configure_optimizers(self):
        """The encoder and the rest at their own rates; see :mod:`mt_training.schedules`."""
        encoder = [p for p in self.net.encoder.parameters() if p.requires_grad]
        rest = [p for p in self.net.dense_parameters() if p.requires_grad]
        if self.pose is not None:
            rest += list(self.pose.parameters())
        return build_optimizer(
            self.optimizer_config, self.max_steps, encoder, rest, list(self.weighting.parameters())
        )

    def losses(self, batch):
        """
        Return the losses of one batch.

        :param batch: see :class:`mt_training.data.sets.Batches`.
        :return: dict of scalars by task, and a dict of figures worth logging.
        """
        losses, figures = {}, {}
        places = []
        if 'dense' in batch:
            losses = self.dense_losses(batch['dense'], figures)
            places += [losses.pop('place')] if 'place' in losses else []
        for name, part in batch['places'].items():
            if not self.wants('place'):
                break
            size = part['pairs'] if self.gather_losses else part['images'].shape[0]
            self.see(size)
            found = self.everyone(self.net.place_descriptor(self.views(part['images'])).float(), size, 2)
            loss, recall = self.table(
                'place', found[:size], found[size:], self.everyone(part['place'], size),
                neighbours=self.neighbours.get(name, 0), figures=figures,
            )  # fmt: skip
            figures[f'{name}/place'], figures[f'{name}/recall'] = loss, recall
            places.append(loss)
        if places:
            losses['place'] = sum(places) / len(places)
        return losses, figures

    @staticmethod
    def views(images):
        """Turn pairs [B,2,3,h,w] uint8 into views [2B,3,h,w] float, the first of all pairs first."""
        return images.transpose(0, 1).flatten(0, 1).float().contiguous(memory_format=torch.channels_last)

    def see(self, size):
        """Say that the network is about to see a batch of ``size`` pairs, of all processes together."""
        if self.gather_losses:
            self.rows.set(size)

    def everyone(self, rows, size, views=1):
        """Bring rows of all processes together: [views·B,…] → [views·size,…]; a list or None likewise."""
        if not self.gather_losses or rows is None:
            return rows
        if isinstance(rows, list):
            return [self.everyone(r, size, views) for r in rows]
        return gather(rows, size, views)

    def dense_losses(self, batch, figures):
        """Return the losses, by task, of the pairs of the dense sets; add to ``figures``."""
        sets = batch['sets']
        if not self.gather_losses and world_size() > 1:
            sets = sets[slice(*share(len(sets)))]
        size = len(sets)
        self.see(size)
        images = self.views(batch['images'])
        out = self.net(images, self.tasks)
        out = {
            k: self.everyone([x.float() for x in v] if isinstance(v, (list, tuple)) else v.float(), size, 2)
            for k, v in out.items()
        }
        labels, depth, cells = (
            self.everyone(batch[key], size).transpose(0, 1).flatten(0, 1)
            for key in ('labels', 'depth', 'cells')
        )
        losses = {}
        if self.wants('segmentation'):
            losses['segmentation'] = self.segmentation_loss(out, labels, figures)
        if self.wants('masks'):
            segments = (
                self.everyone(batch.get('segments', batch['labels']), size).transpose(0, 1).flatten(0, 1)
            )
            queries = out['query_classes'], out['query_masks']
            losses['masks'], parts = self.table('masks', *queries, segments.int(), figures=figures)
            figures.update({f'masks/{part}': value for part, value in parts.items()})
        if self.wants('keypoints') and 'keypoints' in out:
            losses['keypoints'], _ = self.table('keypoints', out['keypoints'], cells, figures=figures)
        if self.wants('descriptors'):
            stride = images.shape[-1] // out['descriptors'].shape[-1]
            points, valid = (self.everyone(batch[key], size) for key in ('points', 'points_valid'))
            first = sample_descriptors(out['descriptors'][:size], points[:, 0], stride)
            second = sample_descriptors(out['descriptors'][size:], points[:, 1], stride)
            losses['descriptors'], match = self.table('descriptors', first, second, valid, figures=figures)
            if match is not None:
                figures['match'] = match
        if 'keypoint_scores' in out and any(self.wants(loss) for loss in KP2D):
            keys = ('homography', 'points', 'points_valid')
            pairs = {key: self.everyone(batch[key], size) for key in keys}
            found, more = kp2d_losses(out, pairs, labels.shape[:0:-1], **self.kp2d)
            losses.update({key: value for key, value in found.items() if self.wants(key)})
            figures.update(more)
        if self.wants('depth'):
            losses['depth'] = self.depth_loss(out['log_depth'], depth, sets, figures)
        if self.wants('photometric'):
            if 'intrinsics' not in batch:
                raise MtError('the photometric loss needs sets that say where their cameras are')
            cameras = ('intrinsics', 'depth_scale', 'relative_pose')
            losses['photometric'], _ = self.table(
                'photometric',
                out['log_depth'],
                self.everyone(images, size, 2),
                *(self.everyone(batch[key], size) for key in cameras),
                estimate=self.pose,
                figures=figures,
            )
        if self.teachers is not None:
            taught = [
                {k: self.everyone(v, size, 2) for k, v in words.items()}
                for words in self.teachers.teach(images)
            ]
            losses.update(self.teachers.losses(out, taught, tuple(images.shape[-2:])))
        if self.wants('place'):
            losses['place'], figures['recall'] = self.place_loss(
                out['global_descriptor'], self.everyone(batch['place'], size), sets, figures
            )
        return losses

    def place_loss(self, place, ids, sets, figures):
        """Tell the places of all sets apart: [2B,G] with ids [B]; return (loss, recall@1 in the batch)."""
        # ids of different sets are far apart
        names, size = list(dict.fromkeys(sets)), len(sets)
        number = torch.tensor([names.index(name) for name in sets], device=place.device)
        near = torch.tensor([self.neighbours.get(name, 0) for name in sets], device=place.device)
        ids = ids + number * 1_000_000
        return self.table('place', place[:size], place[size:], ids, neighbours=near[:, None], figures=figures)

    def segmentation_loss(self, out, labels, figures):
        """Loss of the head and, where the network has them, of the auxiliary heads."""
        loss, _ = self.table(
            'segmentation', out['segmentation'], labels, weights=self.class_weights, figures=figures
        )
        weight = self.loss_weights.get('auxiliary', AUXILIARY_WEIGHT)
        for logits in out.get('auxiliary_segmentation', []):
            loss = loss + weight * self.table('segmentation', logits, labels, weights=self.class_weights)[0]
        return loss

    def depth_loss(self, log_depth, depth, sets, figures):
        """Mean of the losses of the sets that know depth: [2B,1,h,w] against [2B,H,W]."""
        depths = {}
        for name in dict.fromkeys(sets):
            rows = [i for i, n in enumerate(sets) if n == name]
            rows += [i + len(sets) for i in rows]
            if bool(torch.isfinite(depth[rows]).any()):
                depths[name], _ = self.table('depth', log_depth[rows], depth[rows])
                figures[f'{name}/depth'] = depths[name]
        return sum(depths.values()) / len(depths) if depths else log_depth.sum() * 0

    def training_step(self, batch, _):
        """Weigh, add, log."""
        losses, figures = self.losses(batch)
        if not losses:
            raise MtError(
                'a step of the schedule has no set from which this network can learn '
                f'({", ".join(self.net.tasks)})'
            )
        weighted = self.weighting.weighted(losses)
        total = sum(weighted.values())
        self.to_operate = (total, list(weighted.values())) if self.weighting.surgery else None
        for key, value in {**losses, **figures, **self.weighting.figures()}.items():
            self.log(key, self.mean(value.detach()), batch_size=1)
        self.log('loss', self.mean(total.detach()), prog_bar=True, batch_size=1)
        return total

    def mean(self, value):
        """Average a figure over the processes; with gathered losses it is the same in all of them."""
        return value if self.gather_losses or world_size() == 1 else average(value.clone().float())

    def backward(self, loss, *args, **kwargs):
        """Go backward; with gradient surgery each task by itself."""
        if self.to_operate is None:
            super().backward(loss, *args, **kwargs)
            return
        total, weighted = self.to_operate
        # loss is total, scaled for accumulation and mixed precision
        scale = torch.autograd.grad(loss, total, retain_graph=True)[0]
        surgery(
            weighted,
            [p for p in self.parameters() if p.requires_grad],
            scale,
            torch.Generator().manual_seed(self.seed + self.global_step),
            average,
        )
        self.to_operate = None

    def on_train_epoch_end(self):
        """Let the weighting take note."""
        self.weighting.end_epoch()

    def validation_step(self, batch, _):
        """Accumulate the confusion matrix and the depth errors."""
        task = batch['set']
        if task not in self.net.tasks:
            return
        images = batch['images'].float().contiguous(memory_format=torch.channels_last)
        out = self.net(images, [task])
        if task == 'segmentation':
            logits = F.interpolate(out['segmentation'], size=batch['labels'].shape[-2:], mode='bilinear')
            prediction, labels = logits.argmax(1), batch['labels'].long()
            known = labels != 255
            count = logits.shape[1]
            self.confusion += torch.bincount(
                labels[known] * count + prediction[known], minlength=count * count
            ).reshape(count, count)
        else:
            target, known = at_stride(batch['depth'], out['log_depth'])
            predicted = out['log_depth'][:, 0].exp()
            self.depth_errors.append(((predicted - target).abs() / target)[known].mean())

    def on_validation_epoch_start(self):
        """Clear the accumulators."""
        count = self.net.classes
        self.confusion = torch.zeros(count, count, dtype=torch.long, device=self.device)
        self.depth_errors = []

    def on_validation_epoch_end(self):
        """Log mean IoU over the classes present and mean absolute relative depth error."""
        add_up(self.confusion)
        if bool(self.confusion.sum()):
            hit = self.confusion.diagonal().double()
            union = self.confusion.sum(0) + self.confusion.sum(1) - hit
            present = self.confusion.sum(1) > 0
            self.log('val/miou', (hit / union.clamp(min=1))[present].mean().float(), prog_bar=True)
        errors = torch.zeros(2, device=self.device)  # sum, images
        if self.depth_errors:
            errors += torch.stack(
                [torch.stack(self.depth_errors).sum(), errors.new_tensor(len(self.depth_errors))]
            )
        add_up(errors)
        if bool(errors[1]):
            self.log('val/abs_rel', errors[0] / errors[1], prog_bar=True)
