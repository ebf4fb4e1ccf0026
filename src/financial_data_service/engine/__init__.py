"""The statistics engine: rolling statistics over a ring of prices and a tree of block summaries.

Imports point downwards: ``symbol_manager`` → ``running_stats`` → ``kernels`` → ``layout``;
``summary`` is the reference that the kernels are proven against.
"""
