"""The live page at ``/``: its routes and its static files.

In ``static/``, ``page.js`` follows the service, ``board.js`` is what the page knows, ``view.js``
and ``plots.js`` are what it shows, ``numbers.js`` writes numbers in words. The Streamlit page
embeds the view too. A change of what both pages show goes to ``view.js``.
"""
