"""Images in, feature maps out: datasets, image decoding, frozen backbones, and the run over them."""
