"""One of two streams: its sublayers, and the size of its heads."""

from functools import partial

from crossattn.nn.attention import CrossAttention
from crossattn.nn.config import TwoStreamConfig, fields_of
from crossattn.nn.layers.joint_mlp import JointMLP
from crossattn.nn.layers.link import Link
from crossattn.nn.layers.mlp import MLP
from crossattn.nn.layers.norm import Norm
from crossattn.nn.layers.residual import Residual
from crossattn.nn.module import PolicyModule
from crossattn.nn.sublayers import attend_or_zero
from crossattn.ops import AttentionTrace, Mask
from crossattn.shapes import Array, Float

__all__ = ["Stream", "exchange_head_size"]


class Stream(PolicyModule):
    """One of two streams: its sublayers, each joined as the configuration says.

    Attributes:
      width: its own.
      heads: H.
      config: of both streams.
      others: as those of `PolicyModule`.
    """

    width: int
    heads: int
    config: TwoStreamConfig = TwoStreamConfig()

    def setup(self):  # noqa: D102 - Linen calls it
        config, width, heads = self.config, self.width, self.heads
        residual = partial(Residual, **self.policy)
        attention = partial(CrossAttention, width, heads, **self.policy)
        self.self_residual = residual(config=config.self_residual or config.residual)
        self.self_attention = attention(**fields_of(config.self_attention))
        self.cross_residual = residual(config=config.cross_residual or config.residual)
        cross = fields_of(config.cross_attention)
        if config.inner != 1:
            cross["head_size"] = exchange_head_size(config, width, heads)
        self.cross_attention = attention(**cross)
        mlps = range(config.order.count("mlp"))
        self.mlp_residual = [residual(config=config.residual) for _ in mlps]
        self.mlp = [MLP(**fields_of(config.mlp), **self.policy) for _ in mlps]
        norm = config.residual.norm_kind, config.residual.epsilon, self.param_dtype
        if config.joint_mlp is not None:
            joint = lambda: JointMLP(config.joint_mlp, *norm[:2], **self.policy)
            self.self_joint_mlp, self.cross_joint_mlp = joint(), joint()
        if "norm" in config.order:
            self.norm = Norm(*norm)
        if "link" in config.order:
            self.link = Link(config.link, *norm[1:])

    def reads_itself(
        self,
        x: Float[Array, "B T M"],
        mask: Mask,
        positions: Float[Array, "_ T _"] | None = None,
    ) -> tuple[Float[Array, "B T M"], AttentionTrace]:
        """The stream after attention within it, and the trace of that."""
        read = self.self_residual.before(x)
        y, trace = attend_or_zero(
            self.self_attention,
            read,
            read,
            mask=mask,
            x_positions=positions,
            context_positions=positions,
        )
        if self.config.joint_mlp is not None:
            y = self.self_joint_mlp(x, y)
        return self.self_residual(x, y), trace

    def takes(
        self, residual: Residual, x: Float[Array, "B T M"], y: Float[Array, "B T M"]
    ) -> Float[Array, "B T M"]:
        """The stream with what it has read of the other one."""
        if self.config.joint_mlp is not None:
            y = self.cross_joint_mlp(x, y)
        return residual(x, y)

    def feeds(self, x: Float[Array, "B T M"], turn: int = 0) -> Float[Array, "B T M"]:
        """The stream after the feed-forward layer, of which there may be several."""
        join = self.mlp_residual[turn]
        return join(x, self.mlp[turn](join.before(x)))


def exchange_head_size(config: TwoStreamConfig, width: int, heads: int) -> int:
    """D of the exchange, where the design does not give it."""
    if config.cross_attention.head_size is not None:
        return config.cross_attention.head_size
    size = config.inner * width / heads
    if not size.is_integer():
        raise ValueError(
            f"an exchange of width {config.inner} x {width} has no whole heads, {heads} of them: "
            "choose other heads, or give cross_attention a head_size"
        )
    return int(size)
