"""The Lightning module: which heads learn what from which part of a batch."""

import lightning
import numpy as np
import torch
import torch.nn.functional as F

from mt_perception.errors import MtError
from mt_training.losses.depth import at_stride, log_l1
from mt_training.losses.keypoints import cell_cross_entropy, dual_softmax, sample_descriptors
from mt_training.losses.kp2d import kp2d_losses
from mt_training.losses.places import info_nce
from mt_training.losses.segmentation import cross_entropy
from mt_training.models import build_network

# loss → the task whose output it needs
NEEDS = {
    'segmentation': 'segmentation',
    'depth': 'depth',
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
    :param optimizer: ``lr`` of the heads, ``encoder_lr``, ``weight_decay``, ``warmup`` (steps).
    :param loss_weights: weight per loss; what has none is neither computed nor trained.
    :param max_steps: length of the cosine schedule.
    :param class_weights: per segmentation class, or None.
    :param neighbours: dict set → ids this close are never negatives.
    :param freeze: the stem and this many encoder blocks keep their weights.
    :param only: names of the parts of the network that are trained; all others keep their weights and their
        statistics of batch norm. Empty: everything is trained.
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
        only=(),
        kp2d=None,
    ):
        """Make the network; weights are loaded by the caller."""
        super().__init__()
        self.save_hyperparameters()
        self.net = build_network(architecture, **model)
        self.net.freeze_encoder(freeze)
        self.kept = [part for name, part in self.net.named_children() if only and name not in only]
        for part in self.kept:
            part.requires_grad_(False)
        self.optimizer_config, self.loss_weights, self.max_steps = optimizer, loss_weights, max_steps
        self.neighbours, self.kp2d = neighbours or {}, kp2d or {}
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer('class_weights', weights, persistent=False)

    @property
    def tasks(self):
        """Tasks that anything trains, in the order of the network's."""
        wanted = {NEEDS.get(key) for key, weight in self.loss_weights.items() if weight}
        return tuple(task for task in self.net.tasks if task in wanted)

    def wants(self, loss):
        """Tell whether a loss counts in this experiment."""
        return bool(self.loss_weights.get(loss)) and NEEDS[loss] in self.tasks

    def configure_optimizers(self):
        """AdamW, the encoder at its own rate, linear warm-up and a cosine to 2 %."""
        config = self.optimizer_config
        groups = [
            {
                'params': [p for p in self.net.encoder.parameters() if p.requires_grad],
                'lr': config['encoder_lr'],
            },
            {
                'params': [p for p in self.net.dense_parameters() if p.requires_grad],
                'lr': config['lr'],
            },
        ]
        groups = [group for group in groups if group['params']]
        optimizer = torch.optim.AdamW(groups, weight_decay=config['weight_decay'])

        def rate(step):
            if step < config['warmup']:
                return (step + 1) / config['warmup']
            done = (step - config['warmup']) / max(1, self.max_steps - config['warmup'])
            return 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, done)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def on_train_epoch_start(self):
        """Keep the statistics of batch norm of the parts that are not trained."""
        for part in self.kept:
            part.eval()

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
            size = part['images'].shape[0]
            found = self.net.place_descriptor(self.views(part['images']))
            loss, recall = info_nce(found[:size], found[size:], part['place'], self.neighbours.get(name, 0))
            figures[f'{name}/place'], figures[f'{name}/recall'] = loss, recall
            places.append(loss)
        if places:
            losses['place'] = sum(places) / len(places)
        return losses, figures

    @staticmethod
    def views(images):
        """Turn pairs [B,2,3,h,w] uint8 into views [2B,3,h,w] float, the first of all pairs first."""
        return images.transpose(0, 1).flatten(0, 1).float().contiguous(memory_format=torch.channels_last)

    def dense_losses(self, batch, figures):
        """Return the losses, by task, of the pairs of the dense sets; add to ``figures``."""
        size = len(batch['sets'])
        out = self.net(self.views(batch['images']), self.tasks)
        labels, depth, cells = (
            batch[key].transpose(0, 1).flatten(0, 1) for key in ('labels', 'depth', 'cells')
        )
        losses = {}
        if self.wants('segmentation'):
            losses['segmentation'] = self.segmentation_loss(out, labels)
        if self.wants('keypoints') and 'keypoints' in out:
            losses['keypoints'] = cell_cross_entropy(out['keypoints'], cells)
        if self.wants('descriptors'):
            maps, stride = out['descriptors'], labels.shape[-1] // out['descriptors'].shape[-1]
            first = sample_descriptors(maps[:size], batch['points'][:, 0], stride)
            second = sample_descriptors(maps[size:], batch['points'][:, 1], stride)
            losses['descriptors'], figures['match'] = dual_softmax(first, second, batch['points_valid'])
        if 'keypoint_scores' in out and any(self.wants(loss) for loss in KP2D):
            found, more = kp2d_losses(out, batch, labels.shape[:0:-1], **self.kp2d)
            losses.update({key: value for key, value in found.items() if self.wants(key)})
            figures.update(more)
        if self.wants('depth'):
            losses['depth'] = self.depth_loss(out['log_depth'], depth, batch['sets'], figures)
        if self.wants('place'):
            losses['place'], figures['recall'] = self.place_loss(out['global_descriptor'], batch)
        return losses

    def segmentation_loss(self, out, labels):
        """Loss of the head and, where the network has them, of the auxiliary heads."""
        loss = cross_entropy(out['segmentation'], labels, self.class_weights)
        weight = self.loss_weights.get('auxiliary', AUXILIARY_WEIGHT)
        for logits in out.get('auxiliary_segmentation', []):
            loss = loss + weight * cross_entropy(logits, labels, self.class_weights)
        return loss

    @staticmethod
    def depth_loss(log_depth, depth, sets, figures):
        """Average the sets' losses: a set counts the same however many of its pixels have depth."""
        losses = {}
        for name in dict.fromkeys(sets):
            rows = [i for i, n in enumerate(sets) if n == name]
            rows += [i + len(sets) for i in rows]
            if bool(torch.isfinite(depth[rows]).any()):
                losses[name] = log_l1(log_depth[rows], depth[rows])
                figures[f'{name}/depth'] = losses[name]
        return sum(losses.values()) / len(losses) if losses else log_depth.sum() * 0

    def place_loss(self, place, batch):
        """Tell the places of all sets apart; return (loss, recall@1 within the batch)."""
        sets, names = batch['sets'], list(dict.fromkeys(batch['sets']))
        # ids of different sets are far apart
        number = torch.tensor([names.index(name) for name in sets], device=place.device)
        near = torch.tensor([self.neighbours.get(name, 0) for name in sets], device=place.device)
        size = len(sets)
        return info_nce(place[:size], place[size:], batch['place'] + number * 1_000_000, near[:, None])

    def training_step(self, batch, _):
        """Weigh, add, log."""
        losses, figures = self.losses(batch)
        if not losses:
            raise MtError(
                'a step of the schedule has no set from which this network can learn '
                f'({", ".join(self.net.tasks)})'
            )
        total = sum(self.loss_weights[key] * value for key, value in losses.items())
        for key, value in {**losses, **figures}.items():
            self.log(key, value.detach(), batch_size=1)
        self.log('loss', total.detach(), prog_bar=True, batch_size=1)
        return total

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
        if bool(self.confusion.sum()):
            hit = self.confusion.diagonal().double()
            union = self.confusion.sum(0) + self.confusion.sum(1) - hit
            present = self.confusion.sum(1) > 0
            self.log('val/miou', (hit / union.clamp(min=1))[present].mean().float(), prog_bar=True)
        if self.depth_errors:
            self.log('val/abs_rel', torch.stack(self.depth_errors).mean(), prog_bar=True)
