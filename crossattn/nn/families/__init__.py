"""Designs that are no list of sublayers over one stream.

two_stream: both streams change, `bidirectional` through one product; prefix: context and text in
one stream; qformer: learned queries that talk to a text; latents: learned queries that read;
interleaved: reading blocks among text blocks; coca: the lower half reads text only; bottleneck:
exchange through a few tokens; ip_adapter: pictures added to a text; cappa: its training masks;
gated: layers that read a second context, put into a stack.
"""
