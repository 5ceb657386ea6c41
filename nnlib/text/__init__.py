"""Text: tokens, vocabularies, n-grams, batches of sequences, corpora, word vectors."""

from nnlib.text.batches import BucketSampler, PadCollate, one_hot, pad
from nnlib.text.corpora import (
    Banking77,
    Tatoeba,
    WikiText2,
    parse_pairs,
    parse_queries,
)
from nnlib.text.errors import UnknownWordError
from nnlib.text.ngrams import (
    character_ngrams,
    fnv1a,
    hashed_subwords,
    hashed_word_ngrams,
)
from nnlib.text.subwords import BytePairEncoding, SubwordError
from nnlib.text.tokenize import characters, sentences, words
from nnlib.text.vocabulary import Vocabulary
from nnlib.text.word2vec import Word2Vec
from nnlib.text.word_scores import (
    AnalogyScore,
    SimilarityScore,
    score_analogies,
    score_similarity,
    spearman,
)
from nnlib.text.word_tests import (
    Analogy,
    SimilarPair,
    google_analogies,
    parse_analogies,
    parse_similarities,
    similarity_test,
)
from nnlib.text.word_vectors import WordVectors

__all__ = [
    "spearman",
    "score_similarity",
    "score_analogies",
    "WordVectors",
    "Word2Vec",
    "SimilarityScore",
    "AnalogyScore",
    "Analogy",
    "Banking77",
    "BucketSampler",
    "BytePairEncoding",
    "PadCollate",
    "SimilarPair",
    "SubwordError",
    "Tatoeba",
    "UnknownWordError",
    "Vocabulary",
    "WikiText2",
    "character_ngrams",
    "characters",
    "fnv1a",
    "google_analogies",
    "hashed_subwords",
    "hashed_word_ngrams",
    "one_hot",
    "pad",
    "parse_analogies",
    "parse_pairs",
    "parse_queries",
    "parse_similarities",
    "sentences",
    "similarity_test",
    "words",
]
