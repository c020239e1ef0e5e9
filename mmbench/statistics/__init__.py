"""What can be said of a few seeds and a few tiles: intervals, tests, groups that are tied, resolution.

The unit is the tile. Scores are never averaged over tiles: confusion matrices are summed, then scored.
"""

from mmbench.statistics.bootstrap import DEFAULT_DRAWS, Distribution, resample
from mmbench.statistics.estimates import LEVEL, Estimate, estimates
from mmbench.statistics.multiplicity import TieGroups, holm, tie_groups
from mmbench.statistics.permutation import SwapTest, swap_tiles, tile_contributions
from mmbench.statistics.ranks import RankComparison, compare_ranks, nemenyi_distance
from mmbench.statistics.resolution import Needed, needed, resolvable_difference
from mmbench.statistics.scorers import Scorer, class_scorer, column_scorer
from mmbench.statistics.summaries import FEWEST_SEEDS_FOR_SPREAD, Summary, summarise

__all__ = [
    "DEFAULT_DRAWS",
    "FEWEST_SEEDS_FOR_SPREAD",
    "LEVEL",
    "Distribution",
    "Estimate",
    "Needed",
    "RankComparison",
    "Scorer",
    "Summary",
    "SwapTest",
    "TieGroups",
    "class_scorer",
    "column_scorer",
    "compare_ranks",
    "estimates",
    "holm",
    "needed",
    "nemenyi_distance",
    "resample",
    "resolvable_difference",
    "summarise",
    "swap_tiles",
    "tie_groups",
    "tile_contributions",
]
