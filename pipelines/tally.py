"""What became of the images of a run so far, drawn as a bar on a terminal."""

from collections.abc import Sequence
from types import TracebackType

from tqdm import tqdm


class Tally:
    """Counts images.

    Args:
        images: how many there are to do.
        bytes_an_image: what one takes in the store.
        shown: whether a bar is drawn, where there is a terminal: with images/s, time left and MB/s written.

    Attributes:
        written: images that are complete in the store.
        failures: why the others are not.
    """

    def __init__(self, *, images: int, bytes_an_image: int, shown: bool = True) -> None:
        self.written = 0
        self.failures: list[str] = []
        self._bytes = bytes_an_image
        self._bar = tqdm(total=images, desc="extract", unit="image", disable=None if shown else True)

    def __enter__(self) -> "Tally":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def add(self, *, written: int = 0, failures: Sequence[str] = ()) -> None:
        """Counts images that are done, one way or the other."""
        self.written += written
        self.failures += failures
        rate = self.written * self._bytes / max(self._bar.format_dict["elapsed"], 1e-9)
        self._bar.set_postfix_str(f"{rate / 1e6:,.1f} MB/s written", refresh=False)
        self._bar.update(written + len(failures))
