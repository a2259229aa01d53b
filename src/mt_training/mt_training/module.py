"""The Lightning module: which heads learn what from which part of a batch."""

import lightning
import numpy as np
import torch
import torch.nn.functional as F

from mt_training.losses.depth import log_l1
from mt_training.losses.keypoints import cell_cross_entropy, dual_softmax, sample_descriptors
from mt_training.losses.places import info_nce
from mt_training.losses.segmentation import cross_entropy
from mt_training.models.mtnet import TASKS, MtNet

LOSS_OF = dict(zip(TASKS, ('segmentation', 'depth', 'keypoints', 'place'), strict=True))


class MultiTaskModule(lightning.LightningModule):
    """
    Multi-task training: every batch mixes the sets, and each trains the tasks it has labels for.

    The dense sets of a batch go through the network together, so that the statistics of batch norm are
    those of all sets, with which the network runs in the end.

    :param model: keyword arguments of :class:`MtNet`.
    :param optimizer: ``lr`` of the heads, ``encoder_lr``, ``weight_decay``, ``warmup`` (steps).
    :param loss_weights: weight per loss.
    :param max_steps: length of the cosine schedule.
    :param class_weights: per segmentation class, or None.
    :param neighbours: dict set → ids this close are never negatives.
    :param freeze: the stem and this many encoder blocks keep their weights.
    :param only: names of the parts of the network that are trained; all others keep their weights and their
        statistics of batch norm. Empty: everything is trained.
    """

    def __init__(
        self,
        model,
        optimizer,
        loss_weights,
        max_steps,
        class_weights=None,
        neighbours=None,
        freeze=0,
        only=(),
    ):
        """Make the network; weights are loaded by the caller."""
        super().__init__()
        self.save_hyperparameters()
        self.net = MtNet(**model)
        self.net.freeze_encoder(freeze)
        self.kept = [part for name, part in self.net.named_children() if only and name not in only]
        for part in self.kept:
            part.requires_grad_(False)
        self.tasks = [task for task in TASKS if loss_weights[LOSS_OF[task]] > 0]
        self.optimizer_config, self.loss_weights, self.max_steps = optimizer, loss_weights, max_steps
        self.neighbours = neighbours or {}
        weights = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        self.register_buffer('class_weights', weights, persistent=False)

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
            if 'place' in losses:
                places.append(losses.pop('place'))
        for name, part in batch['places'].items():
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
        """Return the losses by task of the pairs of the dense sets; add to ``figures``."""
        size, sets = len(batch['sets']), batch['sets']
        names = list(dict.fromkeys(sets))
        labels, depth, cells = (
            batch[key].transpose(0, 1).flatten(0, 1) for key in ('labels', 'depth', 'cells')
        )
        out = self.net(self.views(batch['images']), self.tasks)
        losses = {}
        if 'segmentation' in self.tasks:
            losses['segmentation'] = cross_entropy(out['segmentation'], labels, self.class_weights)
        if 'keypoints' in self.tasks:
            losses['keypoints'] = cell_cross_entropy(out['keypoints'], cells)
            first = sample_descriptors(out['descriptors'][:size], batch['points'][:, 0])
            second = sample_descriptors(out['descriptors'][size:], batch['points'][:, 1])
            losses['descriptors'], figures['match'] = dual_softmax(first, second, batch['points_valid'])
        if 'depth' in self.tasks:
            depths = {}
            for name in names:
                rows = [i for i, n in enumerate(sets) if n == name]
                rows += [i + size for i in rows]
                if bool(torch.isfinite(depth[rows]).any()):
                    depths[name] = log_l1(out['log_depth'][rows], depth[rows])
                    figures[f'{name}/depth'] = depths[name]
            losses['depth'] = sum(depths.values()) / len(depths) if depths else out['log_depth'].sum() * 0
        if 'global_descriptor' in self.tasks:
            # ids of different sets are far apart
            number = torch.tensor([names.index(name) for name in sets], device=labels.device)
            near = torch.tensor([self.neighbours.get(name, 0) for name in sets], device=labels.device)
            place = out['global_descriptor']
            losses['place'], figures['recall'] = info_nce(
                place[:size], place[size:], batch['place'] + number * 1_000_000, near[:, None]
            )
        return losses

    def training_step(self, batch, _):
        """Weigh, add, log."""
        losses, figures = self.losses(batch)
        total = sum(self.loss_weights[key] * value for key, value in losses.items())
        for key, value in {**losses, **figures}.items():
            self.log(key, value.detach(), batch_size=1)
        self.log('loss', total.detach(), prog_bar=True, batch_size=1)
        return total

    def validation_step(self, batch, _):
        """Accumulate the confusion matrix and the depth errors."""
        images = batch['images'].float().contiguous(memory_format=torch.channels_last)
        out = self.net(images, ['segmentation', 'depth'])
        if batch['set'] == 'segmentation':
            logits = F.interpolate(out['segmentation'], size=batch['labels'].shape[-2:], mode='bilinear')
            prediction, labels = logits.argmax(1), batch['labels'].long()
            known = labels != 255
            count = logits.shape[1]
            self.confusion += torch.bincount(
                labels[known] * count + prediction[known], minlength=count * count
            ).reshape(count, count)
        else:
            target = batch['depth'][:, 2::4, 2::4]
            known = torch.isfinite(target)
            predicted = out['log_depth'][:, 0].exp()
            self.depth_errors.append(((predicted - target).abs() / target)[known].mean())

    def on_validation_epoch_start(self):
        """Clear the accumulators."""
        count = self.net.segmentation[-1].out_channels
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
