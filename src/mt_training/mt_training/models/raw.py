"""The layers of a network alone, as tool chains of microcontrollers take them."""

from torch import nn

from mt_perception.errors import MtError


class RawNet(nn.Module):
    """
    Layers of a network without normalisation and post-processing.

    ``image`` is [1,3,H,W], (RGB − 128) / 128: pixels as int8 (value − 128) at scale 1/128. The outputs are
    ``segmentation`` [1,C,H/4,W/4] logits, ``descriptors`` [1,D,H/4,W/4] to be normalised, ``depth``
    [1,1,H/4,W/4] (a sigmoid of it runs from log 0.3 to log 120 metres), ``keypoint_scores`` [1,1,H/8,W/8]
    before the sigmoid, ``keypoint_offsets`` [1,2,H/8,W/8] (7 tanh of it is x, y in pixels from the centre of
    the cell) and ``global_descriptor`` [1,G] to be normalised; as far as the network has them.
    """

    def __init__(self, net):
        """
        Wrap ``net`` (switched to evaluation mode).

        :raises MtError: the network does not part its layers from what follows them.
        """
        super().__init__()
        if not hasattr(net, 'maps'):
            raise MtError(f'{type(net).__name__} has no raw form; --raw is for kp2dtiny')
        self.net = net
        names = {
            'segmentation': ['segmentation'],
            'depth': ['depth'],
            'global_descriptor': ['global_descriptor'],
        }
        names['keypoints'] = ['keypoint_scores', 'keypoint_offsets', 'descriptors']
        self.names = tuple(name for task in net.tasks for name in names[task])
        self.eval()

    def forward(self, image):
        """Run; return the outputs in the order of ``names``."""
        out = self.net.maps(image, self.net.tasks)
        return tuple(out[name] for name in self.names)
