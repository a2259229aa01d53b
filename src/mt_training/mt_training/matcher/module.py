"""Training of the matcher."""

import lightning
import numpy as np
import torch

from mt_training.matcher.model import MatcherNet


def assignment_loss(scores, match0, match1):
    """
    Negative log likelihood of the true matches and of the points without one (LightGlue, eq. 11).

    :param scores: (log P [B,N,M], log unmatched [B,N], log unmatched [B,M]).
    :param match0: [B,N] int64, index, -1 = no partner, -2 = unknown.
    :param match1: the same for the second view.
    :return: scalar.
    """
    log_p, none0, none1 = scores
    matched = match0 >= 0
    chosen = torch.gather(log_p, 2, match0.clamp(min=0)[..., None])[..., 0]
    loss = -(chosen * matched).sum() / matched.sum().clamp(min=1)
    for none, match in ((none0, match0), (none1, match1)):
        alone = match == -1
        loss = loss - 0.5 * (none * alone).sum() / alone.sum().clamp(min=1)
    return loss


def precision_recall(log_p, match0, threshold=0.1):
    """Return (precision, recall) of mutual matches above ``threshold`` against the true ones."""
    best, index = log_p.max(dim=2)
    back = log_p.max(dim=1).indices
    mutual = torch.gather(back, 1, index) == torch.arange(log_p.shape[1], device=log_p.device)[None]
    found = mutual & (best.exp() > threshold)
    right = (index == match0) & found
    known = match0 != -2
    return (
        right.sum() / (found & known).sum().clamp(min=1),
        right.sum() / (match0 >= 0).sum().clamp(min=1),
    )


class MatcherModule(lightning.LightningModule):
    """
    LightGlue on keypoints from a bank, supervised after every layer.

    :param model: keyword arguments of :class:`MatcherNet`.
    :param optimizer: ``lr``, ``weight_decay``, ``warmup`` (steps).
    :param max_steps: length of the cosine schedule.
    """

    def __init__(self, model, optimizer, max_steps):
        """Make the network."""
        super().__init__()
        self.save_hyperparameters()
        self.net = MatcherNet(**model)
        self.optimizer_config, self.max_steps = optimizer, max_steps

    def configure_optimizers(self):
        """AdamW with warm-up and a cosine to 2 %."""
        config = self.optimizer_config
        optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=config['lr'], weight_decay=config['weight_decay']
        )

        def rate(step):
            warm = min(1.0, (step + 1) / config['warmup'])
            return warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * min(1.0, step / self.max_steps))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {'optimizer': optimizer, 'lr_scheduler': {'scheduler': scheduler, 'interval': 'step'}}

    def run(self, batch):
        """Return the assignments after every layer of a batch of :class:`BankPairs`."""
        xy, descriptors, valid, size = (batch[k] for k in ('xy', 'descriptors', 'valid', 'size'))
        return self.net(
            xy[:, 0], descriptors[:, 0], valid[:, 0], size, xy[:, 1], descriptors[:, 1], valid[:, 1], size
        )

    def training_step(self, batch, _):
        """Mean loss over the layers, later layers counting more."""
        match0, match1 = batch['match'][:, 0], batch['match'][:, 1]
        every = self.run(batch)
        weights = np.arange(1, len(every) + 1, dtype=float)
        weights /= weights.sum()
        loss = sum(
            w * assignment_loss(scores, match0, match1) for w, scores in zip(weights, every, strict=True)
        )
        precision, recall = precision_recall(every[-1][0].detach(), match0)
        self.log_dict({'precision': precision, 'recall': recall}, prog_bar=True, batch_size=1)
        self.log('loss', loss.detach(), prog_bar=True, batch_size=1)
        return loss

    def validation_step(self, batch, _):
        """Precision and recall on pairs that were not trained on."""
        precision, recall = precision_recall(self.run(batch)[-1][0], batch['match'][:, 0])
        self.log_dict({'val/precision': precision, 'val/recall': recall}, prog_bar=True, batch_size=1)
