"""The live page at ``/``: its routes and its static files.

In ``static/``, ``page.js`` connects to the service, ``board.js`` holds the state, ``view.js`` and
``plots.js`` draw it, and ``numbers.js`` formats numbers. The Streamlit page embeds the view too. A
change of what both pages show goes to ``view.js``.
"""
