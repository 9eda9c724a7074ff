"""The letters of the house and the array types of its signatures.

| letter | axis |
|---|---|
| B | batch |
| T | query tokens |
| S | context (key and value) tokens |
| H | query heads |
| K | key and value heads; H is a multiple of K |
| D | head size |
| M | model width |
| L | layers or latents |
| P | image patches |
| R | chosen rows or columns of a statistic |

The same letters stand in annotations, einsum strings and tests. Annotations are documentation for
users and are checked (jaxtyping and beartype) in the tests only.
"""

from jax import Array
from jaxtyping import Bool, Float, Int, UInt8

__all__ = ["Array", "Bool", "Float", "Int", "UInt8"]
