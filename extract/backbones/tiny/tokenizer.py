"""The embedded default's tokenizer: CLIP's byte-level pairs, merged until each word of the toy captions is one token.

The alphabet is CLIP's own (256 bytes, each also with the end-of-word mark), so any text can be written; the merges are
learnt from `WORDS` by the ordinary rule (the most frequent pair first), once, when the tokenizer is built.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from transformers import CLIPTokenizer

CONTEXT_LENGTH = 77
"""Tokens a prompt, start and end included: CLIP's own length."""

_TEXT = """
a an and the with of from seen photo front back left right above below side aeroplane bird car chair dog red orange
yellow green blue purple pink brown grey white black golden cream silver light dark legs leg ears ear tail fin wings
wing belly beak body nose head neck eyes paws patches collar spots stripes engines seat arms cushion bars barred solid
spread folded windows window roof wheels hatch boot slatted short long tall low high small big large wide narrow round
flat pointed floppy straight bent curved plain striped spotted
"""
WORDS = tuple(_TEXT.split())
"""What the toy captions are made of, and a few more."""

_END = "</w>"


def _alphabet() -> list[str]:
    """The 256 printable stand-ins of the byte-level code, in the order of CLIP's vocabulary."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) for byte in printable] + [chr(256 + n) for n in range(len(others))]


def learn_merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Learns byte pairs until every word is one token; ties go to the pair that sorts first."""
    spelt = [[*word[:-1], word[-1] + _END] for word in dict.fromkeys(words)]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter((left, right) for word in spelt for left, right in pairwise(word))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = [_merged(word, best) for word in spelt]


def _merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    result: list[str] = []
    for token in word:
        if result and (result[-1], token) == pair:
            result[-1] += token
        else:
            result.append(token)
    return result


def build_tokenizer() -> CLIPTokenizer:
    """Returns the tokenizer: the same one every time, since nothing in it is random."""
    merges = learn_merges(WORDS)
    tokens = _alphabet()
    tokens += [token + _END for token in tokens] + [left + right for left, right in merges]
    vocabulary = {
        token: number for number, token in enumerate(dict.fromkeys([*tokens, "<|startoftext|>", "<|endoftext|>"]))
    }
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CONTEXT_LENGTH)
