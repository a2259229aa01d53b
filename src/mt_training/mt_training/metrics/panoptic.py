"""
Panoptic quality (Kirillov et al., "Panoptic Segmentation", CVPR 2019).

A predicted and a true segment of one class match when their IoU is above 0.5; PQ = Σ IoU of the matches /
(TP + FP / 2 + FN / 2) = SQ · RQ, per class, then the mean over the classes that occur. Pixels without label
do not count, nor does a prediction that lies mostly on them or on groups of objects (section 4.4).
"""

import numpy as np

MATCH_IOU = 0.5


class PanopticQuality:
    """
    Adds up images.

    :param classes: number of classes.
    :ivar iou: [C] sum of the matches' IoU. :ivar tp: [C] matches. :ivar fp: [C] predicted segments without
        match. :ivar fn: [C] true ones without match.
    """

    def __init__(self, classes):
        self.iou = np.zeros(classes)
        self.tp, self.fp, self.fn = (np.zeros(classes, np.int64) for _ in range(3))

    def add(self, predicted_ids, predicted, true_ids, true, ignored=frozenset()):
        """
        Add one image.

        :param predicted_ids: [H,W] segment ids, 0 = none. :param predicted: dict id → class id.
        :param true_ids: [H,W], 0 = no label. :param true: dict id → class id, without the ignored.
        :param ignored: true ids that do not count, such as groups of objects.
        """
        pairs, areas = np.unique(
            np.stack([predicted_ids.ravel(), true_ids.ravel()]), axis=1, return_counts=True
        )
        overlap = {(int(p), int(t)): int(n) for (p, t), n in zip(pairs.T, areas, strict=True)}
        size_of_predicted, size_of_true, void = {}, {}, {}
        for (p, t), n in overlap.items():
            size_of_predicted[p] = size_of_predicted.get(p, 0) + n
            size_of_true[t] = size_of_true.get(t, 0) + n
            if t == 0 or t in ignored:
                void[p] = void.get(p, 0) + n
        matched_predicted, matched_true = set(), set()
        for (p, t), n in overlap.items():
            if p not in predicted or t not in true or predicted[p] != true[t]:
                continue
            union = size_of_predicted[p] + size_of_true[t] - n - void.get(p, 0)
            if n / union > MATCH_IOU:
                self.iou[true[t]] += n / union
                self.tp[true[t]] += 1
                matched_predicted.add(p)
                matched_true.add(t)
        for t in set(true) & set(size_of_true) - matched_true:
            self.fn[true[t]] += 1
        for p in set(predicted) & set(size_of_predicted) - matched_predicted:
            if void.get(p, 0) / size_of_predicted[p] <= MATCH_IOU:
                self.fp[predicted[p]] += 1

    def result(self):
        """Return dict ``pq``, ``sq``, ``rq`` (means over the classes that occur) and ``per_class`` [C] PQ."""
        count = self.tp + self.fp / 2 + self.fn / 2
        with np.errstate(invalid='ignore', divide='ignore'):
            per_class = self.iou / count
            sq, rq = np.where(self.tp > 0, self.iou / self.tp, 0), self.tp / count
        present = count > 0
        if not present.any():
            return {'pq': np.nan, 'sq': np.nan, 'rq': np.nan, 'per_class': per_class}
        return {
            'pq': float(per_class[present].mean()), 'sq': float(sq[present].mean()),
            'rq': float(rq[present].mean()), 'per_class': per_class,
        }  # fmt: skip
