"""What all networks have in common; see the package's docstring for what they promise."""

from torch import nn

from mt_perception.errors import MtError

TASKS = ('segmentation', 'depth', 'keypoints', 'global_descriptor')


def check_choices(network, **choices):
    """
    Check what a network's parameters may be.

    :param network: its name, for the message.
    :param choices: parameter → (list of the values given, what they may be).
    :raises MtError: a value that there is not, or none.
    """
    for name, (values, known) in choices.items():
        unknown = [value for value in values if value not in known]
        if unknown or not values:
            raise MtError(
                f"{network}: {name} '{unknown[0] if unknown else ''}' is not one of {', '.join(known)}"
            )


class Network(nn.Module):
    """
    Base of the networks: an ``encoder`` that may start from pre-trained weights, and heads.

    :ivar tasks: which of ``TASKS`` it does.
    :ivar classes: number of segmentation classes, 0 without them.
    :ivar descriptor_dim: D, 0 without keypoints.
    :ivar global_dim: G, 0 without places.
    :ivar queries: number of masks Q of a network that predicts masks, 0 otherwise.
    :ivar library: a library that it needs and that may be missing, or None.
    :ivar fixed_size: whether one instance of the exported graph takes images of one size only.
    """

    tasks = TASKS
    classes = descriptor_dim = global_dim = queries = 0
    library = None
    fixed_size = False
    frozen = 0  # leading parts of the encoder that do not learn

    def freeze_encoder(self, blocks):
        """Stop training the stem and the first ``blocks`` blocks of the encoder; 0 trains everything."""
        self.frozen = blocks + 1 if blocks else 0
        for module in self.encoder.parts()[: self.frozen]:
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode=True):
        """Switch to training; what is frozen keeps its statistics too."""
        super().train(mode)
        if mode and self.frozen:
            for module in self.encoder.parts()[: self.frozen]:
                module.eval()
        return self

    def dense_parameters(self):
        """Parameters trained from scratch (all but the encoder's)."""
        return [p for name, p in self.named_parameters() if not name.startswith('encoder.')]

    def load_pretrained(self, folder, images=()):
        """
        Start the encoder from the weights that fit it in ``folder``; says so where there are none.

        :param images: list of [1,3,H,W] float RGB 0–255, for encoders that are made from larger ones.
        :raises MtError: the encoder is made for weights that are not there, or the file is something else.
        """
        self.encoder.load_pretrained(folder, images)

    def place_descriptor(self, image):
        """Return only the place descriptor [B,G], unit length; no other head is run."""
        return self(image, ('global_descriptor',))['global_descriptor']

    def initialise_places(self, images):
        """
        Start the place head from what the encoder sees on ``images``; without such a start, does nothing.

        :param images: iterable of [1,3,H,W] float RGB 0–255, more of them than half of G.
        """
