"""Measures of alignment: arrays in, numbers out, from any model.

`measures` has the registry of measures and the names of metrics, `inputs` the arrays that measures
read, `evidence` computes them. The other modules hold the functions, and register them.
"""

import crossattn.align.answers
import crossattn.align.causal
import crossattn.align.retrieval  # noqa: F401
from crossattn.align.alignment_heads import (
    HeadScores,
    find_alignment_heads,
    head_knockouts,
    knockout_scores,
)
from crossattn.align.attention import mass_in_region, normalized_entropy, pointing, pointing_chance
from crossattn.align.boxes import box_accuracy, box_iou, box_of_map
from crossattn.align.caption_metrics import (
    bleu,
    cider_d,
    corpus_bleu,
    plain_words,
    rouge_l,
    scene_graph_f1,
)
from crossattn.align.captions import (
    commonest_word_accuracy,
    exact_match,
    perplexity,
    slot_accuracy,
    word_frequency_perplexity,
)
from crossattn.align.contrastive import (
    contrastive_loss,
    equal_captions,
    hard_negatives,
    matching_loss,
    retrieval_accuracy,
)
from crossattn.align.effects import (
    hiding_effects,
    parts_of_grid,
    rank_agreement,
    sum_over_parts,
)
from crossattn.align.explanation import (
    Relevancy,
    attention_grad_cam,
    gradient_weighted_attention,
    rollout,
)
from crossattn.align.features import (
    feature_alignment,
    modality_gap,
    recall_at,
    recall_chance,
    recall_chance_of,
    recall_of,
    retrieval_ranks,
    uniformity,
)
from crossattn.align.losses import (
    attention_supervision,
    entropy_loss,
    head_overlap,
    map_distillation,
)
from crossattn.align.modality_use import (
    input_ablation,
    perceptual_score,
    shapley_values,
    text_share,
)
from crossattn.align.overlap import attention_iou, attention_iou_chance, best_iou
from crossattn.align.pairs import swap_scores
from crossattn.align.pauses import find_pauses, words_at_pauses
from crossattn.align.protocols import (
    contrast_accuracy,
    group_consistency,
    vqa_accuracy,
    vqa_accuracy_of_one_answer,
)
from crossattn.align.region_swap import exchange_regions, region_swap_effect
from crossattn.align.removal import (
    curve_area,
    deletion_curve,
    insertion_curve,
    knockout_effect,
    knockouts,
    removal_steps,
)
from crossattn.align.representation import (
    cka,
    cknna,
    common_neighbour_sequence,
    cycle_neighbours,
    mutual_neighbours,
    procrustes,
)
from crossattn.align.saliency import (
    average_precision,
    kl_from_region,
    nss,
    pearson_cc,
    roc_auc,
    saliency_chance,
    similarity,
)
from crossattn.align.tokens_in_time import (
    TimedWord,
    group_tokens,
    spoken_starts,
    spoken_tokens,
    timed_words,
)
from crossattn.align.verdict import judge_use
from crossattn.align.word_alignment import (
    alignment_error_chance,
    alignment_error_rate,
    links_from_coverage,
    soft_alignment_error_rate,
    strongest_links,
)
from crossattn.align.word_times import alignment_matrix, token_starts, warping_path

__all__ = [
    "HeadScores",
    "Relevancy",
    "TimedWord",
    "alignment_error_chance",
    "alignment_error_rate",
    "alignment_matrix",
    "attention_grad_cam",
    "attention_iou",
    "attention_iou_chance",
    "attention_supervision",
    "average_precision",
    "best_iou",
    "bleu",
    "box_accuracy",
    "box_iou",
    "box_of_map",
    "cider_d",
    "cka",
    "cknna",
    "common_neighbour_sequence",
    "commonest_word_accuracy",
    "contrast_accuracy",
    "contrastive_loss",
    "corpus_bleu",
    "curve_area",
    "cycle_neighbours",
    "deletion_curve",
    "entropy_loss",
    "equal_captions",
    "exact_match",
    "exchange_regions",
    "feature_alignment",
    "find_alignment_heads",
    "find_pauses",
    "gradient_weighted_attention",
    "group_consistency",
    "group_tokens",
    "hard_negatives",
    "head_knockouts",
    "head_overlap",
    "hiding_effects",
    "input_ablation",
    "insertion_curve",
    "judge_use",
    "kl_from_region",
    "knockout_effect",
    "knockout_scores",
    "knockouts",
    "links_from_coverage",
    "map_distillation",
    "mass_in_region",
    "matching_loss",
    "modality_gap",
    "mutual_neighbours",
    "normalized_entropy",
    "nss",
    "parts_of_grid",
    "pearson_cc",
    "perceptual_score",
    "perplexity",
    "plain_words",
    "pointing",
    "pointing_chance",
    "procrustes",
    "rank_agreement",
    "recall_at",
    "recall_chance",
    "recall_chance_of",
    "recall_of",
    "region_swap_effect",
    "removal_steps",
    "retrieval_accuracy",
    "retrieval_ranks",
    "roc_auc",
    "rollout",
    "rouge_l",
    "saliency_chance",
    "scene_graph_f1",
    "shapley_values",
    "similarity",
    "slot_accuracy",
    "soft_alignment_error_rate",
    "spoken_starts",
    "spoken_tokens",
    "strongest_links",
    "sum_over_parts",
    "swap_scores",
    "text_share",
    "timed_words",
    "token_starts",
    "uniformity",
    "vqa_accuracy",
    "vqa_accuracy_of_one_answer",
    "warping_path",
    "word_frequency_perplexity",
    "words_at_pauses",
]
