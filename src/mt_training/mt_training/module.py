"""The Lightning module: which heads learn what from which batch."""

import lightning
import numpy as np
import torch
import torch.nn.functional as F

from mt_training.losses.depth import log_l1
from mt_training.losses.keypoints import cell_cross_entropy, dual_softmax, sample_descriptors
from mt_training.losses.places import info_nce
from mt_training.losses.segmentation import cross_entropy
from mt_training.models.mtnet import MtNet


class MultiTaskModule(lightning.LightningModule):
    """
    Multi-task training: every batch comes from one set and trains the tasks that set has labels for.

    :param model: keyword arguments of :class:`MtNet`.
    :param optimizer: ``lr`` of the heads, ``encoder_lr``, ``weight_decay``, ``warmup`` (steps).
    :param loss_weights: weight per loss.
    :param max_steps: length of the cosine schedule.
    :param class_weights: per segmentation class, or None.
    :param neighbours: dict set → ids this close are never negatives.
    :param freeze: the stem and this many encoder blocks keep their weights.
    :param freeze_norm: batch norm keeps its statistics. A batch is of one set, whose statistics are not those
        of all sets together, with which the network runs in the end: the last part of a training needs this.
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
        freeze_norm=False,
    ):
        """Make the network; weights are loaded by the caller."""
        super().__init__()
        self.save_hyperparameters()
        self.net = MtNet(**model)
        self.net.freeze_encoder(freeze)
        self.freeze_norm = freeze_norm
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
            {'params': self.net.dense_parameters(), 'lr': config['lr']},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=config['weight_decay'])

        def rate(step):
            if step < config['warmup']:
                return (step + 1) / config['warmup']
            done = (step - config['warmup']) / max(1, self.max_steps - config['warmup'])
            return 0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, done)))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def on_train_epoch_start(self):
        """Keep the statistics of batch norm where the experiment says so."""
        if self.freeze_norm:
            for layer in self.net.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()

    def losses(self, batch):
        """
        Return the losses of one batch.

        :param batch: see :mod:`mt_training.data.pairs`, stacked to [B,…], with ``set`` (its name).
        :return: dict of scalars, and a dict of figures worth logging.
        """
        name = batch['set']
        size = batch['images'].shape[0]
        images = batch['images'].transpose(0, 1).flatten(0, 1).float()
        images = images.contiguous(memory_format=torch.channels_last)
        losses, figures = {}, {}
        if 'cells' not in batch:
            place = self.net.place_descriptor(images)
            loss, recall = info_nce(place[:size], place[size:], batch['place'], self.neighbours.get(name, 0))
            return {'place': loss}, {'recall': recall}
        tasks = ['keypoints', 'global_descriptor']
        labels = batch['labels'].transpose(0, 1).flatten(0, 1)
        depth = batch['depth'].transpose(0, 1).flatten(0, 1)
        if bool((labels != 255).any()):
            tasks.append('segmentation')
        if bool(torch.isfinite(depth).any()):
            tasks.append('depth')
        out = self.net(images, tasks)
        if 'segmentation' in tasks:
            losses['segmentation'] = cross_entropy(out['segmentation'], labels, self.class_weights)
        if 'depth' in tasks:
            losses['depth'] = log_l1(out['log_depth'], depth)
        losses['keypoints'] = cell_cross_entropy(
            out['keypoints'], batch['cells'].transpose(0, 1).flatten(0, 1)
        )
        first = sample_descriptors(out['descriptors'][:size], batch['points'][:, 0])
        second = sample_descriptors(out['descriptors'][size:], batch['points'][:, 1])
        losses['descriptors'], figures['match'] = dual_softmax(first, second, batch['points_valid'])
        place = out['global_descriptor']
        losses['place'], figures['recall'] = info_nce(
            place[:size], place[size:], batch['place'], self.neighbours.get(name, 0)
        )
        return losses, figures

    def training_step(self, batch, _):
        """Weigh, add, log."""
        losses, figures = self.losses(batch)
        total = sum(self.loss_weights[key] * value for key, value in losses.items())
        for key, value in {**losses, **figures}.items():
            self.log(f'{batch["set"]}/{key}', value.detach(), batch_size=1)
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
